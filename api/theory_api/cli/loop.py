"""The event loop of one command: run it to its end, or stop it so that nothing stays behind."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Coroutine
from typing import Any, TypeVar

Answer = TypeVar("Answer")


class InterruptedByUser(Exception):  # noqa: N818 - no error: somebody pressed Ctrl-C
    """SIGINT or SIGTERM came; everything that the command had started has stopped."""


def run(work: Coroutine[Any, Any, Answer]) -> Answer:
    """The answer of `work`: an exit code, for most commands.

    SIGINT and SIGTERM cancel it once; what it opened is closed before `InterruptedByUser` is
    raised. A second signal has the same effect as none: closing takes seconds, not minutes.
    """
    return asyncio.run(_until_signalled(work))


async def _until_signalled(work: Coroutine[Any, Any, Answer]) -> Answer:
    loop = asyncio.get_running_loop()
    task = asyncio.ensure_future(work)
    asked: list[int] = []

    def stop(number: int) -> None:
        if not asked:
            asked.append(number)
            task.cancel()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop, number)
    try:
        return await task
    except asyncio.CancelledError:
        if asked:
            raise InterruptedByUser from None
        raise
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)
