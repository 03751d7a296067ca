"""Readers get along: with each other, with callers that leave, with files that are not there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from theory_api.adapters.conftest import Story
from theory_api.adapters.files.home import Home, open_home
from theory_api.adapters.sql.read import SqlReads, read_only
from theory_api.adapters.sql.truth import SqliteTruth
from theory_api.adapters.sql.upgrade import upgrade
from theory_api.domain import events as ev
from theory_core import TheoryError


@pytest.fixture
async def read(home: Home, story: Story) -> AsyncIterator[SqlReads]:
    """A reader beside a writer that has written 500 events and goes on holding the home."""
    store = SqliteTruth(home.database, home.lock())
    epoch = await store.claim("s0", "o1")
    await store.append([story.created(tokens=10)], shard="s0", epoch=epoch)
    more = story.append(*(ev.PlanPaused(by="local", reason="x" * 300) for _ in range(499)))
    await store.append([more], shard="s0", epoch=epoch)
    made = SqlReads(read_only(home.database))
    yield made
    await made.close()
    await store.close()


@pytest.mark.scenario(14)
async def test_fifty_readers_at_once_all_get_their_answer(read: SqlReads, story: Story) -> None:
    answers = await asyncio.gather(*(read.events(story.plan) for _ in range(50)))
    assert all(answer == story.stored for answer in answers)


@pytest.mark.scenario(10)
async def test_readers_that_leave_in_the_middle_disturb_nobody(
    read: SqlReads, story: Story
) -> None:
    for turn in range(60):
        leaving = [asyncio.create_task(read.events(story.plan)) for _ in range(6)]
        await asyncio.sleep(turn / 5000)
        for task in leaving:
            task.cancel()
        await asyncio.wait(leaving)
        assert len(await read.events(story.plan)) == 500


async def test_a_database_that_is_not_there_is_unavailable_and_is_not_made(
    tmp_path: Path,
) -> None:
    database = tmp_path / "none.db"
    read = SqlReads(read_only(database))
    for asking in (read.plans(), read.plan("/world/acme/p1"), read.events("/world/acme/p1")):
        with pytest.raises(TheoryError) as caught:
            await asking
        assert caught.value.code == "ERR_UNAVAILABLE"
        assert caught.value.detail == {"reason": "SQLITE_CANTOPEN"}
    await read.close()
    assert not await asyncio.to_thread(database.exists)


async def test_a_reader_reads_on_after_the_writer_left(home: Home, story: Story) -> None:
    store = SqliteTruth(home.database, home.lock())
    read = SqlReads(read_only(home.database))
    for turn in range(3):
        epoch = await store.claim("s0", "o1")
        share = story.created() if turn == 0 else story.append(ev.PlanPaused(by="x", reason="y"))
        await store.append([share], shard="s0", epoch=epoch)
        assert await read.events(story.plan) == story.stored
        await store.release("s0", epoch)
        assert await read.events(story.plan) == story.stored
        fresh = SqlReads(read_only(home.database))
        assert await fresh.events(story.plan) == story.stored
        await fresh.close()
    await read.close()
    await store.close()


async def test_a_home_with_any_name_can_be_used(
    tmp_path: Path, migrations: Path, story: Story
) -> None:

    home = open_home(tmp_path / "a b?c#d%41é&mode=rwc")
    await upgrade(home.database, migrations, home.lock())
    store = SqliteTruth(home.database, home.lock())
    epoch = await store.claim("s0", "o1")
    await store.append([story.created()], shard="s0", epoch=epoch)
    read = SqlReads(read_only(home.database))
    assert await read.events(story.plan) == story.stored
    await read.close()
    await store.close()
    assert sorted(path.name for path in await asyncio.to_thread(_all, tmp_path)) == [home.root.name]


def _all(folder: Path) -> list[Path]:
    return list(folder.iterdir())
