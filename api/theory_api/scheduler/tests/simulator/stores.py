"""Stores in memory that fail: before a commit, after it, too late, for good."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from theory_api.adapters.memory.artifacts import MemoryArtifacts
from theory_api.adapters.memory.read import MemoryReads
from theory_api.adapters.memory.scratch import MemoryScratch
from theory_api.adapters.memory.truth import MemoryDatabase, MemoryTruth
from theory_api.ports.artifacts import Blob
from theory_api.ports.truth import Append, ArtifactRow, IdempotencyRow, PlanRow, StoredEvent
from theory_api.scheduler.tests.simulator.chance import full, unavailable
from theory_api.scheduler.tests.simulator.process import Process
from theory_core import TheoryError

DEADLINE_S: Final = 15.0
"""When a store gives up on a connection that swallows everything."""

SETTLES: Final = frozenset({"budget.settled", "budget.voided"})
FUSE: Final = 24
"""Callbacks that a process lives on at most after a commit that it is to die of."""


class Truth(MemoryTruth):
    """The ledger through a connection that fails; the database is told of every commit."""

    def __init__(self, database: MemoryDatabase, process: Process) -> None:
        super().__init__(database)
        self._process = process
        self._chance = process.chance

    async def claim(self, shard: str, owner: str) -> int:
        await self._reach()
        epoch = await super().claim(shard, owner)
        self._process.epoch = epoch
        self._process.oracle.claimed(epoch)
        return epoch

    async def append(
        self,
        batch: Sequence[Append],
        *,
        shard: str,
        epoch: int,
        idempotency: Sequence[IdempotencyRow] = (),
    ) -> None:
        settle = any(event.kind in SETTLES for share in batch for event in share.events)
        after, soon = ("F9", "F10") if settle else ("F4", "F5")
        fault = self._chance.fault(
            "commit",
            "store: error before commit",
            "store: error after commit",
            "store: half-open, nothing committed",
            "store: half-open, committed",
            "store: committed after the caller gave up",
            "death F2-F3: inside the transaction",
            f"death {after}: committed, no answer",
            f"death {after}: committed, no answer",
            f"death {soon}: committed and answered, then dead",
            f"death {soon}: committed and answered, then dead",
        )
        await self._chance.lag(least=True)
        if fault == "store: error before commit":
            raise unavailable("nothing was written")
        if fault == "death F2-F3: inside the transaction":
            await self._process.die()
        if fault == "store: half-open, nothing committed":
            await self._hang()
        work = (tuple(batch), shard, epoch, tuple(idempotency))
        if fault == "store: committed after the caller gave up":
            self._process.world.start(self._late(*work))
            await self._hang()
        await self._commit(*work)
        if fault is None:
            await self._chance.lag()
        elif fault.startswith(f"death {after}"):
            await self._process.die()
        elif fault.startswith(f"death {soon}"):
            self._process.fuse = self._chance.draw.randint(1, FUSE)
        elif fault == "store: half-open, committed":
            await self._hang()
        else:
            raise unavailable("the answer was lost")

    async def _commit(
        self,
        batch: tuple[Append, ...],
        shard: str,
        epoch: int,
        idempotency: tuple[IdempotencyRow, ...],
    ) -> None:
        await super().append(batch, shard=shard, epoch=epoch, idempotency=idempotency)
        self._process.oracle.committed(batch, epoch, idempotency)

    async def _late(
        self,
        batch: tuple[Append, ...],
        shard: str,
        epoch: int,
        idempotency: tuple[IdempotencyRow, ...],
    ) -> None:
        """Packets that were on their way all the time."""
        await asyncio.sleep(DEADLINE_S + self._chance.draw.expovariate(0.5))
        try:
            await self._commit(batch, shard, epoch, idempotency)
            self._process.oracle.late.add(epoch)
        except TheoryError as error:
            self._chance.note("late commit refused", error.code)

    async def _hang(self) -> None:
        await asyncio.sleep(DEADLINE_S)
        message = "the connection answered nothing"
        raise unavailable(message)

    async def _reach(self) -> None:
        fault = self._chance.fault("truth", "store: read refused", "store: read refused late")
        await self._chance.lag()
        if fault == "store: read refused late":
            await asyncio.sleep(DEADLINE_S)
        if fault is not None:
            raise unavailable("the store was not reached")

    async def events(self, plan: str, *, after: int = 0, limit: int = 1000) -> list[StoredEvent]:
        await self._reach()
        return await super().events(plan, after=after, limit=limit)

    async def open_plans(self, shard: str) -> list[str]:
        await self._reach()
        return await super().open_plans(shard)

    async def idempotency(self, scope: str, key: str) -> IdempotencyRow | None:
        await self._reach()
        found = await super().idempotency(scope, key)
        if self._chance.fault("truth", "death F1: key read, nothing written"):
            await self._process.die()
        await self._chance.lag()
        return found


class Reads(MemoryReads):
    """Projections through a connection that fails."""

    def __init__(self, database: MemoryDatabase, process: Process) -> None:
        super().__init__(database)
        self._chance = process.chance

    async def _reach(self) -> None:
        fault = self._chance.fault("world", "world: read refused")
        await self._chance.lag()
        if fault is not None:
            raise unavailable("the world was not reached")

    async def artifact(self, plan: str, path: str) -> ArtifactRow | None:
        await self._reach()
        return await super().artifact(plan, path)

    async def artifacts(
        self, plan: str, prefix: str, *, after: str = "", limit: int = 1000
    ) -> list[ArtifactRow]:
        await self._reach()
        return await super().artifacts(plan, prefix, after=after, limit=limit)

    async def plan(self, plan: str) -> PlanRow:
        await self._reach()
        return await super().plan(plan)

    async def events(
        self, plan: str, *, after: int = 0, limit: int = 1000, kind: str | None = None
    ) -> list[StoredEvent]:
        await self._reach()
        return await super().events(plan, after=after, limit=limit, kind=kind)


class Artifacts(MemoryArtifacts):
    """Content-addressed bytes on a disk that is full at times; `blobs` outlives the process."""

    def __init__(self, blobs: dict[str, bytes], process: Process) -> None:
        super().__init__()
        self.blobs = blobs
        self._process = process
        self._chance = process.chance

    async def put(self, data: bytes) -> Blob:
        fault = self._chance.fault(
            "artifacts",
            "artifacts: write refused",
            "artifacts: written, answer lost",
            "death F11: bytes written, not in place",
            "death F7: artifact in place, no result",
        )
        await self._chance.lag()
        if fault == "artifacts: write refused":
            raise full("a write was refused")
        if fault == "death F11: bytes written, not in place":
            await self._process.die()
        blob = await super().put(data)
        if fault == "death F7: artifact in place, no result":
            await self._process.die()
        if fault is not None:
            raise full("the answer to a write was lost")
        return blob

    async def get(self, cid: str, *, max_bytes: int = 8 * 1024 * 1024) -> bytes:
        fault = self._chance.fault("artifacts", "artifacts: read refused")
        await self._chance.lag()
        if fault is not None:
            raise full("a read was refused")
        return await super().get(cid, max_bytes=max_bytes)


class Scratch(MemoryScratch):
    """Outcome notes on a disk that fails; `notes` outlives the process."""

    def __init__(self, notes: dict[str, bytes], process: Process) -> None:
        super().__init__()
        self.notes = notes
        self._process = process
        self._chance = process.chance

    async def save(self, execution_id: str, outcome: bytes) -> None:
        fault = self._chance.fault(
            "scratch",
            "scratch: note refused",
            "scratch: noted, answer lost",
            "death F8: result known, not noted",
            "death F8: result noted, not settled",
        )
        await self._chance.lag()
        if fault == "scratch: note refused":
            raise full("a note was refused")
        if fault == "death F8: result known, not noted":
            await self._process.die()
        await super().save(execution_id, outcome)
        self._process.oracle.noted(execution_id)
        if fault == "death F8: result noted, not settled":
            await self._process.die()
        if self._chance.fault("report", "duplicate: outcome reported again"):
            self._process.world.repeat(outcome)
            self._chance.soon("commit", within=2)
            await asyncio.sleep(self._chance.draw.choice([0, 0.01, 0.1, 1]))
        if fault is not None:
            raise full("the answer to a note was lost")

    async def load(self, execution_id: str) -> bytes | None:
        await self._chance.lag()
        return await super().load(execution_id)

    async def drop(self, execution_id: str) -> None:
        fault = self._chance.fault("scratch", "scratch: note not removed")
        await self._chance.lag()
        if fault is not None:
            raise full("a note was not removed")
        await super().drop(execution_id)
