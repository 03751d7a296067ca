"""Something to look at again: after a hint, or after a while without one."""

from __future__ import annotations

import asyncio

from theory_api.ports.clock import Clock


class News:
    """Rung by hints, waited for by one task; a hint that comes early is kept."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._rung = asyncio.Event()

    def ring(self) -> None:
        """There may be something to look at."""
        self._rung.set()

    async def wait(self, within_s: float) -> None:
        """Return after a hint, or after so many seconds."""
        rung = asyncio.create_task(self._rung.wait())
        slept = asyncio.ensure_future(self._clock.sleep(within_s))
        try:
            await asyncio.wait({rung, slept}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            rung.cancel()
            slept.cancel()
        self._rung.clear()
