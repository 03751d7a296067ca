"""Looks at what running executions use, all of them at one pace, and halts what passes its hold."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from theory_api.scheduler.context import Context

Judge = Callable[[], bool]
"""Looks at an execution's usage; True once it is to be stopped."""

Spawn = Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]]


@dataclass(slots=True, eq=False)
class Metered:
    """An execution that the meter looks at."""

    judge: Judge
    halt: asyncio.Event
    fault: Exception | None = None

    def check(self) -> None:
        """Raise what the meter failed with, if that is why it halted."""
        if self.fault is not None:
            raise self.fault


class Metering:
    """The meter of one scheduler: a single task looks at everything that runs.

    Laws: running usage beyond the hold stops the execution; what nobody meters does not run, a
    meter that fails ends what it metered.
    """

    def __init__(self, context: Context, spawn: Spawn) -> None:
        self._context = context
        self._spawn = spawn
        self._metered: dict[int, Metered] = {}
        self._looking = False

    @contextmanager
    def watch(self, judge: Judge, halt: asyncio.Event) -> Iterator[Metered]:
        """Within the block `halt` is set as soon as `judge` says so, or fails."""
        metered = Metered(judge, halt)
        self._metered[id(metered)] = metered
        if not self._looking:
            self._looking = True
            self._spawn(self._look())
        try:
            yield metered
        finally:
            del self._metered[id(metered)]

    async def _look(self) -> None:
        try:
            while self._metered:
                await self._context.clock.sleep(self._context.pace.meter_s)
                for metered in list(self._metered.values()):
                    if not metered.halt.is_set():
                        _look_at(metered)
        finally:
            self._looking = False
            for metered in self._metered.values():
                metered.halt.set()


def _look_at(metered: Metered) -> None:
    try:
        over = metered.judge()
    except Exception as fault:  # noqa: BLE001 - whoever waits for the run raises it
        metered.fault = fault
        over = True
    if over:
        metered.halt.set()
