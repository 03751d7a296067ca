"""The database itself refuses what no writer may do."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from theory_api.adapters.conftest import Story
from theory_api.adapters.files.home import Home
from theory_api.adapters.sql.read import read_only
from theory_api.adapters.sql.truth import SqliteTruth, connect
from theory_api.domain import events as ev


@pytest.fixture
async def connection(home: Home, story: Story) -> AsyncIterator[sqlite3.Connection]:
    """A connection that may write, on a ledger of two events."""
    store = SqliteTruth(home.database, home.lock())
    epoch = await store.claim("s0", "o1")
    batch = [story.created(tokens=10)]
    await store.append(batch, shard="s0", epoch=epoch)
    batch = [story.append(ev.PlanPaused(by="local", reason="x"))]
    await store.append(batch, shard="s0", epoch=epoch)
    await store.close()
    opened = connect(home.database)
    yield opened
    opened.close()


COPY = "INTO ledger_event SELECT plan, {seq}, kind, at, hash, body FROM ledger_event WHERE seq = 2"


@pytest.mark.scenario(27)
@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE ledger_event SET body = x'7b7d' WHERE seq = 1",
        "UPDATE ledger_event SET kind = kind",
        "DELETE FROM ledger_event WHERE seq = 2",
        "DELETE FROM ledger_event",
        "INSERT " + COPY.format(seq=2),
        "INSERT OR REPLACE " + COPY.format(seq=2),
        "INSERT OR IGNORE " + COPY.format(seq=2),
        "INSERT " + COPY.format(seq=4),
        "INSERT " + COPY.format(seq=0),
        "UPDATE balance SET reserved = -1",
        "UPDATE balance SET spent = -1",
        "UPDATE plan SET head_hash = x'00'",
        "UPDATE plan SET shard = 'nobody'",
        "DELETE FROM plan",
        "INSERT INTO balance VALUES ('/world/acme/ghost', 'tokens', 1, 0, 0)",
    ],
)
async def test_the_database_refuses(connection: sqlite3.Connection, statement: str) -> None:
    before = connection.execute("SELECT * FROM ledger_event").fetchall()
    with pytest.raises(sqlite3.IntegrityError):
        connection.execute(statement)
    assert connection.execute("SELECT * FROM ledger_event").fetchall() == before


async def test_the_writer_s_connection_is_durable_and_checks_references(
    connection: sqlite3.Connection,
) -> None:
    pragmas = {
        name: connection.execute(f"PRAGMA {name}").fetchone()[0]
        for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
    }
    assert pragmas == {
        "journal_mode": "wal",
        "synchronous": 2,
        "foreign_keys": 1,
        "busy_timeout": 10_000,
    }


async def test_a_reader_s_connection_cannot_write(home: Home) -> None:
    engine = read_only(home.database)
    async with engine.connect() as reader:
        with pytest.raises(OperationalError, match="readonly"):
            await reader.execute(text("INSERT INTO shard VALUES ('s', 1, 'o')"))
        with pytest.raises(OperationalError, match="readonly"):
            await reader.execute(text("UPDATE ledger_event SET seq = 1"))
    await engine.dispose()


async def test_a_reader_s_connection_moves_nothing_from_the_log_to_the_database(
    connection: sqlite3.Connection, home: Home
) -> None:
    connection.execute("INSERT INTO shard VALUES ('s1', 1, 'o')")
    before = await asyncio.to_thread(home.database.read_bytes)
    engine = read_only(home.database)
    async with engine.connect() as reader:
        with suppress(OperationalError):
            await reader.execute(text("PRAGMA wal_checkpoint(TRUNCATE)"))
        assert (await reader.execute(text("SELECT count(*) FROM shard"))).scalar_one() == 2
    await engine.dispose()
    assert await asyncio.to_thread(home.database.read_bytes) == before
