"""A ledger in memory that several owners can fight over."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from theory_api.adapters.memory.folds import MemoryFolds
from theory_api.adapters.memory.tables import PlanTables
from theory_api.domain.projection import Changes
from theory_api.domain.values import TERMINAL_PLAN
from theory_api.ports.folds import Fold
from theory_api.ports.truth import Append, BalanceRow, IdempotencyRow, StoredEvent
from theory_core import TheoryError


@dataclass(slots=True)
class HeldShard:
    """Who may append to a shard, and until when nobody else may."""

    epoch: int = 0
    owner: str | None = None
    renewed: float = 0.0


@dataclass(slots=True)
class MemoryDatabase:
    """What the stores of one simulated machine share; it outlives them, as a disk does."""

    plans: dict[str, PlanTables] = field(default_factory=dict)
    requests: dict[tuple[str, str], IdempotencyRow] = field(default_factory=dict)
    shards: dict[str, HeldShard] = field(default_factory=dict)
    now: Callable[[], float] = lambda: 0.0
    """The database's own clock in seconds; standing still, no lease ever ends."""
    lease_s: float = 5.0
    """How long an owner may go without renewing."""
    folds: dict[str, Fold] = field(default_factory=dict)

    def bury(self, shard: str) -> None:
        """The owner's process died: nobody holds the shard, its epoch stays."""
        self.shards.setdefault(shard, HeldShard()).owner = None

    def fresh(self, renewed: float) -> bool:
        """Whether what was renewed then still counts."""
        return self.now() - renewed <= self.lease_s


class MemoryTruth:
    """Implements `theory_api.ports.truth.TruthStore` and `ProjectionStore`.

    A batch is checked whole before any of it is applied; nothing suspends in between.
    """

    def __init__(self, database: MemoryDatabase | None = None) -> None:
        self.database = database or MemoryDatabase()
        self.folds = MemoryFolds(self.database.folds)
        """The same database's folds."""
        self._held: dict[str, int] = {}
        self._closed = False

    async def claim(self, shard: str, owner: str) -> int:
        """Become the writer and raise the epoch."""
        self._open()
        held = self.database.shards.setdefault(shard, HeldShard())
        if held.owner not in {None, owner} and self.database.fresh(held.renewed):
            message = "another process writes to this shard"
            raise TheoryError("ERR_NOT_WRITER", message, {"shard": shard})
        held.epoch += 1
        held.owner = owner
        held.renewed = self.database.now()
        self._held[shard] = held.epoch
        return held.epoch

    async def renew(self, shard: str, epoch: int) -> None:
        """Keep the shard for another lease."""
        self._fence(shard, epoch)
        self.database.shards[shard].renewed = self.database.now()

    async def append(
        self,
        batch: Sequence[Append],
        *,
        shard: str,
        epoch: int,
        idempotency: Sequence[IdempotencyRow] = (),
    ) -> None:
        """Commit the batch."""
        self._fence(shard, epoch)
        checked = [self._check(append, shard) for append in batch]
        if len({append.plan for append in batch}) != len(batch):
            raise TheoryError("ERR_CONFLICT", "a batch has two shares of one plan")
        names = [(request.scope, request.key) for request in idempotency]
        if len(set(names)) != len(names) or any(name in self.database.requests for name in names):
            message = "another request with this idempotency key was first"
            raise TheoryError("ERR_IDEMPOTENCY_IN_FLIGHT", message)
        for append, (tables, balances) in zip(batch, checked, strict=True):
            tables.events.extend(append.events)
            tables.apply(append.changes, balances)
            self.database.plans[append.plan] = tables
        self.database.requests.update(zip(names, idempotency, strict=True))

    async def replace_projections(
        self, plan: str, changes: Changes, *, shard: str, epoch: int
    ) -> None:
        """Put the rows of a whole ledger in the place of those that are there."""
        self._fence(shard, epoch)
        tables = self.database.plans.get(plan)
        if tables is None:
            raise TheoryError("ERR_NOT_FOUND", "this plan has no events", {"plan": plan})
        balances = PlanTables(plan, shard).check(changes)
        tables.clear()
        tables.apply(changes, balances)

    async def events(self, plan: str, *, after: int = 0, limit: int = 1000) -> list[StoredEvent]:
        """Events with `seq > after`, in order."""
        self._claimed()
        tables = self.database.plans.get(plan)
        return [] if tables is None else tables.events[after : after + limit]

    async def open_plans(self, shard: str) -> list[str]:
        """Plans whose status is not terminal, oldest first."""
        self._claimed()
        found = [
            (tables.row["created_at"], plan)
            for plan, tables in self.database.plans.items()
            if tables.shard == shard and tables.row["status"] not in TERMINAL_PLAN
        ]
        return [plan for _, plan in sorted(found)]

    async def idempotency(self, scope: str, key: str) -> IdempotencyRow | None:
        """The stored answer of an earlier request."""
        self._claimed()
        return self.database.requests.get((scope, key))

    async def release(self, shard: str, epoch: int) -> None:
        """Give the shard up."""
        self._open()
        if self._held.get(shard) != epoch:
            return
        del self._held[shard]
        held = self.database.shards[shard]
        if held.epoch == epoch:
            held.owner = None

    async def close(self) -> None:
        """Let every shard go, as a process that ends does."""
        for shard, epoch in self._held.items():
            held = self.database.shards[shard]
            if held.epoch == epoch:
                held.owner = None
        self._held.clear()
        self._closed = True

    def _check(self, append: Append, shard: str) -> tuple[PlanTables, dict[str, BalanceRow]]:
        if not append.events:
            message = "a batch has no event for one of its plans"
            raise TheoryError("ERR_CONFLICT", message, {"plan": append.plan})
        for seq, event in enumerate(append.events, start=append.expected_seq + 1):
            if event.seq != seq or event.plan != append.plan:
                message = "the events of a batch do not follow the head that it expects"
                raise TheoryError("ERR_CONFLICT", message, {"plan": append.plan})
        tables = self.database.plans.get(append.plan) or PlanTables(append.plan, shard)
        if tables.head.seq != append.expected_seq or tables.shard != shard:
            detail = {
                "plan": append.plan,
                "expected": append.expected_seq,
                "head": tables.head.seq,
            }
            raise TheoryError("ERR_CONFLICT", "a plan's head is not the expected one", detail)
        return tables, tables.check(append.changes)

    def _fence(self, shard: str, epoch: int) -> None:
        self._claimed()
        held = self.database.shards.get(shard)
        if held is None or held.epoch != epoch or held.owner is None:
            current = None if held is None else held.epoch
            detail = {"shard": shard, "epoch": epoch, "current": current}
            raise TheoryError("ERR_NOT_WRITER", "another process has become the writer", detail)

    def _claimed(self) -> None:
        self._open()
        if not self._held:
            raise TheoryError("ERR_NOT_WRITER", "this process has not become the writer")

    def _open(self) -> None:
        if self._closed:
            raise TheoryError("ERR_UNAVAILABLE", "the store is closed")
