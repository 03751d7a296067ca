"""Ask a store again for as long as its fault may pass."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog

from theory_api.scheduler.context import PASSING, Context
from theory_core import TheoryError

log = structlog.get_logger(__name__)

T = TypeVar("T")


async def patiently(context: Context, work: Callable[[], Awaitable[T]]) -> T:
    """What `work` answers; it is called again, at the scheduler's pace, while a store is away.

    For work that must not be lost or paid for twice because a disk was full for a minute. Raises
    every other fault at once.
    """
    while True:
        try:
            return await work()
        except TheoryError as error:
            if error.code not in PASSING:
                raise
            log.warning("store.waits", code=error.code, reason=error.message)
        await context.clock.sleep(context.pace.poll_s)
