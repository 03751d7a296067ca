"""The rows of one plan made anew from what its whole ledger implies, in one transaction."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

import asyncpg

from theory_api.adapters.sql.postgres.payload import PLAN, projected
from theory_api.domain.projection import Changes
from theory_core import TheoryError

_FENCE: Final = """
SELECT 1 FROM shard WHERE id = $1 AND epoch = $2 AND owner IS NOT NULL FOR SHARE
"""
_LAST: Final = "SELECT seq, hash FROM ledger_event WHERE plan = $1 ORDER BY seq DESC LIMIT 1"
_CLEAR: Final = tuple(
    f"DELETE FROM {table} WHERE plan = $1"  # noqa: S608 - names of our own tables
    for table in ("balance", "transition", "execution", "artifact")
)
_COLUMNS: Final = ("plan", "shard", "head_seq", "head_hash", *sorted(PLAN))
_NAMES: Final = ", ".join(_COLUMNS)
_PLACES: Final = ", ".join(f"${place}" for place in range(1, len(_COLUMNS) + 1))
_SET: Final = ", ".join(f"{name} = excluded.{name}" for name in _COLUMNS[2:])
_PLAN: Final = (
    f"INSERT INTO plan ({_NAMES}) VALUES ({_PLACES}) "  # noqa: S608 - names of our own columns
    f"ON CONFLICT (plan) DO UPDATE SET {_SET}"
)
_PROJECT: Final = "SELECT theory_project($1)"


def replace(
    plan: str, changes: Changes, shard: str, epoch: int
) -> Callable[[asyncpg.Connection], Awaitable[None]]:
    """The work of `ProjectionStore.replace_projections` on a connection that appends."""

    async def work(connection: asyncpg.Connection) -> None:
        async with connection.transaction():
            if await connection.fetchval(_FENCE, shard, epoch) is None:
                raise TheoryError("ERR_NOT_WRITER", "another process has become the writer")
            last = await connection.fetchrow(_LAST, plan)
            if last is None:
                raise TheoryError("ERR_NOT_FOUND", "this plan has no events", {"plan": plan})
            for statement in _CLEAR:
                await connection.execute(statement, plan)
            given = [changes.plan[name] for name in sorted(PLAN)]
            await connection.execute(_PLAN, plan, shard, last["seq"], last["hash"], *given)
            await connection.execute(_PROJECT, projected([(plan, changes)]))

    return work
