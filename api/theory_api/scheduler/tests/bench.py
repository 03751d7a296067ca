"""A scheduler over memory, with a clock and processors that the test commands."""

# ruff: noqa: ANN401 - documents and frames hold anything

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from types import MappingProxyType
from typing import Any, Self, TypeVar

from theory_api.adapters.memory.artifacts import MemoryArtifacts
from theory_api.adapters.memory.intakes import MemoryIntakes
from theory_api.adapters.memory.read import MemoryReads
from theory_api.adapters.memory.scratch import MemoryScratch
from theory_api.adapters.memory.truth import MemoryDatabase, MemoryTruth
from theory_api.domain.registry import RegistrySnapshot
from theory_api.domain.tests.shelf import snapshot
from theory_api.ports.stream_bus import StreamBus
from theory_api.ports.truth import Append, IdempotencyRow, StoredEvent
from theory_api.scheduler.context import Context, Notice, Pace
from theory_api.scheduler.engine import Engine
from theory_api.scheduler.tests.processors import Processors
from theory_api.services.plans import Applied, Attachment, PlanCommands
from theory_core import loads_strict

Answer = TypeVar("Answer")
SPINS = 60
"""Turns of the loop after which nothing but the clock can move anything on."""


class Clock:
    """Stands still until the test moves it."""

    def __init__(self) -> None:
        self.time = 1000.0
        self.wall = 0
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []

    def now(self) -> str:
        self.wall += 1
        return f"2026-11-21T04:25:{self.wall // 10**6 % 60:02d}.{self.wall % 10**6:06d}Z"

    def monotonic(self) -> float:
        return self.time

    async def sleep(self, seconds: float) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self.time + seconds, id(future), future))
        await future

    def skip(self) -> bool:
        """Move to the next waking; False when nobody sleeps."""
        while self._sleepers:
            due, _, future = heapq.heappop(self._sleepers)
            if not future.done():
                self.time = max(self.time, due)
                future.set_result(None)
                return True
        return False


async def settle() -> None:
    """Let everything run that can run without the clock."""
    for _ in range(SPINS):
        await asyncio.sleep(0)


async def until(clock: Clock, work: Awaitable[Answer], *, skips: int = 2000) -> Answer:
    """The answer of `work`, the clock moving whenever nothing else does."""
    task = asyncio.ensure_future(work)
    for _ in range(skips):
        await settle()
        if task.done():
            return task.result()
        clock.skip()
    task.cancel()
    message = "nothing moves any more"
    raise AssertionError(message)


class Truth(MemoryTruth):
    """A store whose commits can be held up and made to fail."""

    def __init__(self, database: MemoryDatabase | None = None) -> None:
        super().__init__(database)
        self.gate = asyncio.Event()
        self.gate.set()
        self.faults: list[tuple[BaseException | None, bool]] = []
        """What the next commits raise, and whether they were carried out all the same."""
        self.withheld: list[Callable[[], Awaitable[None]]] = []
        """The commits that were not carried out; each may land yet."""
        self.batches: list[list[tuple[str, int]]] = []
        self.flying = 0
        self.permits = 0

    def let(self, commits: int) -> None:
        """Let this many commits through the closed gate."""
        self.permits = commits
        self.gate.set()

    async def events(self, plan: str, *, after: int = 0, limit: int = 1000) -> list[StoredEvent]:
        await asyncio.sleep(0)
        return await super().events(plan, after=after, limit=limit)

    async def append(
        self,
        batch: Sequence[Append],
        *,
        shard: str,
        epoch: int,
        idempotency: Sequence[IdempotencyRow] = (),
    ) -> None:
        self.flying += 1
        assert self.flying == 1, "one commit at a time"
        try:
            await asyncio.sleep(0)
            await self.gate.wait()
            self.permits -= 1
            if not self.permits:
                self.gate.clear()
            fault, done = self.faults.pop(0) if self.faults else (None, True)
            work = partial(super().append, batch, shard=shard, epoch=epoch, idempotency=idempotency)
            if not done:
                self.withheld.append(work)
            else:
                await work()
                self.batches.append([(share.plan, len(share.events)) for share in batch])
            if fault is not None:
                raise fault
        finally:
            self.flying -= 1


class Shelf:
    """One pinned registry."""

    def __init__(self, current: RegistrySnapshot) -> None:
        self._current = current

    @property
    def current(self) -> RegistrySnapshot:
        return self._current

    async def pin(self) -> RegistrySnapshot:
        return self._current

    async def get(self, snapshot_id: str) -> RegistrySnapshot:
        assert snapshot_id == self._current.id
        return self._current


