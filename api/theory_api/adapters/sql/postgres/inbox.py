"""The durable inbox in PostgreSQL: rows between replicas, answered under the shard's epoch."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any, Final

from theory_api.adapters.sql.postgres.asking import Asking
from theory_api.adapters.sql.postgres.line import DEADLINE_S
from theory_api.ports.inbox import InboxRow, Reply
from theory_api.ports.truth import INBOX, IdempotencyRow
from theory_core import TheoryError

_PUT: Final = """
INSERT INTO inbox (id, shard, plan, command, scope, key, body, replay, created_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, clock_timestamp()) ON CONFLICT (id) DO NOTHING
"""
_PENDING: Final = """
SELECT id, shard, plan, command, scope, key, body, replay FROM inbox
WHERE shard = $1 AND answered_at IS NULL ORDER BY created_at, id LIMIT $2
"""
# The shard's row is locked against a takeover until the reply is committed.
_ANSWER: Final = """
WITH fence AS (
  SELECT FROM shard WHERE id = $4 AND epoch = $5 AND owner IS NOT NULL FOR SHARE
), told AS (
  UPDATE inbox SET answer = $2, error = $3, answered_at = clock_timestamp()
  WHERE id = $1 AND answered_at IS NULL AND EXISTS (SELECT FROM fence)
)
SELECT EXISTS (SELECT FROM fence)
"""
_REPLY: Final = """
SELECT answer, error FROM inbox WHERE id = $1 AND (answer IS NOT NULL OR error IS NOT NULL)
"""
# The row stays until a sweep: what its command made happen once may be committed meanwhile.
_WITHDRAW: Final = """
UPDATE inbox SET answered_at = clock_timestamp() WHERE id = $1 AND answered_at IS NULL
"""
_SWEEP: Final = """
WITH gone AS (
  DELETE FROM inbox WHERE shard = $1 AND answered_at < clock_timestamp() - $2::interval
  RETURNING id
), once AS (
  DELETE FROM idempotency WHERE scope = $3 AND key IN (SELECT id FROM gone)
)
SELECT count(*) FROM gone
"""


class PostgresInbox:
    """Implements `theory_api.ports.inbox.Inbox`.

    What is asked and what is answered go over connections of their own: neither waits for the
    other.
    """

    def __init__(self, url: str, *, deadline_s: float = DEADLINE_S) -> None:
        self._asking = Asking(url, "theory-inbox", deadline_s=deadline_s)
        self._owning = Asking(url, "theory-inbox", deadline_s=deadline_s)

    async def put(self, row: InboxRow) -> None:
        """Store a row."""
        once = row.idempotency
        key = (None,) * 4 if once is None else (once.scope, once.key, once.body, once.answer)
        await self._asking.rows(_PUT, row.id, row.shard, row.plan, row.command, *key)

    async def pending(self, shard: str, *, limit: int) -> list[InboxRow]:
        """Rows without a reply, in the order in which they arrived."""
        return [_row(*found) for found in await self._owning.rows(_PENDING, shard, limit)]

    async def answer(self, ident: str, reply: Reply, *, shard: str, epoch: int) -> None:
        """Reply to a row, as the owner of the present epoch."""
        given = (ident, reply.answer, reply.error, shard, epoch)
        if not await self._owning.value(_ANSWER, *given):
            message = "another process has become the writer"
            raise TheoryError("ERR_NOT_WRITER", message, {"shard": shard, "epoch": epoch})

    async def reply(self, ident: str) -> Reply | None:
        """The reply, once there is one."""
        found = await self._asking.rows(_REPLY, ident)
        return Reply(*found[0]) if found else None

    async def withdraw(self, ident: str) -> None:
        """Let nobody take a row that has no reply."""
        await self._asking.rows(_WITHDRAW, ident)

    async def sweep(self, shard: str, *, older_s: float) -> int:
        """Remove rows answered or withdrawn longer ago than that."""
        count: int = await self._owning.value(_SWEEP, shard, timedelta(seconds=older_s), INBOX)
        return count

    async def close(self) -> None:
        """Close both connections."""
        await asyncio.gather(self._asking.close(), self._owning.close())


def _row(ident: str, shard: str, plan: str, command: bytes, scope: Any, *rest: Any) -> InboxRow:  # noqa: ANN401
    once = None if scope is None else IdempotencyRow(scope, *rest)
    return InboxRow(id=ident, shard=shard, plan=plan, command=command, idempotency=once)
