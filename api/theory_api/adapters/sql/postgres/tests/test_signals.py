"""Hints: what is sent is heard, and whoever closes is not kept waiting."""

from __future__ import annotations

import asyncio

import pytest

from theory_api.adapters.sql.postgres.signals import PostgresSignals


async def test_what_is_sent_is_heard_by_every_listener(url: str) -> None:
    mine, other = PostgresSignals(url), PostgresSignals(url)
    heard: asyncio.Queue[str] = asyncio.Queue()
    forget = other.listen(heard.put_nowait)
    try:
        async with asyncio.timeout(30):
            while heard.empty():
                mine.send("shard s1")
                await asyncio.sleep(0.05)
        assert heard.get_nowait() == "shard s1"
    finally:
        forget()
        await mine.close()
        await other.close()


@pytest.mark.parametrize("turns", range(6))
async def test_a_close_ends_although_news_come_in_the_same_turn(url: str, turns: int) -> None:
    """A wait that is over and cancelled at once must not go on as if it had only been over."""
    for _ in range(10):
        signals = PostgresSignals(url)
        signals.send("first")
        async with asyncio.timeout(30):
            await signals._sent.wait()
        for _ in range(turns):
            await asyncio.sleep(0)
        signals._news.set()
        async with asyncio.timeout(10):
            await signals.close()


async def test_a_close_ends_although_a_cancel_was_taken_by_something_else(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[str] = []

    async def connected(_self: PostgresSignals) -> None:
        try:
            await asyncio.sleep(600)
        except asyncio.CancelledError:
            if taken:
                raise
            taken.append("one")

    monkeypatch.setattr(PostgresSignals, "_connected", connected)
    signals = PostgresSignals(url)
    signals.listen(taken.append)
    await asyncio.sleep(0)
    async with asyncio.timeout(30):
        await signals.close()
    assert taken == ["one"]
