"""What a PostgreSQL server says of itself, for people who wonder whether it will do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import asyncpg

from theory_api.adapters.sql.postgres.faults import Unanswered, unavailable
from theory_api.adapters.sql.postgres.line import CONNECT_S
from theory_api.adapters.sql.postgres.migrate import schema_version

_SETTINGS: Final = """
SELECT name || ' = ' || setting FROM pg_settings
WHERE name IN ('fsync', 'full_page_writes') AND setting = 'off' ORDER BY name
"""
_PLANS: Final = "SELECT count(*) FROM plan"


@dataclass(frozen=True, slots=True)
class Seen:
    """A server and its database."""

    version: str
    """E.g. `PostgreSQL 15.18`."""
    unsafe: tuple[str, ...]
    """Settings with which a commit may be lost, e.g. `fsync = off`."""
    plans: int | None
    """None while there are no tables."""


async def inspect(url: str) -> Seen:
    """Look, and change nothing. Raises `TheoryError` as `schema_version`."""
    version = await schema_version(url)
    try:
        connection = await asyncpg.connect(url, timeout=CONNECT_S)
        try:
            unsafe = tuple(row[0] for row in await connection.fetch(_SETTINGS))
            plans = None if version is None else await connection.fetchval(_PLANS)
            server = await connection.fetchval("SHOW server_version")
        finally:
            await connection.close()
    except Unanswered as error:
        raise unavailable(error) from error
    return Seen(f"PostgreSQL {server.split()[0]}", unsafe, plans)
