"""The ledger in PostgreSQL: one statement a batch, fenced by the shard's epoch."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from typing import Final, TypeVar

import asyncpg
import stamina
import structlog
from asyncpg.prepared_stmt import PreparedStatement

from theory_api.adapters.sql.columns import to_raw, to_text
from theory_api.adapters.sql.postgres import claims, payload
from theory_api.adapters.sql.postgres.faults import (
    DoubtfulError,
    passing,
    refused,
    unavailable,
)
from theory_api.adapters.sql.postgres.folds import PostgresFolds
from theory_api.adapters.sql.postgres.line import DEADLINE_S, Line
from theory_api.adapters.sql.postgres.rebuild import replace
from theory_api.domain.projection import Changes
from theory_api.domain.values import TERMINAL_PLAN
from theory_api.ports.truth import Append, IdempotencyRow, StoredEvent
from theory_core import TheoryError

log = structlog.get_logger(__name__)

T = TypeVar("T")
Connection = asyncpg.Connection

WRITER: Final = "theory-writer"
"""How the server lists connections that append."""

_READERS: Final = 3
_ATTEMPTS: Final = 4

_APPEND: Final = "SELECT theory_append($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)"
_APPEND_ONE: Final = "SELECT theory_append_one($1, $2, $3, $4, $5, $6, $7, $8, $9)"
_EVENTS: Final = """
SELECT seq, kind, at, hash, body FROM ledger_event
WHERE plan = $1 AND seq > $2 ORDER BY seq LIMIT $3
"""
_OPEN: Final = """
SELECT plan FROM plan WHERE shard = $1 AND status <> ALL($2::text[]) ORDER BY created_at, plan
"""
_REQUEST: Final = "SELECT scope, key, body, answer FROM idempotency WHERE scope = $1 AND key = $2"
_HASH: Final = "SELECT hash FROM ledger_event WHERE plan = $1 AND seq = $2"
_HEADS: Final = "SELECT plan, head_seq, head_hash FROM plan WHERE plan = ANY($1::text[])"


class PostgresTruth:
    """Implements `theory_api.ports.truth.TruthStore` and `ProjectionStore`.

    Appends have a connection of their own; claims and renewals another, so that a lease is renewed
    while a batch commits; readers a few more. No connection outlives a doubt.
    """

    def __init__(
        self, url: str, *, lease: timedelta = claims.LEASE, deadline_s: float = DEADLINE_S
    ) -> None:
        self._lease = lease
        self._held: dict[str, tuple[int, str]] = {}
        self._closed = False
        self.retried = 0
        """How often a transaction was tried again because the server asked for it."""
        self._said: dict[str, PreparedStatement[asyncpg.Record]] = {}
        self._appending = Line(url, WRITER, deadline_s=deadline_s, opened=self._opened)
        self._claiming = Line(url, "theory-claims")
        self._reading = [Line(url, "theory-reads", deadline_s=deadline_s) for _ in range(_READERS)]
        self.folds = PostgresFolds(url, deadline_s=deadline_s)
        """The same database's folds."""

    async def claim(self, shard: str, owner: str) -> int:
        """Become the writer: a lease that nobody else holds, then a higher epoch."""
        held = self._held.get(shard)
        if held is not None and held[1] != owner:
            message = "another owner in this process writes to this shard"
            raise TheoryError("ERR_NOT_WRITER", message, {"shard": shard})
        await _answered(self._appending.run(_nothing))

        async def left(connection: Connection) -> int | None:
            return await claims.stale_backend(connection, shard, owner, self._lease)

        async def take(connection: Connection) -> int:
            backend = self._appending.backend
            return await claims.take(connection, shard, owner, backend, self._lease)

        stale = await self._claims(left)
        try:
            epoch = await self._claiming.run(take)
        except asyncpg.LockNotAvailableError as error:
            if stale is None:
                raise unavailable(error) from error
            await self._end(stale)
            epoch = await self._claims(take)
        except DoubtfulError as error:
            raise unavailable(error.__cause__ or error) from error
        self._held[shard] = (epoch, owner)
        return epoch

    async def renew(self, shard: str, epoch: int) -> None:
        """Stay the owner for another lease."""
        self._mine(shard)
        await self._claims(lambda connection: claims.renew(connection, shard, epoch))

    async def append(
        self,
        batch: Sequence[Append],
        *,
        shard: str,
        epoch: int,
        idempotency: Sequence[IdempotencyRow] = (),
    ) -> None:
        """Commit the batch in one round trip; a cancelled caller leaves it whole or absent."""
        self._mine(shard)
        statement, given = _APPEND_ONE, payload.one(batch, idempotency)
        if given is None:
            statement, given = _APPEND, payload.many(batch, idempotency)

        async def work(_connection: Connection) -> None:
            await self._said[statement].fetch(shard, epoch, *given)

        try:
            await self._tried(work, shard)
        except DoubtfulError as error:
            if not await self._committed(batch, idempotency):
                raise unavailable(error.__cause__ or error) from error
        except asyncpg.PostgresError as error:
            raise await self._refusal(error, batch, shard, epoch) from error

    async def replace_projections(
        self, plan: str, changes: Changes, *, shard: str, epoch: int
    ) -> None:
        """Put the rows of a whole ledger in the place of those that are there."""
        self._mine(shard)
        work = replace(plan, changes, shard, epoch)
        try:
            await _answered(self._appending.run(work))
        except TheoryError as error:
            if error.code != "ERR_NOT_WRITER":
                raise
            raise await self._lost(shard, epoch) from error

    async def events(self, plan: str, *, after: int = 0, limit: int = 1000) -> list[StoredEvent]:
        """Events with `seq > after`, in order."""
        found = await self._rows(_EVENTS, plan, after, limit)
        return [
            StoredEvent(plan, seq, kind, at, body, to_text(digest))
            for seq, kind, at, digest, body in found
        ]

    async def open_plans(self, shard: str) -> list[str]:
        """Plans whose status is not terminal, oldest first."""
        return [row[0] for row in await self._rows(_OPEN, shard, sorted(TERMINAL_PLAN))]

    async def idempotency(self, scope: str, key: str) -> IdempotencyRow | None:
        """The stored answer of an earlier request."""
        found = await self._rows(_REQUEST, scope, key)
        return IdempotencyRow(*found[0]) if found else None

    async def release(self, shard: str, epoch: int) -> None:
        """Give the shard up; others take it over at once."""
        held = self._held.get(shard)
        if held is None or held[0] != epoch:
            return
        del self._held[shard]
        await self._claims(lambda connection: claims.free(connection, shard, epoch))

    async def close(self) -> None:
        """Give every shard up, as far as the server answers, and close every connection."""
        if self._closed:
            return
        self._closed = True
        try:
            for shard, (epoch, _) in list(self._held.items()):
                await self.release(shard, epoch)
        except TheoryError:
            # The leases run out by themselves.
            self._held.clear()
        lines = (self._appending, self._claiming, *self._reading)
        await asyncio.gather(self.folds.close(), *(line.close() for line in lines))

    async def _tried(self, work: Callable[[Connection], Awaitable[None]], shard: str) -> None:
        """Do it, and again, a few times, where the server says that it may pass then."""
        try:
            await self._appending.run(work)
        except asyncpg.PostgresError as error:
            if not passing(error):
                raise
            first = error
        else:
            return
        async for attempt in stamina.retry_context(
            on=passing, attempts=_ATTEMPTS, wait_initial=0.02, wait_max=0.5, timeout=None
        ):
            with attempt:
                if attempt.num == 1:
                    raise first  # It was the first attempt: the next one waits, too.
                self.retried += 1
                log.warning("storage.retried", shard=shard, times=self.retried)
                await self._appending.run(work)

    # -- in doubt ---------------------------------------------------------------------------

    async def _committed(self, batch: Sequence[Append], requests: Sequence[IdempotencyRow]) -> bool:
        """Whether a doubtful batch is there. Law: one row of it proves all of it.

        The server's process that may still be at it is ended first: what is not there then will
        not come any more.
        """
        await self._end(self._appending.backend)
        if batch:
            last = batch[-1].events[-1]
            found = await self._rows(_HASH, last.plan, last.seq)
            return bool(found) and found[0][0] == to_raw(last.hash)
        if requests:
            row = requests[-1]
            return bool(await self._rows(_REQUEST, row.scope, row.key))
        return True

    async def _refusal(
        self, error: BaseException, batch: Sequence[Append], shard: str, epoch: int
    ) -> TheoryError:
        """The server's refusal, with what a reader of the log needs to find the cause."""
        known = refused(error)
        if known.code == "ERR_NOT_WRITER":
            return await self._lost(shard, epoch)
        if known.code != "ERR_CONFLICT":
            return known
        expected = {append.plan: append.expected_seq for append in batch}
        found = {row[0]: row[1] for row in await self._rows(_HEADS, sorted(expected))}
        for plan, seq in expected.items():
            if found.get(plan, 0) != seq:
                detail = {"plan": plan, "expected": seq, "head": found.get(plan, 0)}
                message = "a plan's head is not the expected one"
                return TheoryError("ERR_CONFLICT", message, detail)
        return known

    async def _lost(self, shard: str, epoch: int) -> TheoryError:
        return await self._claims(lambda connection: claims.lost(connection, shard, epoch))

    async def _end(self, backend: int) -> None:
        await self._claims(lambda connection: claims.end(connection, backend, WRITER))

    async def _opened(self, connection: Connection) -> None:
        """A new connection appends from now on: a successor has to know which to end."""
        for statement in (_APPEND, _APPEND_ONE):
            self._said[statement] = await connection.prepare(statement)
        for shard, (epoch, _) in self._held.items():
            await claims.moved(connection, shard, epoch)

    # -- lines ------------------------------------------------------------------------------

    async def _claims(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        return await _answered(self._claiming.run(work))

    async def _rows(self, statement: str, *given: object) -> list[asyncpg.Record]:
        if self._closed:
            raise TheoryError("ERR_UNAVAILABLE", "the store is closed")
        if not self._held:
            raise _unclaimed()

        async def work(connection: Connection) -> list[asyncpg.Record]:
            return await connection.fetch(statement, *given)

        await self._appending.quiet()
        line = min(self._reading, key=lambda line: line.queue)
        return await _answered(line.run(work))

    def _mine(self, shard: str) -> None:
        if shard not in self._held:
            raise _unclaimed()


async def _nothing(_connection: Connection) -> None:
    """Only that there is a connection."""


async def _answered(running: Awaitable[T]) -> T:
    """The answer of a line; doubt and refusals of the server as the port's errors."""
    try:
        return await running
    except DoubtfulError as error:
        raise unavailable(error.__cause__ or error) from error
    except asyncpg.PostgresError as error:
        raise refused(error) from error


def _unclaimed() -> TheoryError:
    return TheoryError("ERR_NOT_WRITER", "this process has not become the writer")
