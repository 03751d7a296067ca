"""One simulated process: what it is made of, and how it dies."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, TypeVar

from theory_api.scheduler.tests.simulator.loop import OWNER, Owner

if TYPE_CHECKING:
    from theory_api.scheduler.engine import Engine
    from theory_api.scheduler.tests.simulator.world import World
    from theory_api.services.plans import PlanCommands

Answer = TypeVar("Answer")

BEGINNING: Final = datetime(2026, 11, 21, 4, 25, tzinfo=UTC)


class HungUpError(Exception):
    """The process that was asked died, or took too long."""


class Clock:
    """A process's clocks: one that never goes back, and one that somebody sets now and then."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._offset = world.chance.draw.uniform(0, 10**6)

    def now(self) -> str:
        wall = BEGINNING + timedelta(seconds=self._world.loop.time() + self._world.skew_s)
        return wall.strftime("%Y-%m-%dT%H:%M:%S.%fZ")

    def monotonic(self) -> float:
        return self._world.loop.time() + self._offset

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class Process(Owner):
    """A scheduler process. When it dies, not one more line of its code runs."""

    engine: Engine
    plans: PlanCommands

    def __init__(self, world: World, name: str) -> None:
        super().__init__(name)
        self.world = world
        self.chance = world.chance
        self.oracle = world.oracle
        self.clock = Clock(world)
        self.epoch = 0
        self.ended: asyncio.Future[None] = world.loop.create_future()
        self.blow = self.kill
        self._calls: dict[asyncio.Future[Any], asyncio.Task[None]] = {}

    def kill(self) -> None:
        """End at once; whoever waits for it hears that the line is dead."""
        if not self.alive:
            return
        self.alive = False
        self.chance.note("death", self.name, self.world.loop.time())
        for answer in self._calls:
            if not answer.done():
                answer.set_exception(HungUpError(self.name))
        self._calls.clear()
        if not self.ended.done():
            self.ended.set_result(None)

    async def die(self) -> None:
        """End here; this call never returns. Work of others that passed through it hangs."""
        self.kill()
        await self.world.loop.create_future()

    async def ask(self, work: Callable[[], Awaitable[Answer]], *, patience_s: float) -> Answer:
        """What the process answers to somebody outside.

        Raises `HungUpError`, and what the work raises. Who hangs up may take the work along.
        """
        if not self.alive:
            raise HungUpError(self.name)
        loop = self.world.loop
        answer: asyncio.Future[Answer] = loop.create_future()

        async def serve() -> None:
            try:
                found = await work()
            except Exception as error:  # noqa: BLE001 - the caller's to judge
                if not answer.done():
                    answer.set_exception(error)
            else:
                if not answer.done():
                    answer.set_result(found)

        task = self._calls[answer] = loop.start(serve(), self)
        try:
            return await asyncio.wait_for(answer, patience_s)
        except TimeoutError:
            if self.chance.draw.random() < 0.5 and OWNER.get() is not self:
                task.cancel()
            raise HungUpError(self.name) from None
        finally:
            self._calls.pop(answer, None)
