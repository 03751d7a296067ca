"""PostgreSQL itself refuses what no writer may do, and passes a moment later what may pass."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from theory_api.adapters.conftest import Story
from theory_api.adapters.sql.postgres.read import read_only
from theory_api.adapters.sql.postgres.tests.conftest import Making
from theory_api.adapters.sql.read import SqlReads
from theory_api.adapters.tests.conftest import refused
from theory_api.domain import events as ev
from theory_api.domain.projection import BalanceMove

COPY = "INTO ledger_event SELECT plan, {seq}, kind, at, hash, body FROM ledger_event WHERE seq = 2"


@pytest.fixture
async def ledger(store: Making, url: str, story: Story) -> str:
    """A plan of two events."""
    truth = store(url)
    epoch = await truth.claim("s0", "o1")
    await truth.append([story.created(tokens=10)], shard="s0", epoch=epoch)
    pause = story.append(ev.PlanPaused(by="local", reason="x"))
    await truth.append([pause], shard="s0", epoch=epoch)
    await truth.close()
    return story.plan


@pytest.mark.scenario(27)
@pytest.mark.parametrize(
    "statement",
    [
        r"UPDATE ledger_event SET body = '\x7b7d' WHERE seq = 1",
        "UPDATE ledger_event SET kind = kind",
        "DELETE FROM ledger_event WHERE seq = 2",
        "DELETE FROM ledger_event",
        "TRUNCATE ledger_event",
        "INSERT " + COPY.format(seq=2),
        "INSERT " + COPY.format(seq=4),
        "INSERT " + COPY.format(seq=0),
        (
            "INSERT INTO ledger_event SELECT plan, generate_series(4, 6), kind, at, hash, body"
            " FROM ledger_event WHERE seq = 2"
        ),
        (
            "INSERT INTO ledger_event SELECT 'new', generate_series(2, 3), kind, at, hash, body"
            " FROM ledger_event WHERE seq = 2"
        ),
        (
            "INSERT INTO ledger_event SELECT 'new', 2 * generate_series(0, 2) + 1, kind, at, hash,"
            " body FROM ledger_event WHERE seq = 2"
        ),
        "UPDATE balance SET reserved = -1",
        "UPDATE balance SET spent = -1",
        r"UPDATE plan SET head_hash = '\x00'",
        "UPDATE plan SET shard = 'nobody'",
        "DELETE FROM plan",
        "INSERT INTO balance VALUES ('/world/acme/ghost', 'tokens', 1, 0, 0)",
    ],
)
@pytest.mark.usefixtures("ledger")
async def test_the_database_refuses(admin: asyncpg.Connection, statement: str) -> None:
    before = await admin.fetch("SELECT * FROM ledger_event")
    with pytest.raises(asyncpg.IntegrityConstraintViolationError):
        await admin.execute(statement)
    assert await admin.fetch("SELECT * FROM ledger_event") == before


@pytest.mark.usefixtures("ledger")
async def test_a_run_of_events_that_follows_is_taken(admin: asyncpg.Connection) -> None:
    await admin.execute(
        "INSERT INTO ledger_event SELECT plan, generate_series(3, 9), kind, at, hash, body"
        " FROM ledger_event WHERE seq = 2"
    )
    assert await admin.fetchval("SELECT max(seq) FROM ledger_event") == 9


@pytest.mark.scenario(65)
async def test_a_guarded_move_that_the_writer_misjudged_is_refused_by_the_database(
    store: Making, url: str, story: Story
) -> None:
    """Scenario 65: the row is the last authority, whatever the scheduler believes."""
    truth = store(url)
    epoch = await truth.claim("s0", "o1")
    await truth.append([story.created(tokens=10)], shard="s0", epoch=epoch)
    batch = story.append(ev.PlanPaused(by="local", reason="x"))
    batch.changes.moves.append(BalanceMove("tokens", reserved=11, guarded=True))
    await refused("ERR_BUDGET_EXCEEDED", truth.append([batch], shard="s0", epoch=epoch))
    batch.changes.moves[:] = [BalanceMove("tokens", reserved=-1)]
    await refused("ERR_BUDGET_EXCEEDED", truth.append([batch], shard="s0", epoch=epoch))
    batch.changes.moves[:] = [BalanceMove("tokens", reserved=10, guarded=True)]
    await truth.append([batch], shard="s0", epoch=epoch)


@pytest.mark.scenario(13)
async def test_a_serialization_failure_is_tried_again(
    store: Making, url: str, story: Story, admin: asyncpg.Connection
) -> None:
    """Scenario 13: the whole transaction, a bounded number of times."""
    truth = store(url)
    epoch = await truth.claim("s0", "o1")
    await admin.execute("CREATE SEQUENCE tries")
    await admin.execute(
        "CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " IF nextval('tries') % 3 <> 0 THEN RAISE EXCEPTION 'again' USING ERRCODE = '40001';"
        " END IF; RETURN NULL; END $$"
    )
    await admin.execute("CREATE TRIGGER fails AFTER INSERT ON ledger_event EXECUTE FUNCTION fail()")
    await truth.append([story.created()], shard="s0", epoch=epoch)
    assert await admin.fetchval("SELECT last_value FROM tries") == 3
    assert truth.retried == 2
    assert await truth.events(story.plan) == story.stored
    await admin.execute(
        "CREATE OR REPLACE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN RAISE EXCEPTION 'again' USING ERRCODE = '40P01'; END $$"
    )
    pause = story.append(ev.PlanPaused(by="local", reason="x"))
    await refused("ERR_UNAVAILABLE", truth.append([pause], shard="s0", epoch=epoch))
    assert await truth.events(story.plan) == story.stored[:1]


async def test_a_reader_s_connection_cannot_write(url: str) -> None:
    engine = read_only(url)
    async with engine.connect() as reader:
        with pytest.raises(DBAPIError, match="read-only"):
            await reader.execute(text("INSERT INTO shard VALUES ('s', 1, 'o')"))
    await engine.dispose()


@pytest.mark.scenario(11)
async def test_a_thousand_readers_do_not_keep_the_writer_waiting(
    store: Making, url: str, story: Story
) -> None:
    """Scenario 11: the scheduler's connections are its own."""
    truth = store(url)
    epoch = await truth.claim("s0", "o1")
    await truth.append([story.created()], shard="s0", epoch=epoch)
    read = SqlReads(read_only(url))
    readers = [asyncio.create_task(read.events(story.plan)) for _ in range(1000)]
    for _ in range(20):
        pause = story.append(ev.PlanPaused(by="local", reason="x"))
        await truth.append([pause], shard="s0", epoch=epoch)
    assert not all(reader.done() for reader in readers), "they were still waiting"
    for pages in await asyncio.gather(*readers):
        assert pages == story.stored[: len(pages)]
    await read.close()


async def test_a_writer_s_session_gives_up_before_we_do(
    store: Making, url: str, story: Story, admin: asyncpg.Connection
) -> None:
    truth = store(url)
    epoch = await truth.claim("s0", "o1")
    await truth.append([story.created()], shard="s0", epoch=epoch)
    seen: dict[str, str] = {}

    async def look(connection: asyncpg.Connection) -> None:
        for name in ("statement_timeout", "lock_timeout", "synchronous_commit", "jit"):
            seen[name] = await connection.fetchval(f"SHOW {name}")

    await admin.execute("ALTER DATABASE " + url.rsplit("/", 1)[1] + " SET synchronous_commit = off")
    truth._appending.discard()
    await truth._appending.run(look)
    assert seen == {
        "statement_timeout": "10s",
        "lock_timeout": "5s",
        "synchronous_commit": "on",
        "jit": "off",
    }
