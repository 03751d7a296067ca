"""Brings a PostgreSQL database to the tables of this version, by its migrations."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Final

import asyncpg
from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from theory_api.adapters.sql.models import HEAD
from theory_api.adapters.sql.postgres.faults import Unanswered, unavailable
from theory_api.adapters.sql.postgres.line import CONNECT_S
from theory_api.adapters.sql.upgrade import other_version, run_migrations
from theory_core import TheoryError

_TABLES: Final = """
SELECT tablename FROM pg_tables WHERE schemaname = current_schema()
"""
_VERSION: Final = "SELECT version_num FROM alembic_version"
_ALONE: Final = "SELECT pg_advisory_xact_lock(hashtext('theory.migrations'))"


async def schema_version(url: str) -> str | None:
    """The migration that a database is at; None for an empty one.

    Raises `TheoryError` `ERR_CONFLICT` for a database of something else, `ERR_UNAVAILABLE`.
    """
    try:
        connection = await asyncpg.connect(url, timeout=CONNECT_S)
        try:
            tables = {row[0] for row in await connection.fetch(_TABLES)}
            if "alembic_version" not in tables:
                if tables:
                    raise _foreign()
                return None
            found: str | None = await connection.fetchval(_VERSION)
        finally:
            await connection.close()
    except Unanswered as error:
        raise unavailable(error) from error
    if found is None and len(tables) > 1:
        raise _foreign()
    return found


async def require_current(url: str) -> None:
    """Refuse a database that this version cannot read.

    Raises `TheoryError` `ERR_NOT_FOUND` when it is empty, `ERR_CONFLICT` for one of another
    version, and what `schema_version` raises.
    """
    version = await schema_version(url)
    if version is None:
        message = "there is no state here yet: the database is empty"
        raise TheoryError("ERR_NOT_FOUND", message)
    if version != HEAD:
        raise other_version(version)


async def upgrade(url: str, migrations: Path) -> None:
    """Make the tables, or bring them to this version; one process at a time, whoever begins.

    All of it is one transaction. Raises `TheoryError` as `schema_version`, and `ERR_CONFLICT` for
    a database of a newer version.
    """
    if await schema_version(url) != HEAD:
        await migrate(url, migrations, HEAD)


async def migrate(url: str, migrations: Path, revision: str) -> None:
    """Run migrations up or down to a revision."""
    engine = engine_of(url)

    def work(connection: Connection) -> None:
        connection.exec_driver_sql(_ALONE)
        run_migrations({"connection": connection}, migrations, revision, current(connection))

    try:
        async with engine.begin() as connection:
            await connection.run_sync(work)
    except SQLAlchemyError as error:
        raise unavailable(getattr(error, "orig", None) or error) from error
    finally:
        await engine.dispose()


def current(connection: Connection) -> str | None:
    """The migration that the database of a connection is at."""
    tables = {row[0] for row in connection.exec_driver_sql(_TABLES)}
    if "alembic_version" not in tables:
        return None
    found = connection.exec_driver_sql(_VERSION).fetchone()
    return None if found is None else str(found[0])


def engine_of(url: str) -> AsyncEngine:
    """An engine without a pool over the same address that the driver takes."""

    async def connect() -> asyncpg.Connection:
        async with asyncio.timeout(CONNECT_S + 1):
            return await asyncpg.connect(url, timeout=CONNECT_S)

    return create_async_engine("postgresql+asyncpg://", async_creator=connect, poolclass=NullPool)


def _foreign() -> TheoryError:
    return TheoryError("ERR_CONFLICT", "this is not a Theory database; it stays untouched")
