"""Bounds how fast the frames of one run are taken, however fast its server sends them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final

FRAMES_PER_S: Final = 5_000
"""Taken of one run; a fifth of a processor's time, and more than any model has to say."""
BYTES_PER_S: Final = 64 * 1024 * 1024
BURST_S: Final = 2.0
"""What comes at once after silence, in seconds of that."""
TURN_S: Final = 32 / FRAMES_PER_S
"""What is taken before everybody else has a turn, in seconds of that."""


class Inflow:
    """How much of one run was taken, by the virtual clock of a leaky bucket.

    Laws: others get their turn after `TURN_S` worth of frames at the latest; over any time, no more
    is taken than that time's worth and a burst. What is not taken stays with its sender, whose
    writes stand still: nothing is lost here, and nothing is kept.
    """

    def __init__(
        self,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._clock = clock
        self._sleep = sleep
        self._taken_until = clock()
        self._turn_s = 0.0

    async def took(self, size_bytes: int) -> None:
        """Note that a frame was taken; returns once more may be."""
        worth_s = 1 / FRAMES_PER_S + size_bytes / BYTES_PER_S
        now = self._clock()
        self._taken_until = max(self._taken_until, now) + worth_s
        self._turn_s += worth_s
        if self._turn_s + worth_s > TURN_S:
            self._turn_s = 0.0
            await self._sleep(max(0.0, self._taken_until - now - BURST_S))