@dataclass
class Disk:
    """What outlives a process."""

    database: MemoryDatabase = field(default_factory=MemoryDatabase)
    artifacts: MemoryArtifacts = field(default_factory=MemoryArtifacts)
    scratch: MemoryScratch = field(default_factory=MemoryScratch)


class House:
    """One process: engine, stores and processors; `crash` leaves the disk alone."""

    def __init__(
        self,
        *,
        disk: Disk | None = None,
        parallel: int = 4,
        registry: RegistrySnapshot | None = None,
        admitting: bool = True,
        streams: StreamBus | None = None,
        folding: bool = False,
        secrets: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self.disk = disk or Disk()
        self.clock = Clock()
        self.truth = Truth(self.disk.database)
        self.reads = MemoryReads(self.disk.database)
        intakes = MemoryIntakes(self.disk.artifacts)
        self.processors = Processors(intakes)
        self.notices: list[Notice] = []
        self.registry = Shelf(registry or snapshot())
        self.context = Context(
            world=self.reads,
            artifacts=self.disk.artifacts,
            scratch=self.disk.scratch,
            intakes=intakes,
            snapshots=self.registry,
            adapters={"process": self.processors},
            clock=self.clock,
            platform="amd64",
            pace=Pace(parallel=parallel),
            notify=self.notices.append,
            folds=self.truth.folds if folding else None,
            streams=streams,
            secret=secrets.get,
        )
        self.engine = Engine(
            self.truth,
            self.reads,
            self.context,
            shard="s",
            owner="me",
            admitting=admitting,
        )
        self.plans = PlanCommands(self.engine, self.disk.artifacts, self.registry, ci=False)

    async def __aenter__(self) -> Self:
        await self.engine.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.truth.gate.set()
        await self.engine.stop()
        assert self.processors.closed

    async def crash(self) -> Disk:
        """End without a word to anybody; the next house finds what was durable."""
        await self.engine.stop()
        self.disk.database.bury("s")
        return self.disk

    async def apply(
        self, transitions: dict[str, Any], *, text: bytes | None = None, **fields: Any
    ) -> str:
        """Apply a plan; its path."""
        applied = await self.applied(transitions, text=text, **fields)
        return applied.plan

    async def applied(
        self, transitions: dict[str, Any], *, text: bytes | None = None, **fields: Any
    ) -> Applied:
        """Apply a plan of the tenant acme."""
        limit = {"usd_micro": 1000, "cpu_ms": 10_000, "latency_ms": 60_000, "io_bytes": 10**6}
        document = {"schema": "theory.plan.v1", "plan": "p1", "budget": limit} | fields
        attached = {} if text is None else {"text": Attachment(text, "text/plain")}
        return await self.plans.apply(
            document | {"transitions": transitions}, tenant="acme", by="local", attachments=attached
        )

    async def ended(self, plan: str) -> str:
        """The status that the plan ends with."""
        return await until(self.clock, self.engine.wait(plan))

    async def kinds(self, plan: str) -> list[str]:
        """Kinds of all events of a plan."""
        return [event.kind for event in await self.reads.events(plan, limit=10_000)]

    async def statuses(self, plan: str) -> dict[str, str]:
        """Where each transition stands."""
        return {row.transition: row.status for row in await self.reads.transitions(plan)}


def step(do: str | None = None, **fields: Any) -> dict[str, Any]:
    """A transition of a document; `do` chooses the behaviour."""
    inputs = fields.pop("inputs", {}) | ({} if do is None else {"do": do})
    return {"processor_ref": "demo/echo@1", "mode": "mock", "inputs": inputs} | fields


def output_of(transition: str, path: str = "outputs/x") -> dict[str, Any]:
    """A reference to what another transition writes."""
    return {"$output": {"transition": transition, "path": path}}


async def data_of(house: House, plan: str, kind: str) -> list[Any]:
    """The data of all events of a kind."""
    stored = await house.reads.events(plan, limit=10_000)
    return [loads_strict(event.body)["data"] for event in stored if event.kind == kind]


async def balances(house: House, plan: str) -> dict[str, tuple[int, int]]:
    """Dimension -> (reserved, spent)."""
    return {row.dimension: (row.reserved, row.spent) for row in await house.reads.balance(plan)}
