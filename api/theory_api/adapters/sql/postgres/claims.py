"""Who may append to a shard: a lease that is renewed, and an epoch that only rises."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

import asyncpg

from theory_core import TheoryError

LEASE: Final = timedelta(seconds=5)
"""An owner that has not renewed for this long may be replaced."""

LOCK_TIMEOUT: Final = "SET LOCAL lock_timeout = '2s'"

_SHARD: Final = "INSERT INTO shard (id, epoch) VALUES ($1, 0) ON CONFLICT DO NOTHING"
_HELD: Final = """
SELECT owner, backend, renewed_at >= clock_timestamp() - $2::interval AS alive
FROM shard_lease WHERE shard = $1
"""
_LEASE: Final = """
INSERT INTO shard_lease AS l (shard, epoch, owner, backend, renewed_at)
VALUES ($1, 0, $2, $3, clock_timestamp())
ON CONFLICT (shard) DO UPDATE
SET owner = excluded.owner, backend = excluded.backend, renewed_at = excluded.renewed_at
WHERE l.owner = excluded.owner OR l.renewed_at < clock_timestamp() - $4::interval
RETURNING shard
"""
_RAISE: Final = "UPDATE shard SET epoch = epoch + 1, owner = $2 WHERE id = $1 RETURNING epoch"
_SIGN: Final = "UPDATE shard_lease SET epoch = $2 WHERE shard = $1"
_RENEW: Final = """
UPDATE shard_lease SET renewed_at = clock_timestamp() WHERE shard = $1 AND epoch = $2
"""
_FREE: Final = "UPDATE shard SET owner = NULL WHERE id = $1 AND epoch = $2"
_DROP: Final = "DELETE FROM shard_lease WHERE shard = $1 AND epoch = $2"
_MOVE: Final = "UPDATE shard_lease SET backend = pg_backend_pid() WHERE shard = $1 AND epoch = $2"
_END: Final = """
SELECT pg_terminate_backend(pid, 2000) FROM pg_stat_activity
WHERE pid = $1 AND application_name = $2
"""
_CURRENT: Final = "SELECT epoch FROM shard WHERE id = $1"

Connection = asyncpg.Connection


async def take(
    connection: Connection, shard: str, owner: str, backend: int, lease: timedelta
) -> int:
    """Raise the epoch for `owner`, whose appends come from `backend`; the new epoch.

    Raises `TheoryError` `ERR_NOT_WRITER` while somebody else's lease is fresh, and the server's
    `lock_not_available` when the last owner's transaction holds the shard for too long.
    """
    async with connection.transaction():
        await connection.execute(LOCK_TIMEOUT)
        await connection.execute(_SHARD, shard)
        if not await connection.fetchval(_LEASE, shard, owner, backend, lease):
            message = "another process writes to this shard"
            raise TheoryError("ERR_NOT_WRITER", message, {"shard": shard})
        epoch: int = await connection.fetchval(_RAISE, shard, owner)
        await connection.execute(_SIGN, shard, epoch)
    return epoch


async def stale_backend(
    connection: Connection, shard: str, owner: str, lease: timedelta
) -> int | None:
    """The server process that an owner left behind whose lease is over, if there was one."""
    held = await connection.fetchrow(_HELD, shard, lease)
    if held is None or held["owner"] == owner or held["alive"]:
        return None
    backend: int = held["backend"]
    return backend


async def renew(connection: Connection, shard: str, epoch: int) -> None:
    """Stay the owner for another lease; `ERR_NOT_WRITER` when the epoch is over."""
    if await connection.execute(_RENEW, shard, epoch) == "UPDATE 0":
        raise await lost(connection, shard, epoch)


async def lost(connection: Connection, shard: str, epoch: int) -> TheoryError:
    """The refusal of a writer whose epoch is over, with the present one."""
    current = await connection.fetchval(_CURRENT, shard)
    detail = {"shard": shard, "epoch": epoch, "current": current}
    return TheoryError("ERR_NOT_WRITER", "another process has become the writer", detail)


async def free(connection: Connection, shard: str, epoch: int) -> None:
    """Give a shard up, if it is still held under this epoch."""
    async with connection.transaction():
        await connection.execute(LOCK_TIMEOUT)
        await connection.execute(_FREE, shard, epoch)
        await connection.execute(_DROP, shard, epoch)


async def moved(connection: Connection, shard: str, epoch: int) -> None:
    """Tell which server process appends from now on."""
    await connection.execute(_MOVE, shard, epoch)


async def end(connection: Connection, backend: int, name: str) -> None:
    """Have a server process of ours ended, with whatever it was doing; waits up to 2 s for it.

    Law: its transaction is over afterwards, committed or not; `ERR_UNAVAILABLE` if it is not.
    """
    if await connection.fetchval(_END, backend, name) is False:
        message = "a session of the last writer does not end"
        raise TheoryError("ERR_UNAVAILABLE", message, {"reason": "backend"})
