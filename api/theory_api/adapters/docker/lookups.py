"""Looks up what names lead to, on threads of its own: a name that hangs delays only other names.

The threads that the loop lends are those of the disk; a name's owner decides how long the system
waits for an answer, and nothing ends a look-up before that.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Final

_IN_ALL: Final = 16
"""Look-ups at once in this process, whatever became of those who asked."""
_THREADS: Final = ThreadPoolExecutor(_IN_ALL, thread_name_prefix="lookup")


class Lookups:
    """The look-ups of one run.

    Law: one that nobody waits for any more counts until its thread is done with it.
    """

    def __init__(self, at_once: int) -> None:
        """At most so many go on at once; whoever is beyond waits."""
        self._free = asyncio.Semaphore(at_once)

    async def addresses(self, host: str, port: int) -> list[str]:
        """All addresses of a name; raises `OSError` or `UnicodeError` for one that has none."""
        loop = asyncio.get_running_loop()
        await self._free.acquire()

        def ended(_: Future[Any]) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed, and nobody waits
                loop.call_soon_threadsafe(self._free.release)

        asked = _THREADS.submit(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
        asked.add_done_callback(ended)
        found = await asyncio.wrap_future(asked)
        return [str(entry[4][0]) for entry in found]
