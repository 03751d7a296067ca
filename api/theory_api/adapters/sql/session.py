"""One connection in one thread: everything that is asked of it happens there, in order."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from theory_api.adapters.sql.faults import unavailable
from theory_core import TheoryError

T = TypeVar("T")

Connect = Callable[[], sqlite3.Connection]


class Session:
    """Owns at most one connection and the only thread that touches it.

    Law: what was begun in the thread ends there, also when the caller is cancelled.
    """

    def __init__(self, connect: Connect) -> None:
        self._connect = connect
        self._connection: sqlite3.Connection | None = None
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="theory-truth")
        self._closed = False

    async def run(self, work: Callable[[], T]) -> T:
        """Do `work` in the thread; `ERR_UNAVAILABLE` once closed."""
        if self._closed:
            raise TheoryError("ERR_UNAVAILABLE", "the store is closed")
        return await self._run(work)

    def connection(self) -> sqlite3.Connection:
        """The connection, opened when there is none; in the thread only."""
        if self._connection is None:
            try:
                self._connection = self._connect()
            except sqlite3.Error as error:
                raise unavailable(error) from error
        return self._connection

    def discard(self) -> None:
        """Close the connection, whatever state it is in; in the thread only.

        An open transaction is undone by it. The next `connection` is a new one.
        """
        connection, self._connection = self._connection, None
        if connection is None:
            return
        try:
            connection.close()
        except sqlite3.Error as error:
            raise unavailable(error) from error

    async def close(self, last: Callable[[], None]) -> None:
        """Close for good after `last`, which runs in the thread; idempotent."""
        if self._closed:
            return
        self._closed = True
        try:
            await self._run(last)
        finally:
            self._thread.shutdown(wait=False)

    async def _run(self, work: Callable[[], T]) -> T:
        loop = asyncio.get_running_loop()
        return await asyncio.shield(loop.run_in_executor(self._thread, work))
