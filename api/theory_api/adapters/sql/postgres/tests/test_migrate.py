"""The migrations on a real PostgreSQL: up, down, up, and one at a time."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection

from theory_api.adapters.conftest import MIGRATIONS
from theory_api.adapters.sql.models import HEAD, Base
from theory_api.adapters.sql.postgres import migrate
from theory_api.adapters.sql.postgres.inspect import inspect
from theory_api.adapters.tests.conftest import refused
from theory_api.tests.postgres import Cluster

SCHEMA = """
SELECT 'column ' || table_name || '.' || column_name || ' ' || data_type || ' ' || is_nullable
  || coalesce(' ' || collation_name, '')
FROM information_schema.columns WHERE table_schema = 'public'
UNION ALL SELECT 'constraint ' || conname || ' ' || pg_get_constraintdef(oid)
FROM pg_constraint WHERE connamespace = 'public'::regnamespace
UNION ALL SELECT 'trigger ' || pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal
UNION ALL SELECT 'function ' || pg_get_functiondef(oid)
FROM pg_proc WHERE pronamespace = 'public'::regnamespace
UNION ALL SELECT indexdef FROM pg_indexes WHERE schemaname = 'public'
UNION ALL SELECT 'options ' || relname || ' ' || array_to_string(reloptions, ' ')
FROM pg_class WHERE relnamespace = 'public'::regnamespace AND reloptions IS NOT NULL
ORDER BY 1
"""


async def schema(url: str) -> list[str]:
    connection = await asyncpg.connect(url)
    found = [row[0] for row in await connection.fetch(SCHEMA)]
    await connection.close()
    return found


async def test_up_down_up_ends_where_it_began(postgres: Cluster) -> None:
    url = postgres.database()
    assert await migrate.schema_version(url) is None
    await migrate.upgrade(url, MIGRATIONS)
    first = await schema(url)
    assert any("theory_append" in line for line in first)
    await migrate.migrate(url, MIGRATIONS, "base")
    assert not [line for line in await schema(url) if "alembic_version" not in line]
    await migrate.upgrade(url, MIGRATIONS)
    assert await schema(url) == first
    assert await migrate.schema_version(url) == HEAD


async def test_the_functions_of_the_version_before_come_back(postgres: Cluster) -> None:
    url = postgres.database()
    await migrate.migrate(url, MIGRATIONS, "0004")
    before = await schema(url)
    await migrate.upgrade(url, MIGRATIONS)
    assert any("theory_append_one" in line for line in await schema(url))
    await migrate.migrate(url, MIGRATIONS, "0004")
    assert await schema(url) == before


async def test_the_migrated_tables_are_those_of_the_models(url: str) -> None:
    def compare(connection: Connection) -> list[object]:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        return list(compare_metadata(context, Base.metadata))

    engine = migrate.engine_of(url)
    async with engine.connect() as connection:
        assert await connection.run_sync(compare) == []
    await engine.dispose()


async def test_many_that_start_at_once_upgrade_once(postgres: Cluster) -> None:
    url = postgres.database()
    await asyncio.gather(*(migrate.upgrade(url, MIGRATIONS) for _ in range(4)))
    assert await migrate.schema_version(url) == HEAD


async def test_a_database_of_something_else_stays_untouched(postgres: Cluster) -> None:
    url = postgres.database()
    connection = await asyncpg.connect(url)
    await connection.execute("CREATE TABLE diary (day text)")
    before = await schema(url)
    await refused("ERR_CONFLICT", migrate.upgrade(url, MIGRATIONS))
    await refused("ERR_CONFLICT", migrate.require_current(url))
    assert await schema(url) == before
    await connection.close()


async def test_other_versions_and_empty_databases_are_told_apart(
    postgres: Cluster, url: str, admin: asyncpg.Connection
) -> None:
    await migrate.require_current(url)
    assert (await inspect(url)).plans == 0
    await admin.execute("UPDATE alembic_version SET version_num = '9999'")
    await refused("ERR_CONFLICT", migrate.require_current(url))
    await refused("ERR_CONFLICT", migrate.upgrade(url, MIGRATIONS))
    empty = postgres.database()
    await refused("ERR_NOT_FOUND", migrate.require_current(empty))
    seen = await inspect(empty)
    assert seen.plans is None
    assert "fsync = off" in seen.unsafe


@pytest.mark.parametrize("where", ["127.0.0.1:1", "127.0.0.1"])
async def test_a_server_that_is_not_there_is_unavailable(where: str) -> None:
    url = f"postgresql://nobody@{where}/nothing"
    await refused("ERR_UNAVAILABLE", migrate.upgrade(url, MIGRATIONS))
