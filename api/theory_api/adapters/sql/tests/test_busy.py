"""A file that many use at once: readers never cost a write, a lock of somebody else costs time."""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path

import pytest

from theory_api.adapters.conftest import Story
from theory_api.adapters.files.home import Home
from theory_api.adapters.sql.truth import SqliteTruth, connect
from theory_api.adapters.tests.conftest import refused
from theory_api.domain import events as ev
from theory_api.ports.truth import Append
from theory_core import verify


def pause(story: Story) -> Append:
    return story.append(ev.PlanPaused(by="local", reason="x"))


def look(database: Path, over: threading.Event, seen: list[int], faults: list[Exception]) -> None:
    """Read in transactions of its own until told to stop."""
    connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True, isolation_level=None)
    try:
        while not over.is_set():
            connection.execute("BEGIN")
            (count,) = connection.execute("SELECT count(*) FROM ledger_event").fetchone()
            (head,) = connection.execute("SELECT head_seq FROM plan").fetchone()
            connection.execute("COMMIT")
            assert count == head, "a reader sees whole batches"
            seen.append(count)
    except (sqlite3.Error, AssertionError) as error:
        faults.append(error)
    finally:
        connection.close()


@pytest.mark.scenario(14)
async def test_fifty_readers_of_the_file_cost_no_write_and_break_nothing(
    home: Home, story: Story
) -> None:
    store = SqliteTruth(home.database, home.lock())
    epoch = await store.claim("s0", "o1")
    await store.append([story.created(tokens=10)], shard="s0", epoch=epoch)
    over, seen, faults = threading.Event(), list[int](), list[Exception]()
    readers = [
        threading.Thread(target=look, args=(home.database, over, seen, faults)) for _ in range(50)
    ]
    for reader in readers:
        reader.start()
    try:
        for _ in range(25):
            await store.append([pause(story) for _ in range(3)], shard="s0", epoch=epoch)
    finally:
        over.set()
        for reader in readers:
            reader.join()
    assert faults == []
    assert len(seen) >= 50
    assert await store.events(story.plan) == story.stored
    assert verify(story.export(), expect_head=(story.seq, story.stored[-1].hash)).anchored
    await store.close()
    with sqlite3.connect(home.database) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    connection.close()


@pytest.mark.scenario(14)
async def test_a_lock_of_somebody_else_is_waited_for_then_refused_and_nothing_is_lost(
    home: Home, story: Story
) -> None:
    def impatient(database: Path) -> sqlite3.Connection:
        connection = connect(database)
        connection.execute("PRAGMA busy_timeout = 200").close()
        return connection

    store = SqliteTruth(home.database, home.lock(), opening=impatient)
    epoch = await store.claim("s0", "o1")
    await store.append([story.created(tokens=10)], shard="s0", epoch=epoch)
    somebody = sqlite3.connect(home.database, isolation_level=None)
    somebody.execute("BEGIN IMMEDIATE")
    batch = [pause(story)]
    error = await refused("ERR_UNAVAILABLE", store.append(batch, shard="s0", epoch=epoch))
    assert error.detail["reason"] == "SQLITE_BUSY"
    somebody.execute("ROLLBACK")
    somebody.close()
    await store.append(batch, shard="s0", epoch=epoch)
    assert await store.events(story.plan) == story.stored
    await store.close()
