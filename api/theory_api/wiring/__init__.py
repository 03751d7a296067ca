"""The composition root: the only place that knows which adapter stands behind which port."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

import structlog

from theory_api.adapters.files.home import Home, open_home
from theory_api.adapters.files.journalled import open_files, reading
from theory_api.adapters.memory.streams import MemoryStreams
from theory_api.adapters.process.transport import EnvironmentSource
from theory_api.adapters.sql.postgres import migrate
from theory_api.adapters.sql.postgres.read import read_only as postgres_reads
from theory_api.adapters.sql.postgres.truth import PostgresTruth
from theory_api.adapters.sql.read import SqlReads, read_only
from theory_api.adapters.sql.truth import SqliteTruth
from theory_api.adapters.sql.upgrade import require_current, upgrade
from theory_api.delivery.pinned import PinnedSnapshots
from theory_api.delivery.snapshot import load_registry
from theory_api.domain.registry import RegistrySnapshot
from theory_api.observability.logs import configure
from theory_api.ports.artifacts import ArtifactStore
from theory_api.ports.registry import Snapshots
from theory_api.scheduler.capacity import Capacity
from theory_api.scheduler.context import Notice
from theory_api.scheduler.engine import Engine
from theory_api.scheduler.router import Router
from theory_api.scheduler.watching import Watching
from theory_api.services.heads import compare, parse
from theory_api.services.ledger import Ledgers
from theory_api.services.plans import PlanCommands
from theory_api.services.queries import Holds, Queries
from theory_api.services.runs import Runs
from theory_api.services.world import Worlds
from theory_api.settings import VARIABLES, PostgresUrl, Settings
from theory_api.wiring.remote import credentials, gate
from theory_api.wiring.site import Seams, Site, Store, router
from theory_core import TheoryError

log = structlog.get_logger(__name__)

SHARD: Final = "main"
"""The one shard of an embedded home."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reader:
    """What any process can ask of a home, beside a running writer too."""

    settings: Settings
    version: str
    queries: Queries
    ledgers: Ledgers
    worlds: Worlds


@dataclass(frozen=True, slots=True, kw_only=True)
class Services(Reader):
    """Everything a process can do that owns its home."""

    plans: PlanCommands
    runs: Runs
    engine: Engine | Router
    watching: Watching
    snapshots: Snapshots
    key: str
    """The home's bearer key."""

    def unready(self) -> TheoryError | None:
        """Why the scheduler cannot serve, or None while it can."""
        fault = self.engine.fault
        if isinstance(fault, TheoryError):
            return fault
        if fault is not None:
            message = "the scheduler stopped after an internal fault; see its log"
            return TheoryError("ERR_INTERNAL", message, {})
        if self.engine.stopped.is_set():
            return TheoryError("ERR_UNAVAILABLE", "the scheduler is stopping", {})
        return None


def start_logging(settings: Settings, secrets: Iterable[str] = ()) -> None:
    """Configure this process's log, and say how it is set up: once, whoever asks first.

    `secrets` are values that the log must never show.
    """
    if structlog.is_configured():
        return
    configure(level=settings.log_level, version=package_version(), secrets=secrets)
    log.info("config.resolved", **settings.resolved())


def collect_rarely() -> None:
    """Look for cyclic garbage less often than a short script does.

    A scheduler holds its plans for hours and makes few cycles: with the interpreter's defaults a
    third of its time went into looking through what cannot be garbage.
    """
    gc.set_threshold(20_000, 50, 50)


def package_version() -> str:
    """The version of this distribution; `0+source` for a tree that was never installed."""
    try:
        return version("theory-api")
    except PackageNotFoundError:
        return "0+source"


@contextlib.asynccontextmanager
async def open_reader(settings: Settings) -> AsyncIterator[Reader]:
    """Open a home for questions.

    Raises `TheoryError`: `ERR_NOT_FOUND` where there is no state yet, `ERR_CONFLICT` for a
    database of another version, `ERR_UNAVAILABLE`.
    """
    start_logging(settings)
    await _require_current(settings)
    async with _reads(settings) as read:
        yield _reader(settings, read, reading(Home(settings.home)))


