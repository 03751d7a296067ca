"""Readers of a plan's events: each sees every event once, in order, from wherever it begins."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from theory_api.ports.truth import StoredEvent
from theory_api.scheduler.hub import RECENT, Hub
from theory_api.scheduler.tests.bench import settle

PLAN = "/world/acme/p1"


class Shop:
    """A store, and the hub over it."""

    def __init__(self, page: int = 10) -> None:
        self.stored: list[StoredEvent] = []
        self.page = page
        self.fetched = 0
        self.hub = Hub(self._fetch)

    async def _fetch(self, plan: str, after: int) -> list[StoredEvent]:
        assert plan == PLAN
        self.fetched += 1
        await asyncio.sleep(0)
        return self.stored[after : after + self.page]

    def commit(self, count: int = 1, *, last: bool = False, told: bool = True) -> None:
        """Store events and, unless nobody learned of it, publish them."""
        new = []
        for n in range(count):
            seq = len(self.stored) + 1
            ending = last and n == count - 1
            kind = "plan.completed" if ending else "plan.paused"
            new.append(StoredEvent(PLAN, seq, kind, "", b"", ""))
            self.stored.append(new[-1])
        if told:
            self.hub.publish(PLAN, new)
        else:
            self.hub.refresh(PLAN)

    async def read(self, after: int = 0, pause: int = 0) -> list[int]:
        """Seqs that a reader sees until the plan ends."""
        seen = []
        async for event in self.hub.subscribe(PLAN, after=after):
            seen.append(event.seq)
            for _ in range(pause):
                await asyncio.sleep(0)
        return seen


@pytest.mark.scenario(92)
@pytest.mark.parametrize("after", [0, 1, 4, 5])
async def test_a_reader_resumes_after_any_seq(after: int) -> None:
    shop = Shop()
    shop.commit(3)
    reader = asyncio.create_task(shop.read(after))
    await settle()
    shop.commit(2)
    await settle()
    shop.commit(2, last=True)
    assert await reader == list(range(after + 1, 8))


@pytest.mark.parametrize("after", [0, 3, 6, 7])
async def test_a_plan_that_has_ended_is_read_to_its_end_and_no_further(after: int) -> None:
    shop = Shop(page=2)
    shop.commit(7, last=True)
    async with asyncio.timeout(5):
        assert await shop.read(after) == list(range(after + 1, 8))


@pytest.mark.scenario(93)
async def test_a_slow_reader_misses_nothing_and_holds_no_memory() -> None:
    shop = Shop(page=100)
    shop.commit(1)
    quick, slow = asyncio.create_task(shop.read()), asyncio.create_task(shop.read(pause=3))
    await settle()
    for _ in range(RECENT // 10):
        shop.commit(37)
        await asyncio.sleep(0)
    channel = shop.hub._channels[PLAN]
    assert len(channel.recent) == RECENT
    shop.commit(1, last=True)
    everything = list(range(1, len(shop.stored) + 1))
    assert await quick == everything
    assert await slow == everything
    assert shop.hub._channels == {}


async def test_events_that_were_never_published_are_found_in_the_store() -> None:
    shop = Shop()
    reader = asyncio.create_task(shop.read())
    await settle()
    shop.commit(2)
    await settle()
    shop.commit(2, told=False)
    await settle()
    shop.commit(1)
    shop.commit(1, told=False, last=True)
    async with asyncio.timeout(5):
        assert await reader == [1, 2, 3, 4, 5, 6]


async def test_who_reads_from_memory_does_not_ask_the_store_again() -> None:
    shop = Shop()
    reader = asyncio.create_task(shop.read())
    await settle()
    asked = shop.fetched
    for _ in range(5):
        shop.commit(2)
        await settle()
    assert shop.fetched == asked
    shop.commit(1, last=True)
    assert len(await reader) == 11


def test_nobody_reads_and_nothing_is_kept() -> None:
    shop = Shop()
    shop.commit(5)
    assert shop.hub._channels == {}


@pytest.mark.scenario(92)
@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 5), st.booleans(), st.integers(0, 4)), max_size=12),
    st.lists(st.tuples(st.integers(0, 8), st.integers(0, 3)), min_size=1, max_size=4),
)
def test_any_reader_sees_every_event_once_and_in_order(
    commits: list[tuple[int, bool, int]], readers: list[tuple[int, int]]
) -> None:
    """Law: each reader sees every event after its start exactly once and in order."""

    async def play() -> None:
        shop = Shop(page=3)
        tasks = [asyncio.create_task(shop.read(after, pause)) for after, pause in readers]
        for count, told, turns in commits:
            shop.commit(count, told=told)
            for _ in range(turns):
                await asyncio.sleep(0)
        shop.commit(9, last=True)
        async with asyncio.timeout(5):
            for task, (after, _) in zip(tasks, readers, strict=True):
                assert await task == list(range(after + 1, len(shop.stored) + 1))

    asyncio.run(play())
