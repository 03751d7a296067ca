"""Asks the owners of plans that are read here whether they go on: a plan set aside tells nobody."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection

import structlog

from theory_api.domain import commands as cmd
from theory_api.ports.clock import Clock
from theory_api.scheduler.answer import Answer
from theory_core import TheoryError

log = structlog.get_logger(__name__)

Ask = Callable[[cmd.Command], Awaitable[Answer]]


class Enquiries:
    """What the owners said of plans that somebody reads here and somebody else owns.

    Law: nobody waits for ever for a plan whose owner refuses it; it is the owner's word that
    counts, so an owner that does not answer leaves everything as it was.
    """

    def __init__(self, ask: Ask, clock: Clock, *, every_s: float) -> None:
        self._ask = ask
        self._clock = clock
        self._every_s = every_s
        self._asked: dict[str, float] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self.faults: dict[str, TheoryError] = {}
        """Plan -> why its owner refuses it."""

    def look(self, read: Collection[str], told: Callable[[str], None]) -> None:
        """Ask for each of these plans whose time has come; `told` hears of those refused."""
        now = self._clock.monotonic()
        self._asked = {plan: self._asked.get(plan, now) for plan in read}
        self.faults = {plan: fault for plan, fault in self.faults.items() if plan in self._asked}
        for plan, since in self._asked.items():
            if now - since >= self._every_s:
                self._asked[plan] = now
                task = asyncio.create_task(self._enquire(plan, told))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    async def stop(self) -> None:
        """Ask no more."""
        tasks = {*self._tasks}
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def _enquire(self, plan: str, told: Callable[[str], None]) -> None:
        try:
            await self._ask(cmd.Enquire(plan=plan))
        except TheoryError as error:
            if error.code == "ERR_CHAIN_BROKEN":
                self.faults[plan] = error
                told(plan)
            else:
                log.warning("plan.unanswered", plan=plan, code=error.code, reason=error.message)
        else:
            self.faults.pop(plan, None)
