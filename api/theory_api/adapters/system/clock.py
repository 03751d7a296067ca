"""The machine's clocks."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime


class SystemClock:
    """Implements `theory_api.ports.clock.Clock` with the operating system's clocks."""

    def now(self) -> str:
        """UTC wall clock with 27 bytes, e.g. `2026-11-21T04:25:00.123456Z`."""
        return datetime.now(UTC).isoformat(timespec="microseconds")[:26] + "Z"

    def monotonic(self) -> float:
        """Seconds since an arbitrary start; never decreases."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Suspend the caller for at least `seconds`."""
        await asyncio.sleep(seconds)
