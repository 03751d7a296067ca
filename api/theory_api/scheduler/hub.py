"""Who waits for a plan's events: readers that resume by seq, and can never fall behind for good."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from itertools import takewhile
from typing import Final

from theory_api.ports.truth import StoredEvent

RECENT: Final = 1024
"""Events of one plan kept in memory while somebody reads it."""

ENDINGS: Final = frozenset({"plan.completed", "plan.failed", "plan.cancelled"})
"""Kinds after which a plan has no further event."""

FetchPage = Callable[[str, int], Awaitable[list[StoredEvent]]]
"""(plan, after seq) -> the next stored events."""


class _Channel:
    """What the readers of one plan share."""

    def __init__(self) -> None:
        self.recent: deque[StoredEvent] = deque(maxlen=RECENT)
        self.news = asyncio.Event()
        self.readers = 0


class Hub:
    """Hands committed events to readers.

    Law: each reader sees every event after its start exactly once and in order. Readers pull; a
    slow one holds no memory, it reads the store again where the ring has moved on.
    """

    def __init__(self, fetch: FetchPage) -> None:
        self._fetch = fetch
        self._channels: dict[str, _Channel] = {}

    def publish(self, plan: str, events: Sequence[StoredEvent]) -> None:
        """Make committed events visible. Law: what is kept has no gap, whoever wrote in between."""
        channel = self._channels.get(plan)
        if channel is not None and events:
            if channel.recent and channel.recent[-1].seq + 1 != events[0].seq:
                channel.recent.clear()
            channel.recent.extend(events)
            channel.news.set()
            channel.news = asyncio.Event()

    def refresh(self, plan: str) -> None:
        """Let the readers of a plan look into the store, which may know more than was published."""
        channel = self._channels.get(plan)
        if channel is not None:
            channel.recent.clear()
            channel.news.set()
            channel.news = asyncio.Event()

    @property
    def read(self) -> frozenset[str]:
        """Plans that somebody reads."""
        return frozenset(self._channels)

    async def subscribe(
        self, plan: str, *, after: int = 0, until: Callable[[], bool] = lambda: False
    ) -> AsyncGenerator[StoredEvent]:
        """Every event with `seq > after`; ends after the plan's last one, even if that is past.

        Once `until` says so, it ends where it would wait; whoever makes that true calls `refresh`.
        """
        channel = self._channels.setdefault(plan, _Channel())
        channel.readers += 1
        try:
            last = max(after - 1, 0)
            while True:
                news = channel.news
                batch = self._from_ring(channel, last)
                if batch is None:
                    batch = await self._fetch(plan, last)
                for event in batch:
                    last = event.seq
                    if last > after:
                        yield event
                    if event.kind in ENDINGS:
                        return
                if not batch:
                    if until():
                        return
                    await news.wait()
        finally:
            channel.readers -= 1
            if not channel.readers:
                self._channels.pop(plan, None)

    @staticmethod
    def _from_ring(channel: _Channel, last: int) -> list[StoredEvent] | None:
        """What the ring has after `last`, or None where it does not reach back that far."""
        ring = channel.recent
        if not ring or ring[0].seq > last + 1:
            return None
        # From the newest back: who keeps up pays for what is new, not for what is kept.
        news = list(takewhile(lambda event: event.seq > last, reversed(ring)))
        news.reverse()
        return news
