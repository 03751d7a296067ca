"""The ledger in SQLite: one connection writes, from one thread of one process."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

from theory_api.adapters.sql.columns import to_text
from theory_api.adapters.sql.exclusion import Exclusion
from theory_api.adapters.sql.faults import unavailable
from theory_api.adapters.sql.folds import SqliteFolds
from theory_api.adapters.sql.rows import Rows, moved_plan, new_plan
from theory_api.adapters.sql.session import Session
from theory_api.adapters.sql.statements import SESSION, sqlite_statements
from theory_api.adapters.sql.transaction import (
    DoubtfulError,
    Work,
    fence,
    transact,
    write,
    write_projections,
)
from theory_api.domain.projection import Changes
from theory_api.ports.truth import Append, IdempotencyRow, StoredEvent
from theory_core import TheoryError


def connect(database: Path) -> sqlite3.Connection:
    """The connection that writes; the caller holds the exclusion and is the only one.

    The file must exist: migrations make it.
    """
    address = f"file:{quote(str(database))}?mode=rw"
    connection = sqlite3.connect(address, uri=True, isolation_level=None)
    try:
        for statement in SESSION:
            connection.execute(statement).close()
    except sqlite3.Error:
        connection.close()
        raise
    return connection


class SqliteTruth:
    """Implements `theory_api.ports.truth.TruthStore` and `ProjectionStore`.

    The exclusion is held, and the connection open, from the first `claim` until the last shard is
    released; in between every call but `claim` and `close` is `ERR_NOT_WRITER` without a claim.
    """

    def __init__(
        self,
        database: Path,
        exclusion: Exclusion,
        *,
        opening: Callable[[Path], sqlite3.Connection] = connect,
    ) -> None:
        self._exclusion = exclusion
        self._session = Session(partial(opening, database))
        self._say = sqlite_statements()
        self._held: dict[str, tuple[int, str]] = {}
        self.folds = SqliteFolds(self._session, self._say, self._keep, self._read)
        """The same database's folds, with the writer's own connection."""

    async def claim(self, shard: str, owner: str) -> int:
        """Become the writer: the exclusion first, then a higher epoch."""
        return await self._session.run(partial(self._claim, shard, owner))

    async def renew(self, shard: str, epoch: int) -> None:
        """Nothing to do: the exclusion is held until it is let go."""
        held = self._held.get(shard)
        if held is None or held[0] != epoch:
            raise _unclaimed()

    async def append(
        self,
        batch: Sequence[Append],
        *,
        shard: str,
        epoch: int,
        idempotency: Sequence[IdempotencyRow] = (),
    ) -> None:
        """Commit the batch; a cancelled caller leaves it whole or absent, never in part."""
        rows = Rows()
        for append in batch:
            rows.add_append(append, shard)
        rows.add_requests(idempotency)
        await self._session.run(partial(self._append, rows, shard, epoch))

    async def replace_projections(
        self, plan: str, changes: Changes, *, shard: str, epoch: int
    ) -> None:
        """Put the rows of a whole ledger in the place of those that are there."""
        await self._session.run(partial(self._replace, plan, changes, shard, epoch))

    async def events(self, plan: str, *, after: int = 0, limit: int = 1000) -> list[StoredEvent]:
        """Events with `seq > after`, in order."""
        asked = {"old_plan": plan, "after": after, "most": limit}
        found = await self._session.run(partial(self._read, self._say.read_events, asked))
        return [
            StoredEvent(plan, seq, kind, at, body, to_text(digest))
            for plan, seq, kind, at, digest, body in found
        ]

    async def open_plans(self, shard: str) -> list[str]:
        """Plans whose status is not terminal, oldest first."""
        asked = {"old_shard": shard}
        found = await self._session.run(partial(self._read, self._say.read_open_plans, asked))
        return [row[0] for row in found]

    async def idempotency(self, scope: str, key: str) -> IdempotencyRow | None:
        """The stored answer of an earlier request."""
        asked = {"old_scope": scope, "old_key": key}
        found = await self._session.run(partial(self._read, self._say.read_idempotency, asked))
        return IdempotencyRow(*found[0]) if found else None

    async def release(self, shard: str, epoch: int) -> None:
        """Give the shard up; with the last one the connection and the exclusion go too."""
        await self._session.run(partial(self._release, shard, epoch))

    async def close(self) -> None:
        """Close the connection and let the exclusion go."""
        await self._session.close(self._close)

    # Below: in the session's thread only.

    def _claim(self, shard: str, owner: str) -> int:
        held = self._held.get(shard)
        if held is not None and held[1] != owner:
            message = "another owner in this process writes to this shard"
            raise TheoryError("ERR_NOT_WRITER", message, {"shard": shard})
        if not self._held:
            self._exclusion.acquire()
        try:
            epoch = self._raise_epoch(shard, owner)
        except BaseException:
            if not self._held:
                self._close()
            raise
        self._held[shard] = (epoch, owner)
        return epoch

    def _raise_epoch(self, shard: str, owner: str) -> int:
        raised = 0

        def work(connection: sqlite3.Connection) -> None:
            nonlocal raised
            found = connection.execute(self._say.read_shard, {"old_id": shard}).fetchone()
            raised = 1 if found is None else found[0] + 1
            row = {"id": shard, "epoch": raised, "owner": owner}
            connection.execute(self._say.put_shard, row)

        self._transact(work)
        return raised

    def _transact(self, work: Work) -> None:
        """A transaction that is certain, or `ERR_UNAVAILABLE` and a new connection next time."""
        try:
            transact(self._session.connection(), work)
        except DoubtfulError as error:
            self._session.discard()
            raise unavailable(error.__cause__ or error) from error

    def _append(self, rows: Rows, shard: str, epoch: int) -> None:
        self._mine(shard)

        def work(connection: sqlite3.Connection) -> None:
            fence(connection, self._say, shard, epoch)
            write(connection, self._say, rows)

        try:
            transact(self._session.connection(), work)
        except DoubtfulError as error:
            self._session.discard()
            if not self._committed(rows):
                raise unavailable(error.__cause__ or error) from error

    def _committed(self, rows: Rows) -> bool:
        """Whether a doubtful transaction is there. Law: one row of it proves all of it."""
        if rows.events:
            last = rows.events[-1]
            asked = {"old_plan": last["plan"], "after": last["seq"] - 1, "most": 1}
            found = self._rows(self._say.read_events, asked)
            return bool(found) and found[0][4] == last["hash"]
        if rows.requests:
            last = rows.requests[-1]
            asked = {"old_scope": last["scope"], "old_key": last["key"]}
            return bool(self._rows(self._say.read_idempotency, asked))
        return True

    def _replace(self, plan: str, changes: Changes, shard: str, epoch: int) -> None:
        self._mine(shard)
        rows = Rows()
        rows.add_projections(plan, changes)

        def work(connection: sqlite3.Connection) -> None:
            fence(connection, self._say, shard, epoch)
            last = connection.execute(self._say.read_last, {"old_plan": plan}).fetchone()
            if last is None:
                raise TheoryError("ERR_NOT_FOUND", "this plan has no events", {"plan": plan})
            head = {"head_seq": last[0], "head_hash": last[1]}
            found = connection.execute(self._say.read_head, {"old_plan": plan}).fetchone()
            if found is None:
                connection.execute(self._say.insert_plan, new_plan(plan, shard, changes) | head)
            else:
                row = moved_plan(plan, shard, found[0], changes) | head
                connection.execute(self._say.patch_plan, row)
            for statement in self._say.clear:
                connection.execute(statement, {"old_plan": plan})
            write_projections(connection, self._say, rows)

        self._transact(work)

    def _read(self, statement: str, asked: Mapping[str, object]) -> list[tuple[Any, ...]]:
        if not self._held:
            raise _unclaimed()
        return self._rows(statement, asked)

    def _rows(self, statement: str, asked: Mapping[str, object]) -> list[tuple[Any, ...]]:
        try:
            return self._session.connection().execute(statement, asked).fetchall()
        except sqlite3.Error as error:
            raise unavailable(error) from error

    def _keep(self, work: Work) -> None:
        if not self._held:
            raise _unclaimed()
        self._transact(work)

    def _mine(self, shard: str) -> None:
        if shard not in self._held:
            raise _unclaimed()

    def _release(self, shard: str, epoch: int) -> None:
        held = self._held.get(shard)
        if held is None or held[0] != epoch:
            return

        def work(connection: sqlite3.Connection) -> None:
            connection.execute(self._say.free_shard, {"old_id": shard, "old_epoch": epoch})

        try:
            self._transact(work)
        finally:
            del self._held[shard]
            if not self._held:
                self._close()

    def _close(self) -> None:
        self._held.clear()
        try:
            self._session.discard()
        finally:
            self._exclusion.release()


def _unclaimed() -> TheoryError:
    return TheoryError("ERR_NOT_WRITER", "this process has not become the writer")
