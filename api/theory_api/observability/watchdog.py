"""Notices an event loop that stands still: a line in the log, and a reason not to be ready."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Final

import structlog

from theory_core import TheoryError

log = structlog.get_logger(__name__)

LIMIT_S: Final = 5.0
"""A loop that does not turn for so long serves nobody."""

BEAT_S: Final = 0.5
"""Between two signs of life."""

_SHOWN: Final = 6
"""Innermost calls that the log names."""


class Watchdog:
    """Beats on the loop that runs it, and listens from a thread of its own.

    Laws: while the loop stands still the log says so, once, with where, in names of functions and
    never in values; what stood still is not ready before it has kept time for as long again.
    """

    def __init__(
        self,
        *,
        limit_s: float = LIMIT_S,
        beat_s: float = BEAT_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._limit_s = limit_s
        self._beat_s = beat_s
        self._clock = clock
        self._last = clock()
        self._well_from = self._last
        """When a loop that stood still counts as well again."""
        self._told = False
        self._thread = threading.get_ident()
        self._over = threading.Event()

    async def run(self) -> None:
        """Watch the running loop until cancelled."""
        self._thread = threading.get_ident()
        self._last = self._clock()
        listener = threading.Thread(target=self._listen, name="watchdog", daemon=True)
        listener.start()
        try:
            while True:
                await asyncio.sleep(self._beat_s)
                self.beat()
        finally:
            self._over.set()

    def fault(self) -> TheoryError | None:
        """Why the loop cannot be relied on, `ERR_UNAVAILABLE`; None while it keeps time."""
        now = self._clock()
        if now - self._last <= self._limit_s and now >= self._well_from:
            return None
        message = f"the event loop stood still for more than {self._limit_s:g} s; see the log"
        return TheoryError("ERR_UNAVAILABLE", message, {"reason": "loop"})

    def beat(self) -> None:
        """A sign of life, from the loop."""
        now = self._clock()
        stood = now - self._last
        self._last = now
        if stood > self._limit_s:
            self._well_from = now + self._limit_s
            self._told = False
            log.error("loop.freed", stood_s=round(stood, 1))

    def look(self) -> None:
        """Say it if the loop stands still, once for each time."""
        stands = self._clock() - self._last
        if stands > self._limit_s and not self._told:
            self._told = True
            log.error("loop.blocked", stands_s=round(stands, 1), where=_where(self._thread))

    def _listen(self) -> None:
        while not self._over.wait(self._beat_s):
            self.look()


def _where(thread: int) -> list[str]:
    """The innermost calls of a thread, as module, function and line; no path, no value."""
    frame: FrameType | None = sys._current_frames().get(thread)  # noqa: SLF001 - its documented use
    calls: list[str] = []
    while frame is not None and len(calls) < _SHOWN:
        module = frame.f_globals.get("__name__", "?")
        calls.append(f"{module}.{frame.f_code.co_name}:{frame.f_lineno}")
        frame = frame.f_back
    return calls
