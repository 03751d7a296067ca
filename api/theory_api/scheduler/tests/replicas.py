"""Several schedulers over one ledger in memory, each of which can be frozen or die."""

# ruff: noqa: ANN401 - documents hold anything

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from theory_api.adapters.memory.artifacts import MemoryArtifacts
from theory_api.adapters.memory.inbox import MemoryInbox, MemoryMail
from theory_api.adapters.memory.intakes import MemoryIntakes
from theory_api.adapters.memory.membership import MemoryMembership, MemoryRegister
from theory_api.adapters.memory.read import MemoryReads
from theory_api.adapters.memory.scratch import MemoryScratch
from theory_api.adapters.memory.signals import MemorySignals
from theory_api.adapters.memory.truth import MemoryDatabase, MemoryTruth
from theory_api.domain.tests.shelf import snapshot
from theory_api.ports.inbox import InboxRow, Reply
from theory_api.ports.truth import Append, IdempotencyRow, StoredEvent
from theory_api.scheduler.capacity import Capacity
from theory_api.scheduler.context import Context, Pace
from theory_api.scheduler.engine import Engine
from theory_api.scheduler.ownership import Ownership
from theory_api.scheduler.router import Publisher, Router
from theory_api.scheduler.shards import shard_of, shards
from theory_api.scheduler.tenure import LeasePace
from theory_api.scheduler.tests.bench import Clock, Shelf, settle
from theory_api.scheduler.tests.processors import Behaviour, Processors
from theory_api.services.plans import PlanCommands
from theory_core import TheoryError, canonicalize, verify

Found = TypeVar("Found")


