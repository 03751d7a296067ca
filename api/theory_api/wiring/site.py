"""What every scheduler of a process is made of, and how several share one ledger."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field

from theory_api.adapters.docker.engine import Engine as DockerEngine
from theory_api.adapters.docker.images import Images
from theory_api.adapters.docker.transport import LocalWsAdapter
from theory_api.adapters.files.disk import Disk
from theory_api.adapters.files.home import Home, open_shard
from theory_api.adapters.files.journalled import JournalledScratch
from theory_api.adapters.files.overlay import MINUTE, Rotation
from theory_api.adapters.memory.intakes import MemoryIntakes
from theory_api.adapters.process import ProcessWsAdapter, folder_resolver
from theory_api.adapters.process.transport import EnvironmentSource
from theory_api.adapters.run_v1.uploads import Gate
from theory_api.adapters.sql.postgres.inbox import PostgresInbox
from theory_api.adapters.sql.postgres.membership import PostgresMembership
from theory_api.adapters.sql.postgres.signals import PostgresSignals
from theory_api.adapters.sql.postgres.truth import PostgresTruth
from theory_api.adapters.sql.read import SqlReads
from theory_api.adapters.sql.truth import SqliteTruth
from theory_api.adapters.system.clock import SystemClock
from theory_api.adapters.system.ids import fresh
from theory_api.ports.adapter import Adapter
from theory_api.ports.artifacts import ArtifactStore
from theory_api.ports.intake import Intakes
from theory_api.ports.registry import Snapshots
from theory_api.ports.stream_bus import StreamBus
from theory_api.scheduler.capacity import Capacity
from theory_api.scheduler.context import Context, Notice, Pace
from theory_api.scheduler.engine import Engine
from theory_api.scheduler.hub import Hub
from theory_api.scheduler.ownership import Ownership
from theory_api.scheduler.router import Publisher, Router
from theory_api.scheduler.shards import shard_of, shards
from theory_api.scheduler.verification import Verification
from theory_api.settings import VARIABLES, Settings
from theory_api.wiring import remote
from theory_core import TheoryError

Store = SqliteTruth | PostgresTruth


@dataclass(frozen=True, slots=True, kw_only=True)
class Seams:
    """Where a test comes between an engine and what it stands on, to kill it there.

    Law: nothing but an argument fills them; no setting and no variable does.
    """

    truth: Callable[[Store], Store] = lambda store: store
    """Gets the store, unclaimed; what it answers is used, and closed, in its place."""
    adapter: Callable[[Adapter, Intakes], Adapter] = lambda adapter, _intakes: adapter
    """Gets each adapter and the doors of executions; what it answers has the same name."""
    disk: Disk = field(default_factory=Disk)
    """What artifacts and notes are written through."""
    rotation: Rotation = MINUTE
    """When what was written through it comes from journals into packs and files."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """What every engine of this process is made of."""

    settings: Settings
    home: Home
    truth: SqliteTruth | PostgresTruth
    read: SqlReads
    artifacts: ArtifactStore
    notes: Callable[[str], JournalledScratch]
    """Where the executions of one of several shards leave their notes."""
    snapshots: Snapshots
    secret: Callable[[str], str | None]
    on_notice: Callable[[Notice], None]
    environments: EnvironmentSource | None
    capacity: Capacity
    streams: StreamBus
    admitting: bool
    resident: bool
    seams: Seams
    gate: Gate
    """Where runs elsewhere deliver, of whichever shard they are."""
    clock: SystemClock = field(default_factory=SystemClock)
    owner: str = field(default_factory=lambda: fresh("owner-"))

    def engine(
        self,
        shard: str,
        place: Home,
        scratch: JournalledScratch,
        *,
        hub: Hub | None = None,
        mine: Callable[[str], bool] = lambda _plan: True,
    ) -> Engine:
        """The scheduler of a shard, whose executions leave their notes and marks there."""
        settings, intakes = self.settings, MemoryIntakes(self.artifacts)

        def may_start() -> bool:
            return engine.entitled()

        process = ProcessWsAdapter(
            resolver=folder_resolver(settings.processors),
            intakes=intakes,
            environments=self.environments or settings.cache / "environments",
            wheels=settings.wheels,
            home=place.root,
            secret=self.secret,
            may_start=may_start,
        )
        docker = DockerEngine(settings.docker_host, runtime=settings.docker_runtime)
        local = LocalWsAdapter(
            engine=docker,
            images=_images(docker, settings),
            snapshots=self.snapshots,
            intakes=intakes,
            home=place.root,
            secret=self.secret,
            may_start=may_start,
        )
        elsewhere = remote.adapters(
            settings, self.snapshots.current, intakes, place.root, self.gate, may_start
        )
        made_here: tuple[Adapter, ...] = (process, local, *elsewhere)
        adapters = (self.seams.adapter(made, intakes) for made in made_here)
        context = Context(
            world=self.read,
            artifacts=self.artifacts,
            scratch=scratch,
            keeping=scratch,
            intakes=intakes,
            snapshots=self.snapshots,
            adapters=_selectable(settings, *adapters),
            clock=self.clock,
            platform=settings.platform,
            default_adapter=settings.run_target,
            pace=Pace(parallel=settings.parallel),
            notify=self.on_notice,
            folds=self.truth.folds,
            hub=hub,
            streams=self.streams,
            capacity=self.capacity,
            secret=self.secret,
        )
        walk = Verification(self.read, self.clock, mine=mine) if self.resident else None
        engine = Engine(
            self.truth,
            self.read,
            context,
            shard=shard,
            owner=self.owner,
            admitting=self.admitting,
            verification=walk,
        )
        return engine


async def router(site: Site, url: str, stack: contextlib.AsyncExitStack) -> Router:
    """The scheduler of a ledger that others write to as well; it stops when the stack unwinds."""
    names = shards(site.settings.shards)
    members, inbox = PostgresMembership(url), PostgresInbox(url)
    signals = PostgresSignals(url)
    for port in (members, inbox, signals):
        stack.push_async_callback(port.close)
    await members.establish(names, home=site.home.identity())
    hub = Publisher(site.read, signals)

    def engine(shard: str) -> Engine:
        place = open_shard(site.home, shard)
        return site.engine(
            shard,
            place,
            site.notes(shard),
            hub=hub,
            mine=lambda plan: shard_of(plan, names) == shard,
        )

    ownership = Ownership(
        owner=site.owner,
        shards=names,
        store=site.truth,
        members=members,
        signals=signals,
        clock=site.clock,
        engine=engine,
        resident=site.resident,
    )
    router = Router(
        ownership,
        inbox=inbox,
        signals=signals,
        read=site.read,
        hub=hub,
        clock=site.clock,
        fresh=lambda: fresh("i"),
    )
    stack.push_async_callback(router.stop)
    return router


def _images(docker: DockerEngine, settings: Settings) -> Images:
    return Images(
        docker,
        registry=settings.image_registry,
        platform=settings.platform,
    )


def _selectable(settings: Settings, *adapters: Adapter) -> dict[str, Adapter]:
    """The adapters by name; refuses a default that is none of them."""
    named = {adapter.name: adapter for adapter in adapters}
    if settings.run_target not in named:
        variable = VARIABLES["run_target"][0]
        message = f"{variable} is one of the adapters of this version: {', '.join(named)}"
        raise TheoryError("ERR_INPUTS", message, {"variable": variable})
    return named
