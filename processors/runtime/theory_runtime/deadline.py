"""The time that a run may take, which stands still while the run is paused."""

import asyncio
from collections.abc import Callable


class Deadline:
    """Calls `expire` once so many seconds have passed in which it did not stand still."""

    def __init__(
        self, seconds: float, expire: Callable[[], None], loop: asyncio.AbstractEventLoop
    ) -> None:
        self._loop = loop
        self._expire = expire
        self._left = seconds
        self._since = self._loop.time()
        self._timer: asyncio.TimerHandle | None = loop.call_later(seconds, expire)

    def hold(self) -> None:
        """Stand still; what is held already stays so."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self._left -= self._loop.time() - self._since

    def go_on(self) -> None:
        """Count again from where it stood still."""
        if self._timer is None:
            self._since = self._loop.time()
            self._timer = self._loop.call_later(max(0.0, self._left), self._expire)

    def end(self) -> None:
        """Never expire."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