class Machine:
    """A process's hold on the world: frozen, nothing of it moves; dead, nothing of it ever will."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.going = asyncio.Event()
        self.going.set()
        self.answers = asyncio.Event()
        self.answers.set()

    async def turn(self, work: Awaitable[Found]) -> Found:
        """Do what a store is asked, while the machine and its links are there."""
        await self.going.wait()
        found = await work
        await self.answers.wait()
        await self.going.wait()
        return found

    def now(self) -> str:
        return self.clock.now()

    def monotonic(self) -> float:
        return self.clock.monotonic()

    async def sleep(self, seconds: float) -> None:
        await self.clock.sleep(seconds)
        await self.going.wait()


class FarTruth(MemoryTruth):
    """The store as a machine reaches it."""

    def __init__(self, database: MemoryDatabase, machine: Machine) -> None:
        super().__init__(database)
        self._machine = machine

    async def claim(self, shard: str, owner: str) -> int:
        return await self._machine.turn(super().claim(shard, owner))

    async def renew(self, shard: str, epoch: int) -> None:
        await self._machine.turn(super().renew(shard, epoch))

    async def release(self, shard: str, epoch: int) -> None:
        await self._machine.turn(super().release(shard, epoch))

    async def events(self, plan: str, *, after: int = 0, limit: int = 1000) -> list[StoredEvent]:
        return await self._machine.turn(super().events(plan, after=after, limit=limit))

    async def idempotency(self, scope: str, key: str) -> IdempotencyRow | None:
        return await self._machine.turn(super().idempotency(scope, key))

    async def append(
        self,
        batch: Sequence[Append],
        *,
        shard: str,
        epoch: int,
        idempotency: Sequence[IdempotencyRow] = (),
    ) -> None:
        await self._machine.turn(
            super().append(batch, shard=shard, epoch=epoch, idempotency=idempotency)
        )


class FarInbox(MemoryInbox):
    """The inbox as a machine reaches it."""

    def __init__(self, database: MemoryDatabase, mail: MemoryMail, machine: Machine) -> None:
        super().__init__(database, mail)
        self._machine = machine
        self.taking, self.answering = asyncio.Event(), asyncio.Event()
        self.taking.set()
        self.answering.set()

    async def pending(self, shard: str, *, limit: int) -> list[InboxRow]:
        await self.taking.wait()
        return await self._machine.turn(super().pending(shard, limit=limit))

    async def answer(self, ident: str, reply: Reply, *, shard: str, epoch: int) -> None:
        await self.answering.wait()
        await self._machine.turn(super().answer(ident, reply, shard=shard, epoch=epoch))


class FarMembership(MemoryMembership):
    """The register as a machine reaches it."""

    def __init__(
        self, database: MemoryDatabase, register: MemoryRegister, machine: Machine
    ) -> None:
        super().__init__(database, register)
        self._machine = machine

    async def renew(self, member: str) -> None:
        await self._machine.turn(super().renew(member))

    async def members(self) -> frozenset[str]:
        return await self._machine.turn(super().members())


@dataclass
class Ledger:
    """What all replicas share, and what outlives each of them."""

    clock: Clock = field(default_factory=Clock)
    shards: int = 4
    database: MemoryDatabase = field(init=False)
    register: MemoryRegister = field(default_factory=MemoryRegister)
    mail: MemoryMail = field(default_factory=MemoryMail)
    signals: MemorySignals = field(default_factory=MemorySignals)
    artifacts: MemoryArtifacts = field(default_factory=MemoryArtifacts)
    scratch: dict[str, MemoryScratch] = field(default_factory=dict)
    behaviours: dict[str, list[Behaviour]] = field(default_factory=dict)
    replicas: list[Replica] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.database = MemoryDatabase(now=self.clock.monotonic)

    async def replica(self, name: str | None = None, **fields: Any) -> Replica:
        """One more process, started."""
        made = Replica(self, name or f"r{len(self.replicas)}", **fields)
        self.replicas.append(made)
        await self.until(made.start())
        return made

    async def until(self, work: Awaitable[Found], *, skips: int = 3000) -> Found:
        """The answer of `work`, the clock moving whenever nothing else does."""
        task = asyncio.ensure_future(work)
        for _ in range(skips):
            await settle()
            if task.done():
                return task.result()
            self.clock.skip()
        task.cancel()
        message = "nothing moves any more"
        raise AssertionError(message)

    async def passes(self, seconds: float) -> None:
        """Let time go by."""
        await self.until(self.clock.sleep(seconds))

    def owner(self, plan: str) -> Replica:
        """Who owns a plan's shard now, by the store's word."""
        names = shards(self.shards)
        owner = self.database.shards[shard_of(plan, names)].owner
        return next(one for one in self.replicas if one.name == owner)

    def kinds(self, plan: str) -> list[str]:
        tables = self.database.plans.get(plan)
        return [] if tables is None else [event.kind for event in tables.events]

    async def close(self) -> None:
        """End every process, check every ledger."""
        for one in self.replicas:
            one.machine.going.set()
            one.machine.answers.set()
            one.inbox.taking.set()
            one.inbox.answering.set()
        await self.until(asyncio.gather(*(one.router.stop() for one in self.replicas)))
        for tables in self.database.plans.values():
            lines = b"".join(
                b'{"event":%b,"hash":%b}\n' % (event.body, canonicalize(event.hash))
                for event in tables.events
            )
            assert verify(lines).fault is None


class Replica:
    """One process: a router over every shard, of which it owns some."""

    def __init__(
        self,
        ledger: Ledger,
        name: str,
        *,
        resident: bool = True,
        parallel: int = 256,
        pace: LeasePace | None = None,
    ) -> None:
        self.ledger = ledger
        self.name = name
        self.machine = Machine(ledger.clock)
        self.truth = FarTruth(ledger.database, self.machine)
        self.reads = MemoryReads(ledger.database)
        self.registry = Shelf(snapshot())
        self.hub = Publisher(self.reads, ledger.signals)
        self.processors: dict[str, Processors] = {}
        self.capacity = Capacity(parallel)
        self.drawn = 0
        self.inbox = FarInbox(ledger.database, ledger.mail, self.machine)
        self.members = FarMembership(ledger.database, ledger.register, self.machine)
        self.ownership = Ownership(
            owner=name,
            shards=shards(ledger.shards),
            store=self.truth,
            members=self.members,
            signals=ledger.signals,
            clock=self.machine,
            engine=self.engine,
            resident=resident,
            pace=pace,
        )
        self.router = Router(
            self.ownership,
            inbox=self.inbox,
            signals=ledger.signals,
            read=self.reads,
            hub=self.hub,
            clock=self.machine,
            fresh=self.draw,
        )
        self.plans = PlanCommands(self.router, ledger.artifacts, self.registry, ci=False)

    def draw(self) -> str:
        self.drawn += 1
        return f"{self.name}-{self.drawn}"

    def engine(self, shard: str) -> Engine:
        intakes = MemoryIntakes(self.ledger.artifacts)
        processors = self.processors[shard] = Processors(intakes)
        processors.behaviours = self.ledger.behaviours
        context = Context(
            world=self.reads,
            artifacts=self.ledger.artifacts,
            scratch=self.ledger.scratch.setdefault(shard, MemoryScratch()),
            intakes=intakes,
            snapshots=self.registry,
            adapters={"process": processors},
            clock=self.machine,
            platform="amd64",
            pace=Pace(),
            hub=self.hub,
            capacity=self.capacity,
        )
        return Engine(self.truth, self.reads, context, shard=shard, owner=self.name)

    async def start(self) -> None:
        await self.members.establish(shards(self.ledger.shards), home="here")
        await self.router.start()

    def freeze(self) -> None:
        """SIGSTOP: nothing of it moves until `thaw`."""
        self.machine.going.clear()

    def thaw(self) -> None:
        """SIGCONT."""
        self.machine.going.set()

    def cut(self) -> None:
        """Packets back from the stores are dropped: what it asks is done, and nobody hears it."""
        self.machine.answers.clear()

    @property
    def runs(self) -> set[str]:
        """Executions that a processor of this process was given."""
        return {name for one in self.processors.values() for name in one.runs}

    async def apply(self, name: str, transitions: dict[str, Any], **fields: Any) -> str:
        """Apply a plan of the tenant acme through this replica; its path."""
        limit = {"usd_micro": 1000, "cpu_ms": 10_000, "latency_ms": 60_000, "io_bytes": 10**6}
        document = {"schema": "theory.plan.v1", "plan": name, "budget": limit} | fields
        applied = await self.plans.apply(
            document | {"transitions": transitions}, tenant="acme", by="me"
        )
        return applied.plan


async def code(work: Awaitable[Any]) -> str:
    """The code of the error that `work` ends with, or nothing."""
    try:
        await work
    except TheoryError as error:
        return error.code
    return ""
