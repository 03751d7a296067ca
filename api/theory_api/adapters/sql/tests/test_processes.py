"""What holds between processes: one writer, readers beside it, nothing lost at a kill."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sqlite3
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from theory_api.adapters.files.home import Home
from theory_api.adapters.sql.read import SqlReads, read_only
from theory_api.adapters.sql.truth import SqliteTruth
from theory_api.domain.kinds import from_data
from theory_api.domain.projection import project
from theory_api.ports.truth import ReadModel, StoredEvent
from theory_core import TheoryError, event_hash


class Wire(msgspec.Struct):
    """The members of a stored event that its projection needs."""

    data: dict[str, object]


decode = msgspec.json.Decoder(Wire).decode
WRITER = Path(__file__).with_name("writer_process.py")


@asynccontextmanager
async def writing(
    home: Home, said: list[bytes] | None = None
) -> AsyncIterator[asyncio.subprocess.Process]:
    """A process that appends, from its first append to its kill; `said` gets its output then."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(WRITER), str(home.root), stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        first = await process.stdout.readline()
        assert first.startswith(b"ready")
        yield process
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGKILL)
        # What nobody reads would keep its pipe open, and `wait` waiting, for good.
        rest, _ = await process.communicate()
        if said is not None:
            said.append(rest)


async def all_events(read: ReadModel, plan: str) -> list[StoredEvent]:
    found: list[StoredEvent] = []
    while page := await read.events(plan, after=len(found), limit=100):
        found += page
    return found


async def check(read: ReadModel, acknowledged: dict[str, int], process: int) -> None:
    """Law: a sound, unbroken chain in each plan, nothing acknowledged missing, no half batch."""
    plans = {row.plan: row for row in await read.plans(limit=100_000)}
    assert acknowledged.keys() <= plans.keys()
    for plan, row in plans.items():
        if f"/p{process}-" not in plan:
            continue
        events = await all_events(read, plan)
        assert [event.seq for event in events] == list(range(1, len(events) + 1))
        previous: str | None = None
        for event in events:
            assert event_hash(previous, event.body) == event.hash
            previous = event.hash
        assert (row.head_seq, row.head_hash) == (len(events), previous)
        assert len(events) >= acknowledged.get(plan, 0)
        open_work = [line for line in await read.balance(plan) if line.reserved]
        assert open_work == []


@pytest.mark.scenario(5)
async def test_a_second_writer_is_refused_and_told_who_writes(home: Home) -> None:
    async with writing(home) as process:
        rival = SqliteTruth(home.database, home.lock())
        with pytest.raises(TheoryError) as caught:
            await rival.claim("s0", "o2")
        assert caught.value.code == "ERR_NOT_WRITER"
        assert caught.value.detail["pid"] == process.pid
        assert f"process {process.pid} writes to" in caught.value.message
        assert "--home" in caught.value.message
    assert await rival.claim("s0", "o2") == 2
    await rival.close()


async def test_a_home_and_a_database_elsewhere_are_locked_both(home: Home, tmp_path: Path) -> None:
    async with writing(home):
        other = Home(tmp_path)
        rival = SqliteTruth(home.database, other.lock(home.database))
        with pytest.raises(TheoryError) as caught:
            await rival.claim("s0", "o2")
        assert caught.value.code == "ERR_NOT_WRITER"


@pytest.mark.scenario(14)
async def test_readers_beside_a_running_writer_see_whole_batches_only(home: Home) -> None:
    async with writing(home) as process:
        read = SqlReads(read_only(home.database))
        seen, began = 0, time.monotonic()
        # The home grows meanwhile: on a busy machine fewer rounds tell as much.
        while seen < 20 or (seen < 200 and time.monotonic() - began < 30):
            plans = await read.plans(limit=1000)
            heads = {row.plan: row.head_seq for row in plans}
            newest = list(heads)[-3:]
            pages = await asyncio.gather(*(all_events(read, plan) for plan in newest))
            for plan in newest:
                assert [line.reserved for line in await read.balance(plan)] == [0]
            for plan, events in zip(newest, pages, strict=True):
                assert [event.seq for event in events] == list(range(1, len(events) + 1))
                assert len(events) >= heads[plan]
            seen += 1
        assert process.returncode is None
        assert len(await read.plans(limit=1000)) > 3
        await read.close()


async def kill_and_check(home: Home, seed: int, rounds: int) -> None:
    """Kill a writer at random moments; each next one goes on in the same home."""
    print("seed", seed)  # noqa: T201 - shown when the test fails
    draw = random.Random(seed)  # noqa: S311 - moments, not secrets
    acknowledged: dict[str, int] = {}
    for _ in range(rounds):
        said: list[bytes] = []
        async with writing(home, said) as process:
            await asyncio.sleep(draw.uniform(0, 0.15))
        for line in said[0].splitlines(keepends=True):
            if line.endswith(b"\n"):
                plan, seq = line.decode().split()
                acknowledged[plan] = int(seq)
        read = SqlReads(read_only(home.database))
        await check(read, acknowledged, process.pid)
        await read.close()
    assert acknowledged
    await check_rebuild(home)


async def check_rebuild(home: Home) -> None:
    """Law: projections computed anew from the ledger are those that were there."""
    store = SqliteTruth(home.database, home.lock())
    epoch = await store.claim("s0", "o9")
    read = SqlReads(read_only(home.database))
    before = await asyncio.to_thread(projections, home.database)
    for row in (await read.plans(limit=100_000))[-50:]:
        told = [
            (event.seq, event.at, from_data(event.kind, decode(event.body).data))
            for event in await all_events(read, row.plan)
        ]
        changes = project(row.plan, told)
        await store.replace_projections(row.plan, changes, shard="s0", epoch=epoch)
    assert await asyncio.to_thread(projections, home.database) == before
    await read.close()
    await store.close()


def projections(database: Path) -> dict[str, list[object]]:
    """Every row of every projected table."""
    connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True)
    tables = ("plan", "balance", "transition", "execution", "artifact")
    found = {
        table: connection.execute(f'SELECT * FROM "{table}" ORDER BY 1, 2').fetchall()  # noqa: S608
        for table in tables
    }
    connection.close()
    return found


@pytest.mark.scenario(3)
async def test_a_killed_writer_leaves_what_it_acknowledged_and_no_half_batch(home: Home) -> None:
    await kill_and_check(home, random.SystemRandom().randrange(2**32), rounds=4)


@pytest.mark.scenario(3)
@pytest.mark.slow
@pytest.mark.timeout(900)
async def test_many_killed_writers_leave_what_they_acknowledged(home: Home) -> None:
    rounds = int(os.environ.get("THEORY_KILLS", "100"))
    await kill_and_check(home, random.SystemRandom().randrange(2**32), rounds=rounds)


async def test_a_writer_killed_between_two_commits_is_replaced_with_a_higher_epoch(
    home: Home,
) -> None:
    for expected in (1, 2, 3):
        process = await asyncio.create_subprocess_exec(
            sys.executable, str(WRITER), str(home.root), stdout=asyncio.subprocess.PIPE
        )
        assert process.stdout is not None
        assert await process.stdout.readline() == b"ready %d\n" % expected
        process.kill()
        await process.communicate()
