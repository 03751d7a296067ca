"""Hints over LISTEN and NOTIFY, on a connection that does nothing else."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Final

import asyncpg
import structlog

from theory_api.adapters.sql.postgres.faults import Unanswered
from theory_api.adapters.sql.postgres.line import CONNECT_S, SESSION

log = structlog.get_logger(__name__)

CHANNEL: Final = "theory"

_NOTIFY: Final = "SELECT pg_notify('theory', topic) FROM unnest($1::text[]) AS topic"
_ALIVE_S: Final = 5.0
"""Between two looks whether the connection is still there."""
_PAUSE_S: Final = 1.0
"""Before a connection that broke is opened again."""
_GATHER_S: Final = 0.01
"""Hints that come within this time go together."""
_MOST: Final = 10_000
"""Hints that wait for a connection; more are forgotten: whoever listens looks by himself too."""


class PostgresSignals:
    """Implements `theory_api.ports.signals.Signals`; hints are sent after commits, never in them.

    NOTIFY carries at most 8,000 bytes: a topic is a word and an id or a plan's path.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._listeners: dict[object, Callable[[str], None]] = {}
        self._waiting: dict[str, None] = {}
        self._news = asyncio.Event()
        self._sent = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def send(self, *topics: str) -> None:
        """Tell every listener of every process, soon; doubles go once."""
        if len(self._waiting) < _MOST:
            self._waiting.update(dict.fromkeys(topics))
        self._news.set()
        self._sent.clear()
        self._start()

    def listen(self, heard: Callable[[str], None]) -> Callable[[], None]:
        """Call `heard` with each topic from now on."""
        name = object()
        self._listeners[name] = heard
        self._start()

        def forget() -> None:
            self._listeners.pop(name, None)

        return forget

    async def close(self) -> None:
        """Send what waits, if that is done in a moment, and close the connection."""
        if self._task is None:
            return
        if self._waiting:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_PAUSE_S):
                    await self._sent.wait()
        while not self._task.done():
            # Law: a close ends; the driver may take one cancel for its own.
            self._task.cancel()
            await asyncio.wait({self._task}, timeout=_PAUSE_S)

    def _start(self) -> None:
        if self._task is None:
            self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        """Keep a connection, whatever happens to it."""
        while True:
            try:
                await self._connected()
            except Unanswered as error:
                log.warning("signals.lost", reason=type(error).__name__)
            await asyncio.sleep(_PAUSE_S)

    async def _connected(self) -> None:
        settings = {"application_name": "theory-signals", **SESSION}
        async with asyncio.timeout(CONNECT_S + 1):
            connection = await asyncpg.connect(
                self._url, timeout=CONNECT_S, server_settings=settings
            )
        try:
            async with asyncio.timeout(CONNECT_S):
                await connection.add_listener(CHANNEL, self._heard)
            while not connection.is_closed():
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_ALIVE_S):
                        await self._news.wait()
                self._news.clear()
                topics, self._waiting = list(self._waiting), {}
                async with asyncio.timeout(CONNECT_S):
                    await connection.execute(_NOTIFY, topics)
                if not self._waiting:
                    self._sent.set()
                await asyncio.sleep(_GATHER_S)
        finally:
            connection.terminate()

    def _heard(self, _connection: object, _pid: int, _channel: str, topic: object) -> None:
        for heard in list(self._listeners.values()):
            heard(str(topic))
