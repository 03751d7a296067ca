"""Looks at what running executions use, all of them at one pace, and stops what passes its hold."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from theory_api.scheduler.context import Context

Judge = Callable[[], bool]
"""Looks at an execution's usage; True once it is to be stopped."""

Spawn = Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]]


@dataclass(slots=True)
class _Watched:
    """An execution that runs in a task of its own."""

    task: asyncio.Task[Any]
    judge: Judge
    stop: Callable[[], Awaitable[object]]
    stopping: bool = False
    fault: Exception | None = None


class Metering:
    """The meter of one scheduler: a single task looks at everything that runs.

    Law: what nobody meters does not run; a meter that fails ends what it metered.
    """

    def __init__(self, context: Context, spawn: Spawn) -> None:
        self._context = context
        self._spawn = spawn
        self._watched: dict[str, _Watched] = {}
        self._looking = False

    async def metered(
        self,
        execution_id: str,
        work: Awaitable[Mapping[str, Any]],
        *,
        judge: Judge,
        stop: Callable[[], Awaitable[object]],
    ) -> Mapping[str, Any]:
        """The outcome of `work`; `stop` is called once, as soon as `judge` says so.

        Raises what `work` raises, and what `judge` or `stop` raised, `work` being cancelled then.
        """
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - a coroutine runs in a task
        watched = self._watched[execution_id] = _Watched(task, judge, stop)
        if not self._looking:
            self._looking = True
            self._spawn(self._look())
        try:
            return await work
        except asyncio.CancelledError:
            if watched.fault is None or task.uncancel():
                raise
            raise watched.fault from None
        finally:
            del self._watched[execution_id]

    async def _look(self) -> None:
        try:
            while self._watched:
                await self._context.clock.sleep(self._context.pace.meter_s)
                for watched in self._watched.values():
                    if not watched.stopping and watched.judge():
                        watched.stopping = True
                        self._spawn(self._stop(watched))
        except Exception as fault:
            _end(self._watched.values(), fault)
            raise
        finally:
            self._looking = False

    async def _stop(self, watched: _Watched) -> None:
        """Only the meter stops a run for its usage: whoever hands its frames on is part of it."""
        try:
            await watched.stop()
        except Exception as fault:
            _end([watched], fault)
            raise


def _end(unmetered: Iterable[_Watched], fault: Exception) -> None:
    for watched in unmetered:
        watched.fault = fault
        watched.task.cancel()
