"""Time and identity, as parameters: the scheduler never asks the machine itself."""

from __future__ import annotations

from typing import Protocol


class Clock(Protocol):
    """The owner's clocks.

    Law: `monotonic` never decreases; durations and deadlines use it alone. `now` may step.
    """

    def now(self) -> str:
        """UTC wall clock with 27 bytes, e.g. `2026-11-21T04:25:00.123456Z`."""

    def monotonic(self) -> float:
        """Seconds since an arbitrary start."""

    async def sleep(self, seconds: float) -> None:
        """Suspend the caller; a simulated clock decides when it wakes."""
