"""Every operation of an append fails once: the batch is whole or absent, and the next one works."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from theory_api.adapters.conftest import Story
from theory_api.adapters.files.home import Home
from theory_api.adapters.sql.truth import SqliteTruth, connect
from theory_api.domain import events as ev
from theory_api.ports.truth import Append, IdempotencyRow
from theory_core import TheoryError, verify


@dataclass
class Plan:
    """Which operation of the connection fails, counted from when it is armed."""

    fails_at: int = 0
    after_it_was_done: bool = False
    and_rollback_too: bool = False
    count: int = 0
    opened: int = 0

    def arm(self, number: int, *, done: bool = False, rollback: bool = False) -> None:
        """Have the operation of this number fail; done, but not answered, if asked."""
        self.fails_at, self.after_it_was_done, self.and_rollback_too = number, done, rollback
        self.count = 0

    @property
    def reached(self) -> bool:
        """Whether it failed."""
        return self.count >= self.fails_at


class Failing:
    """A connection that forwards everything, until the plan says otherwise."""

    def __init__(self, real: sqlite3.Connection, plan: Plan) -> None:
        self._real = real
        self._plan = plan

    def _do(self, work: Callable[..., Any], statement: str, *given: object) -> Any:  # noqa: ANN401
        plan = self._plan
        plan.count += 1
        if plan.and_rollback_too and plan.count > plan.fails_at > 0 and statement == "ROLLBACK":
            raise sqlite3.OperationalError
        if plan.count != plan.fails_at:
            return work(statement, *given)
        if plan.after_it_was_done:
            work(statement, *given)
        raise sqlite3.OperationalError

    def execute(self, statement: str, *given: object) -> Any:  # noqa: ANN401
        return self._do(self._real.execute, statement, *given)

    def executemany(self, statement: str, rows: Iterable[object]) -> Any:  # noqa: ANN401
        return self._do(self._real.executemany, statement, rows)

    @property
    def in_transaction(self) -> bool:
        return self._real.in_transaction

    def close(self) -> None:
        self._real.close()


@pytest.fixture
def plan() -> Plan:
    return Plan()


@pytest.fixture
def store(home: Home, plan: Plan) -> SqliteTruth:
    def opening(database: Path) -> Any:  # noqa: ANN401 - stands in for a connection
        plan.opened += 1
        return Failing(connect(database), plan)

    return SqliteTruth(home.database, home.lock(), opening=opening)


REQUEST = IdempotencyRow("acme", "k", "b3:0", b"{}")


def rich(story: Story) -> Append:
    """A batch that touches every table."""
    hold = {"tokens": 4}
    return story.append(
        story.proposed("b"),
        *story.started("b", **hold),
        *story.settled("b", hold=hold, actual=hold),
        ev.TransitionSkipped(transition="a", because="b"),
    )


async def attempt(store: SqliteTruth, batch: Append, epoch: int) -> bool:
    """Whether the append said that it is there."""
    try:
        await store.append([batch], shard="s0", epoch=epoch, idempotency=[REQUEST])
    except TheoryError as error:
        if error.code != "ERR_UNAVAILABLE":
            raise
        return False
    return True


@pytest.mark.scenario(3, 8)
@pytest.mark.parametrize("done", [False, True])
@pytest.mark.parametrize("rollback", [False, True])
async def test_whichever_operation_fails_nothing_is_half_written(
    store: SqliteTruth, plan: Plan, tell: Callable[[str], Story], *, done: bool, rollback: bool
) -> None:
    epoch = await store.claim("s0", "o1")
    number = 0
    while True:
        number += 1
        story = tell(f"/world/acme/p{number}")
        batch = [story.append(*_begun(story))]
        await store.append(batch, shard="s0", epoch=epoch)
        plan.arm(number, done=done, rollback=rollback)
        share = rich(story)
        said = await attempt(store, share, epoch)
        reached = plan.reached
        plan.arm(0)
        there = len(await store.events(story.plan)) == story.seq
        request = await store.idempotency(REQUEST.scope, REQUEST.key)
        assert there == said == (request is not None)
        assert len(await store.events(story.plan)) in {2, story.seq}
        assert verify(story.export()).fault is None
        if not reached:
            assert said
            break
        if not said:
            await store.append([share], shard="s0", epoch=epoch)
            assert await store.events(story.plan) == story.stored
        else:
            await _forget(store)
    assert number > 10
    await store.close()


def _begun(story: Story) -> tuple[ev.Event, ...]:
    """A plan with a transition that waits."""
    story_of = Story(story.plan)
    story_of.created(tokens=100)
    created = story_of.told[0][2]
    assert created is not None
    return (created, story.proposed("a"))


async def _forget(store: SqliteTruth) -> None:
    """Remove the stored request, so that the next round can store it again."""

    def work() -> None:
        store._session.connection().execute("DELETE FROM idempotency")

    await store._session.run(work)


@pytest.mark.scenario(2)
async def test_a_commit_that_was_done_but_not_answered_is_found_to_be_there(
    store: SqliteTruth, plan: Plan, story: Story
) -> None:
    epoch = await store.claim("s0", "o1")
    opened = plan.opened
    plan.arm(5, done=True)  # BEGIN, fence, plan, event, COMMIT
    created = story.created()
    await store.append([created], shard="s0", epoch=epoch)
    assert plan.reached
    assert plan.opened == opened + 1
    assert await store.events(story.plan) == story.stored
    await store.close()


@pytest.mark.scenario(2)
async def test_a_doubtful_commit_of_a_request_alone_is_resolved(
    store: SqliteTruth, plan: Plan
) -> None:
    epoch = await store.claim("s0", "o1")
    for done in (False, True):
        plan.arm(4, done=done)  # BEGIN, fence, request, COMMIT
        appending = store.append([], shard="s0", epoch=epoch, idempotency=[REQUEST])
        if done:
            await appending
        else:
            with pytest.raises(TheoryError) as caught:
                await appending
            assert caught.value.code == "ERR_UNAVAILABLE"
        assert plan.reached
    assert await store.idempotency("acme", "k") == REQUEST
    await store.close()


@pytest.mark.scenario(60)
async def test_a_full_disk_refuses_the_batch_and_the_next_one_is_taken_when_there_is_room(
    home: Home, story: Story
) -> None:
    pages: list[sqlite3.Connection] = []

    def opening(database: Path) -> sqlite3.Connection:
        pages.append(connect(database))
        return pages[-1]

    store = SqliteTruth(home.database, home.lock(), opening=opening)
    epoch = await store.claim("s0", "o1")
    await store.append([story.created()], shard="s0", epoch=epoch)

    def limit(most: int) -> Callable[[], None]:
        def work() -> None:
            now = pages[-1].execute("PRAGMA page_count").fetchone()[0]
            pages[-1].execute(f"PRAGMA max_page_count = {now + most}")

        return work

    await store._session.run(limit(2))
    big = story.append(
        *(ev.PlanPaused(by="local", reason="x" * 4000) for _ in range(20)),
    )
    with pytest.raises(TheoryError) as caught:
        await store.append([big], shard="s0", epoch=epoch)
    assert caught.value.code == "ERR_UNAVAILABLE"
    assert caught.value.detail == {"reason": "SQLITE_FULL"}
    assert await store.events(story.plan) == story.stored[:1]
    await store._session.run(limit(1000))
    await store.append([big], shard="s0", epoch=epoch)
    assert await store.events(story.plan) == story.stored
    await store.close()


async def test_a_failed_claim_leaves_the_home_free(
    store: SqliteTruth, plan: Plan, home: Home
) -> None:
    for number in range(1, 5):
        plan.arm(number)
        with pytest.raises(TheoryError) as caught:
            await store.claim("s0", "o1")
        assert caught.value.code == "ERR_UNAVAILABLE"
        assert plan.reached
        plan.arm(0)
        lock = home.lock()
        lock.acquire()
        lock.release()
    assert await store.claim("s0", "o1") == 1
    await store.close()


async def test_a_release_that_fails_still_leaves_the_home_free(
    store: SqliteTruth, plan: Plan, home: Home
) -> None:
    epoch = await store.claim("s0", "o1")
    plan.arm(1)
    with pytest.raises(TheoryError) as caught:
        await store.release("s0", epoch)
    assert caught.value.code == "ERR_UNAVAILABLE"
    heir = SqliteTruth(home.database, home.lock())
    assert await heir.claim("s0", "o2") == epoch + 1
    await heir.close()
    await store.close()


async def test_a_database_without_tables_is_unavailable(home: Home) -> None:
    bare = home.database.with_name("bare.db")
    sqlite3.connect(bare).close()
    store = SqliteTruth(bare, home.lock(bare))
    with pytest.raises(TheoryError) as caught:
        await store.claim("s0", "o1")
    assert caught.value.code == "ERR_UNAVAILABLE"
    await store.close()
