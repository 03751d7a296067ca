"""Projections in memory, read as those of a database are."""

from __future__ import annotations

from collections.abc import Sequence

from theory_api.adapters.memory.tables import PlanTables
from theory_api.adapters.memory.truth import MemoryDatabase
from theory_api.ports.truth import (
    ArtifactRow,
    BalanceRow,
    ExecutionRow,
    Head,
    PlanRow,
    StoredEvent,
    TransitionRow,
)
from theory_core import TheoryError


class MemoryReads:
    """Implements `theory_api.ports.truth.ReadModel`."""

    def __init__(self, database: MemoryDatabase) -> None:
        self._database = database

    async def plans(
        self,
        *,
        tenant: str | None = None,
        status: str | None = None,
        after: str = "",
        limit: int = 100,
    ) -> list[PlanRow]:
        """Plans ordered by path, beginning after `after`."""
        names = sorted(self._database.plans, key=str.encode)
        rows = [_plan_row(self._database.plans[name]) for name in names if _after(name, after)]
        wanted = [
            row
            for row in rows
            if (tenant is None or row.tenant == tenant) and (status is None or row.status == status)
        ]
        return wanted[:limit]

    async def plan(self, plan: str) -> PlanRow:
        """One plan; `ERR_NOT_FOUND`."""
        tables = self._database.plans.get(plan)
        if tables is None:
            raise TheoryError("ERR_NOT_FOUND", "no such plan")
        return _plan_row(tables)

    async def balance(self, plan: str) -> list[BalanceRow]:
        """The budget, ordered by dimension."""
        balances = self._tables(plan).balances
        return [balances[dimension] for dimension in sorted(balances)]

    async def transitions(self, plan: str) -> list[TransitionRow]:
        """All transitions in the order in which they were proposed."""
        found = self._tables(plan).transitions.items()
        rows = [TransitionRow(transition=name, **columns) for name, columns in found]
        return sorted(rows, key=lambda row: (row.position, row.transition))

    async def executions(self, plan: str, *, transition: str | None = None) -> list[ExecutionRow]:
        """Attempts, oldest first."""
        found = self._tables(plan).executions.items()
        rows = [ExecutionRow(execution_id=name, **columns) for name, columns in found]
        if transition is not None:
            rows = [row for row in rows if row.transition == transition]
        return sorted(rows, key=lambda row: (row.started_at, row.transition, row.attempt))

    async def execution(self, execution_id: str, *, plan: str) -> ExecutionRow:
        """One attempt; `ERR_NOT_FOUND`."""
        columns = self._tables(plan).executions.get(execution_id)
        if columns is None:
            raise TheoryError("ERR_NOT_FOUND", "no such execution in this plan")
        return ExecutionRow(execution_id=execution_id, **columns)

    async def artifact(self, plan: str, path: str) -> ArtifactRow | None:
        """The artifact at an exact plan-relative path."""
        columns = self._tables(plan).artifacts.get(path)
        return None if columns is None else ArtifactRow(path=path, **columns)

    async def artifacts(
        self, plan: str, prefix: str, *, after: str = "", limit: int = 1000
    ) -> list[ArtifactRow]:
        """Artifacts below a prefix that ends in `/`, ordered by path (bytewise)."""
        artifacts = self._tables(plan).artifacts
        paths = sorted(
            (
                path
                for path in artifacts
                if path.startswith(prefix) and path != prefix and _after(path, after)
            ),
            key=str.encode,
        )
        return [ArtifactRow(path=path, **artifacts[path]) for path in paths[:limit]]

    async def events(
        self, plan: str, *, after: int = 0, limit: int = 1000, kind: str | None = None
    ) -> list[StoredEvent]:
        """Events with `seq > after`, in order; with `kind` those of it alone."""
        events = self._tables(plan).events
        if kind is None:
            return events[after : after + limit]
        return [event for event in events[after:] if event.kind == kind][:limit]

    async def heads(self, named: Sequence[tuple[str, int]]) -> list[Head]:
        """Those of these events that are there."""
        return [
            Head(plan, event.seq, event.hash, event.at)
            for plan, seq in named
            for event in self._tables(plan).events[seq - 1 : seq]
        ]

    async def close(self) -> None:
        """Nothing is open."""

    def _tables(self, plan: str) -> PlanTables:
        """The plan's tables; empty ones for a plan that is not there."""
        return self._database.plans.get(plan) or PlanTables(plan, "")


def _plan_row(tables: PlanTables) -> PlanRow:
    head = tables.head
    return PlanRow(plan=tables.plan, head_seq=head.seq, head_hash=head.hash, **tables.row)


def _after(name: str, after: str) -> bool:
    return name.encode() > after.encode()
