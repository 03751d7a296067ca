"""Projections and ledgers as any process reads them, beside a running writer."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import quote

from sqlalchemy import URL, Row, Select, and_, event, or_, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from theory_api.adapters.sql import models
from theory_api.adapters.sql.faults import unavailable
from theory_api.adapters.sql.statements import READER_SESSION
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

Shape = TypeVar(
    "Shape", PlanRow, BalanceRow, TransitionRow, ExecutionRow, ArtifactRow, StoredEvent, Head
)

_CONNECTIONS: Final = 4
_NAMED: Final = 100
"""Events that one statement names."""
_PATIENCE_S: Final = 15.0


def read_only(database: Path) -> AsyncEngine:
    """An engine whose connections cannot write and never checkpoint."""
    url = URL.create(
        "sqlite+aiosqlite",
        database="file:" + quote(str(database)),
        query={"mode": "ro", "uri": "true"},
    )
    engine = create_async_engine(
        url,
        isolation_level="AUTOCOMMIT",
        pool_size=_CONNECTIONS,
        max_overflow=0,
        pool_timeout=_PATIENCE_S,
    )

    @event.listens_for(engine.sync_engine, "connect")
    def _prepare(connection: Any, _record: object) -> None:  # noqa: ANN401 - the driver's own type
        cursor = connection.cursor()
        try:
            for statement in READER_SESSION:
                cursor.execute(statement)
        finally:
            cursor.close()

    return engine


class SqlReads:
    """Implements `theory_api.ports.truth.ReadModel` over an engine of any dialect.

    Law: each answer is one statement, so one consistent state of the database.
    """

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._reading: set[asyncio.Task[Sequence[Row[Any]]]] = set()

    async def plans(
        self,
        *,
        tenant: str | None = None,
        status: str | None = None,
        after: str = "",
        limit: int = 100,
    ) -> list[PlanRow]:
        """Plans ordered by path, beginning after `after`."""
        table = models.Plan
        query = _columns(PlanRow, table).where(table.plan > after)
        if tenant is not None:
            query = query.where(table.tenant == tenant)
        if status is not None:
            query = query.where(table.status == status)
        return await self._all(PlanRow, query.order_by(table.plan).limit(limit))

    async def plan(self, plan: str) -> PlanRow:
        """One plan; `ERR_NOT_FOUND`."""
        query = _columns(PlanRow, models.Plan).where(models.Plan.plan == plan)
        return _one(await self._all(PlanRow, query), "no such plan")

    async def balance(self, plan: str) -> list[BalanceRow]:
        """The budget, ordered by dimension."""
        table = models.Balance
        query = _columns(BalanceRow, table).where(table.plan == plan).order_by(table.dimension)
        return await self._all(BalanceRow, query)

    async def transitions(self, plan: str) -> list[TransitionRow]:
        """All transitions in the order in which they were proposed."""
        table = models.Transition
        query = _columns(TransitionRow, table).where(table.plan == plan)
        return await self._all(TransitionRow, query.order_by(table.position, table.transition))

    async def executions(self, plan: str, *, transition: str | None = None) -> list[ExecutionRow]:
        """Attempts, oldest first."""
        table = models.Execution
        query = _columns(ExecutionRow, table).where(table.plan == plan)
        if transition is not None:
            query = query.where(table.transition == transition)
        query = query.order_by(table.started_at, table.transition, table.attempt)
        return await self._all(ExecutionRow, query)

    async def execution(self, execution_id: str, *, plan: str) -> ExecutionRow:
        """One attempt; `ERR_NOT_FOUND`."""
        table = models.Execution
        query = _columns(ExecutionRow, table).where(
            table.plan == plan, table.execution_id == execution_id
        )
        return _one(await self._all(ExecutionRow, query), "no such execution in this plan")

    async def artifact(self, plan: str, path: str) -> ArtifactRow | None:
        """The artifact at an exact plan-relative path."""
        table = models.Artifact
        query = _columns(ArtifactRow, table).where(table.plan == plan, table.path == path)
        found = await self._all(ArtifactRow, query)
        return found[0] if found else None

    async def artifacts(
        self, plan: str, prefix: str, *, after: str = "", limit: int = 1000
    ) -> list[ArtifactRow]:
        """Artifacts below a prefix that ends in `/`, ordered by path (bytewise)."""
        table = models.Artifact
        beyond = prefix[:-1] + chr(ord("/") + 1)
        query = _columns(ArtifactRow, table).where(
            table.plan == plan, table.path > max(prefix, after), table.path < beyond
        )
        return await self._all(ArtifactRow, query.order_by(table.path).limit(limit))

    async def events(
        self, plan: str, *, after: int = 0, limit: int = 1000, kind: str | None = None
    ) -> list[StoredEvent]:
        """Events with `seq > after`, in order; with `kind` those of it alone."""
        table = models.LedgerEvent
        query = _columns(StoredEvent, table).where(table.plan == plan, table.seq > after)
        if kind is not None:
            query = query.where(table.kind == kind)
        return await self._all(StoredEvent, query.order_by(table.seq).limit(limit))

    async def heads(self, named: Sequence[tuple[str, int]]) -> list[Head]:
        """Those of these events that are there."""
        table = models.LedgerEvent
        found: list[Head] = []
        for start in range(0, len(named), _NAMED):
            asked = named[start : start + _NAMED]
            these = or_(*(and_(table.plan == plan, table.seq == seq) for plan, seq in asked))
            found += await self._all(Head, _columns(Head, table).where(these))
        return found

    async def close(self) -> None:
        """Close every connection, once what is being read has been read."""
        if self._reading:
            await asyncio.wait(self._reading)
        await self._engine.dispose()

    async def _all(self, shape: type[Shape], query: Select[Any]) -> list[Shape]:
        """Law: a caller that leaves interrupts no driver; its read ends, its connection returns."""
        task = asyncio.create_task(self._rows(query))
        self._reading.add(task)
        task.add_done_callback(self._read)
        return [shape(*row) for row in await asyncio.shield(task)]

    async def _rows(self, query: Select[Any]) -> Sequence[Row[Any]]:
        try:
            async with self._engine.connect() as connection:
                return (await connection.execute(query)).all()
        except (SQLAlchemyError, OSError, TimeoutError) as error:
            raise unavailable(getattr(error, "orig", None) or error) from error

    def _read(self, task: asyncio.Task[Sequence[Row[Any]]]) -> None:
        """A read whose caller left may fail without anybody to tell."""
        self._reading.discard(task)
        if not task.cancelled():
            task.exception()


def _columns(shape: type[Shape], table: type[models.Base]) -> Select[Any]:
    return select(*(getattr(table, column.name) for column in fields(shape)))


def _one(found: Iterable[Shape], absent: str) -> Shape:
    for row in found:
        return row
    raise TheoryError("ERR_NOT_FOUND", absent)
