"""A scheduler over memory, with a clock and processors that the test commands."""

# ruff: noqa: ANN401 - documents and frames hold anything

from __future__ import annotations

import asyncio
import heapq
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self, TypeVar

from theory_api.adapters.memory.artifacts import MemoryArtifacts
from theory_api.adapters.memory.intakes import MemoryIntakes
from theory_api.adapters.memory.read import MemoryReads
from theory_api.adapters.memory.scratch import MemoryScratch
from theory_api.adapters.memory.truth import MemoryDatabase, MemoryTruth
from theory_api.domain.registry import RegistrySnapshot
from theory_api.domain.tests.shelf import snapshot
from theory_api.ports.adapter import FrameSink, Measurement, Standing
from theory_api.ports.truth import Append, IdempotencyRow
from theory_api.scheduler.context import Context, Notice, Pace
from theory_api.scheduler.engine import Engine
from theory_api.services.plans import Applied, Attachment, PlanCommands
from theory_core import HASH_SCHEMA, TheoryError, canonicalize, digest, loads_strict

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
        self.batches: list[list[tuple[str, int]]] = []
        self.flying = 0

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
            fault, done = self.faults.pop(0) if self.faults else (None, True)
            if done:
                await super().append(batch, shard=shard, epoch=epoch, idempotency=idempotency)
                self.batches.append([(share.plan, len(share.events)) for share in batch])
            if fault is not None:
                raise fault
        finally:
            self.flying -= 1


@dataclass
class Run:
    """One execution as the processor's side sees it."""

    adapter: Processors
    execution_id: str
    payload: Mapping[str, Any]
    on_frame: FrameSink
    usage: dict[str, int] = field(default_factory=lambda: {"cpu_ms": 5, "latency_ms": 10})
    stopped: asyncio.Event = field(default_factory=asyncio.Event)
    seq: int = 0

    @property
    def params(self) -> Mapping[str, Any]:
        params: Mapping[str, Any] = self.payload["inputs"]["params"]
        return params

    async def put(self, relpath: str, data: bytes, mime: str = "text/plain") -> dict[str, Any]:
        async def chunks() -> AsyncIterator[bytes]:
            yield data

        arrived = await self.adapter.intakes.put(self.execution_id, relpath, chunks(), mime=mime)
        path = f"{self.payload['write_prefix']}{arrived.relpath}"
        return {"path": path, "cid": arrived.cid, "size_bytes": arrived.size_bytes, "mime": mime}

    async def frame(self, kind: str, **content: Any) -> None:
        self.seq += 1
        await self.on_frame({"kind": kind, "seq": self.seq, "content": content})

    async def receipt(self, status: str, **fields: Any) -> None:
        same = ("execution_id", "env_fingerprint", "inputs_hash", "mode", "registry_snapshot")
        body = {name: self.payload[name] for name in same} | {
            "processor_ref": self.payload["ref"],
            "hash_schema": HASH_SCHEMA,
            "status": status,
            "processor_info": "demo",
            "written_by": "processor",
            "usage": {"usd_micro": 1},
        }
        await self.put("receipt.json", canonicalize(body | fields), "application/json")

    async def succeed(self, files: Mapping[str, bytes], **fields: Any) -> dict[str, Any]:
        """Deliver files, index and receipt; the envelope of a success."""
        outputs = [await self.put(f"outputs/{name}", body) for name, body in sorted(files.items())]
        index = canonicalize({"outputs": outputs})
        await self.put("outputs.json", index, "application/json")
        await self.receipt("success", outputs_index=digest(index), **fields)
        return {
            "status": "success",
            "execution_id": self.execution_id,
            "outputs": outputs,
            "index_path": f"{self.payload['write_prefix']}outputs.json",
            "meta": {"env_fingerprint": self.payload["env_fingerprint"]},
        }

    def fail(self, code: str = "ERR_PROVIDER") -> dict[str, Any]:
        """The envelope of an error."""
        return {
            "status": "error",
            "execution_id": self.execution_id,
            "error": {"code": code, "message": "it did not work"},
            "meta": {"env_fingerprint": self.payload["env_fingerprint"]},
        }


Behaviour = Callable[[Run], Awaitable[dict[str, Any]]]


async def well(run: Run) -> dict[str, Any]:
    """Write one file that names the inputs."""
    return await run.succeed({"x": canonicalize(dict(run.params))})


async def badly(run: Run) -> dict[str, Any]:
    """Fail as a provider does."""
    return run.fail()


async def forever(run: Run) -> dict[str, Any]:
    """Run until stopped."""
    await run.stopped.wait()
    return run.fail("ERR_CANCELLED")


class Processors:
    """An adapter whose processors do what the test wrote down for their param `do`."""

    name = "process"
    enforced = frozenset({"cpu_ms", "latency_ms"})

    def __init__(self, intakes: MemoryIntakes) -> None:
        self.intakes = intakes
        self.behaviours: dict[str, list[Behaviour]] = {}
        self.runs: dict[str, Run] = {}
        self.standings: dict[str, Standing] = {}
        self.cancelled: list[str] = []
        self.released: list[str] = []
        self.prepared: list[str] = []
        self.unprepared: list[TheoryError] = []
        self.most = 0
        self.busy = 0
        self.closed = False

    async def prepare(self, *, ref: str, mode: str, on_progress: Callable[[str], None]) -> None:
        await asyncio.sleep(0)
        on_progress(f"preparing {ref} for {mode}")
        if self.unprepared:
            raise self.unprepared.pop(0)
        self.prepared.append(ref)

    async def invoke(
        self,
        *,
        ref: str,
        payload: Mapping[str, Any],
        timeout_s: float,
        expected_oci: str | None,
        on_frame: FrameSink | None = None,
    ) -> Mapping[str, Any]:
        assert (payload["ref"], payload["timeout_s"], expected_oci) == (ref, timeout_s, None)
        assert on_frame is not None
        ident = payload["execution_id"]
        assert ident not in self.runs, "no execution runs twice"
        run = self.runs[ident] = Run(self, ident, payload, on_frame)
        waiting = self.behaviours.get(str(run.params.get("do")), [well])
        behaviour = waiting.pop(0) if len(waiting) > 1 else waiting[0]
        self.busy += 1
        self.most = max(self.most, self.busy)
        try:
            envelope: Mapping[str, Any] = await behaviour(run)
            return envelope
        finally:
            self.busy -= 1

    async def cancel(self, execution_id: str) -> bool:
        self.cancelled.append(execution_id)
        run = self.runs.get(execution_id)
        if run is not None:
            run.stopped.set()
        return True

    def measured(self, execution_id: str) -> Measurement:
        run = self.runs.get(execution_id)
        return Measurement({} if run is None else dict(run.usage))

    async def standing(self, execution_id: str) -> Standing:
        return self.standings.get(execution_id, Standing.ABSENT)

    async def release(self, execution_id: str) -> None:
        self.released.append(execution_id)

    async def close(self) -> None:
        self.closed = True


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
        )
        self.engine = Engine(self.truth, self.reads, self.context, shard="s", owner="me")
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