@contextlib.asynccontextmanager
async def open_engine(
    settings: Settings,
    *,
    on_notice: Callable[[Notice], None] = lambda _notice: None,
    admitting: bool = True,
    environments: EnvironmentSource | None = None,
    resident: bool = False,
    seams: Seams | None = None,
) -> AsyncIterator[Services]:
    """Own a home: unfinished plans go on, and commands are taken until the block ends.

    `on_notice` hears what happens inside preparations and runs. With `admitting` off nothing new
    starts: open work is settled and commands are judged. `environments` gives processors their
    interpreters; by default they are made below the cache. A `resident` process stays: it takes its
    share of a ledger's shards, and goes over their ledgers, again and again, in the background; one
    that does not takes only shards that no resident can take. `seams` are for tests.

    Raises `TheoryError`: `ERR_CHAIN_REGRESSION`, with nothing written, when the ledgers are behind
    the heads that the settings name; `ERR_NOT_WRITER` while another process owns the home,
    `ERR_CONFLICT` for a ledger of another home or number of shards, `ERR_INPUTS` for a registry or
    a setting that does not fit, `ERR_STORAGE`, `ERR_UNAVAILABLE`.
    """
    snapshot = load_registry(settings.registry)
    secrets = _secrets(settings, snapshot)
    start_logging(settings, (*secrets.values(), *credentials(settings).values()))
    collect_rarely()
    home = open_home(settings.home)
    seams = seams or Seams()
    async with contextlib.AsyncExitStack() as stack:
        truth = seams.truth(await _truth(settings, home))
        stack.push_async_callback(truth.close)
        read = await stack.enter_async_context(_reads(settings))
        if settings.ledger_heads is not None:
            held = await _hold_to_heads(settings.ledger_heads, read)
            log.info("heads.compared", file=str(settings.ledger_heads), plans=held)
        files = await stack.enter_async_context(open_files(home, seams.disk, seams.rotation))
        artifacts = files.artifacts
        streams = MemoryStreams(home.root)
        stack.push_async_callback(streams.close)
        site = Site(
            settings=settings,
            home=home,
            truth=truth,
            read=read,
            artifacts=artifacts,
            notes=files.notes,
            snapshots=PinnedSnapshots(artifacts, snapshot),
            secret=secrets.get,
            on_notice=on_notice,
            environments=environments,
            capacity=Capacity(settings.parallel),
            streams=streams,
            admitting=admitting,
            resident=resident,
            seams=seams,
            gate=gate(settings),
        )
        engine: Engine | Router
        if isinstance(settings.database, PostgresUrl):
            engine = await router(site, settings.database.url, stack)
        else:
            engine = site.engine(SHARD, home, files.scratch)
            stack.push_async_callback(engine.stop)
            stack.push_async_callback(engine.drain)
        files.failed = engine.fail
        await engine.start()
        await artifacts.sweep()
        watching = Watching(read, artifacts, streams, engine.subscribe)
        yield _services(settings, engine, read, artifacts, site.snapshots, home.api_key(), watching)


def _services(
    settings: Settings,
    engine: Engine | Router,
    read: SqlReads,
    artifacts: ArtifactStore,
    snapshots: Snapshots,
    key: str,
    watching: Watching,
) -> Services:
    plans = PlanCommands(
        engine, artifacts, snapshots, ci=settings.ci, default_adapter=settings.run_target
    )
    runs = Runs(
        plans,
        read,
        artifacts,
        snapshots,
        engine.wait,
        ci=settings.ci,
        platform=settings.platform,
    )
    reader = _reader(settings, read, artifacts, holds=engine.blocked)
    return Services(
        settings=settings,
        version=reader.version,
        queries=reader.queries,
        ledgers=reader.ledgers,
        worlds=reader.worlds,
        plans=plans,
        runs=runs,
        engine=engine,
        watching=watching,
        snapshots=snapshots,
        key=key,
    )


async def _truth(settings: Settings, home: Home) -> Store:
    """The store that this process writes to, its tables made or brought up to date."""
    database = settings.database
    if isinstance(database, PostgresUrl):
        await migrate.upgrade(database.url, settings.migrations)
        return PostgresTruth(database.url)
    lock = home.lock(database)
    database.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    await upgrade(database, settings.migrations, lock)
    return SqliteTruth(database, lock)


async def heads_hold(settings: Settings) -> int | None:
    """How many kept heads the ledgers still have: all of them; None where none are configured.

    Raises as a start would: `ERR_CHAIN_REGRESSION`; `ERR_INPUTS` for a file that cannot be read;
    and as `open_reader`.
    """
    if settings.ledger_heads is None:
        return None
    await _require_current(settings)
    async with _reads(settings) as read:
        return await _hold_to_heads(settings.ledger_heads, read)


async def _hold_to_heads(file: Path, read: SqlReads) -> int:
    """Law: whoever keeps heads is not written for by a store that lost what they name."""
    variable = VARIABLES["ledger_heads"][0]
    try:
        kept = parse(await asyncio.to_thread(file.read_bytes))
    except OSError as error:
        message = (
            f"{variable} names {file}, which cannot be read: {error.strerror}; make it with"
            " `theory ledger head --out`, or empty for no heads"
        )
        raise TheoryError("ERR_INPUTS", message, {"variable": variable}) from error
    except TheoryError as error:
        message = f"{variable} names {file}: {error.message}"
        raise TheoryError(error.code, message, {**error.detail, "variable": variable}) from error
    await compare(read, kept)
    return len(kept)


async def _require_current(settings: Settings) -> None:
    if isinstance(settings.database, PostgresUrl):
        await migrate.require_current(settings.database.url)
    else:
        require_current(settings.database)


@contextlib.asynccontextmanager
async def _reads(settings: Settings) -> AsyncIterator[SqlReads]:
    database = settings.database
    if isinstance(database, PostgresUrl):
        read = SqlReads(postgres_reads(database.url))
    else:
        read = SqlReads(read_only(database))
    try:
        yield read
    finally:
        await read.close()


def _reader(
    settings: Settings, read: SqlReads, artifacts: ArtifactStore, *, holds: Holds | None = None
) -> Reader:
    queries = Queries(read, artifacts, holds=holds)
    return Reader(
        settings=settings,
        version=package_version(),
        queries=queries,
        ledgers=Ledgers(read),
        worlds=Worlds(read, queries),
    )


def _secrets(settings: Settings, snapshot: RegistrySnapshot) -> dict[str, str]:
    """Values of the secrets that the registry lists, as far as the environment has them."""
    found = {name: settings.environment.get(name, "") for name in snapshot.secrets}
    return {name: value for name, value in found.items() if value}
