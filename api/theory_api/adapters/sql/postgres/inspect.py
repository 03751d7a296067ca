"""What a PostgreSQL server says of itself, for people who wonder whether it will do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import asyncpg

from theory_api.adapters.sql.models import HEAD
from theory_api.adapters.sql.postgres.claims import LEASE
from theory_api.adapters.sql.postgres.faults import Unanswered, unavailable
from theory_api.adapters.sql.postgres.line import CONNECT_S
from theory_api.adapters.sql.postgres.migrate import schema_version

_SETTINGS: Final = """
SELECT name || ' = ' || setting FROM pg_settings
WHERE name IN ('fsync', 'full_page_writes') AND setting = 'off' ORDER BY name
"""
_PLANS: Final = "SELECT count(*) FROM plan"
_SHARDS: Final = "SELECT value::int FROM constant WHERE name = 'shards'"
_OWNERS: Final = """
SELECT shard, owner FROM shard_lease WHERE renewed_at >= clock_timestamp() - $1::interval
"""


@dataclass(frozen=True, slots=True)
class Seen:
    """A server and its database."""

    version: str
    """E.g. `PostgreSQL 15.18`."""
    unsafe: tuple[str, ...]
    """Settings with which a commit may be lost, e.g. `fsync = off`."""
    plans: int | None
    """None while there are no tables."""
    shards: int | None = None
    """None before the first scheduler, and in a database of another version."""
    owners: Mapping[str, str] = field(default_factory=dict)
    """Shards whose lease is fresh, and who owns them."""


async def inspect(url: str) -> Seen:
    """Look, and change nothing. Raises `TheoryError` as `schema_version`."""
    version = await schema_version(url)
    shards, owners = None, dict[str, str]()
    try:
        connection = await asyncpg.connect(url, timeout=CONNECT_S)
        try:
            unsafe = tuple(row[0] for row in await connection.fetch(_SETTINGS))
            plans = None if version is None else await connection.fetchval(_PLANS)
            if version == HEAD:
                shards = await connection.fetchval(_SHARDS)
                leases = await connection.fetch(_OWNERS, LEASE)
                owners = {row["shard"]: row["owner"] for row in leases}
            server = await connection.fetchval("SHOW server_version")
        finally:
            await connection.close()
    except Unanswered as error:
        raise unavailable(error) from error
    return Seen(f"PostgreSQL {server.split()[0]}", unsafe, plans, shards, owners)
