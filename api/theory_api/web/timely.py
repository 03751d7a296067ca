"""A send that has so long for each message, for who sends a thousand of them a second."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Self

from theory_api.web.connection import Message, Send


class Timely:
    """Sends within `async with`, which raises `TimeoutError` once a message takes too long.

    One timer looks after all of them: it is set for each message that is overdue or may be, not
    for each that is sent.
    """

    def __init__(self, send: Send, within_s: float) -> None:
        self._send = send
        self._within_s = within_s
        self._loop = asyncio.get_running_loop()
        self._limit = asyncio.timeout(None)
        self._since: float | None = None
        self._timer: asyncio.TimerHandle

    async def __aenter__(self) -> Self:
        await self._limit.__aenter__()
        self._look()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._timer.cancel()
        await self._limit.__aexit__(kind, error, trace)

    async def __call__(self, message: Message) -> None:
        """Send one."""
        self._since = self._loop.time()
        await self._send(message)
        self._since = None

    def _look(self) -> None:
        now = self._loop.time()
        until = (now if self._since is None else self._since) + self._within_s
        if until <= now:
            self._limit.reschedule(now)
        else:
            self._timer = self._loop.call_at(until, self._look)
