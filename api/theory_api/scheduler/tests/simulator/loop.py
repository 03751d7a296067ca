"""An event loop without a machine: time jumps, the next callback is drawn, processes can die.

Law: what happens next is a function of the seed alone. Nothing of it depends on addresses, hashes
of texts, the operating system or how fast this machine is.
"""

# ruff: noqa: ANN401 - callbacks take anything

from __future__ import annotations

import asyncio
import contextvars
import gc
import heapq
import itertools
import random
import warnings
from collections.abc import Callable, Coroutine
from contextvars import ContextVar
from typing import Any, TypeVar

Result = TypeVar("Result")

_WORDS = 16
"""How often a dying coroutine may wait once more."""

_NOT_TIED = "the loop turned {} times without an end"


class Owner:
    """Whose callbacks these are. A dead owner's never run; a frozen one's wait."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.alive = True
        self.held: list[tuple[Owner, asyncio.Handle]] | None = None
        """Callbacks that came while the owner was frozen; None while it is not."""
        self.fuse: int | None = None
        """After this many more callbacks, `blow` is called."""
        self.blow: Callable[[], None] = lambda: None


NOBODY = Owner("nobody")
OWNER: ContextVar[Owner] = ContextVar("OWNER", default=NOBODY)


class Numbered(asyncio.Task[Any]):
    """A task that hashes by its number, so that sets of tasks have one order."""

    def __init__(self, work: Any, number: int, **how: Any) -> None:
        self.number = number
        super().__init__(work, **how)

    def __hash__(self) -> int:
        return self.number


class Simulation(asyncio.BaseEventLoop):
    """Runs callbacks in a drawn order; when none is ready, the clock moves to the next timer.

    `disorder` is the share of turns in which any ready callback may be next; the others take the
    oldest, as the loops of the standard library do.
    """

    def __init__(self, chance: random.Random, *, disorder: float, turns: int) -> None:
        super().__init__()
        self._chance = chance
        self._disorder = disorder
        self._left = self._turns = turns
        self._now = 0.0
        self._queue: list[tuple[Owner, asyncio.Handle]] = []
        self._timers: list[tuple[float, int, Owner, asyncio.TimerHandle]] = []
        self._serial = itertools.count(1)
        self._born: list[Numbered] = []
        self._over = False
        self.unhandled: list[str] = []
        """What asyncio itself complained about: exceptions that nobody took."""

    def time(self) -> float:
        """Seconds of simulated time."""
        return self._now

    @property
    def turned(self) -> int:
        """Callbacks run so far."""
        return self._turns - self._left

    def call_soon(  # type: ignore[override]
        self, callback: Callable[..., Any], *args: Any, context: Any = None
    ) -> asyncio.Handle:
        """Put a callback among those that are ready."""
        context = contextvars.copy_context() if context is None else context
        handle = asyncio.Handle(callback, args, self, context)
        if not self._over:
            self._queue.append((context.get(OWNER, NOBODY), handle))
        return handle

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., Any], *args: Any, context: Any = None
    ) -> asyncio.TimerHandle:
        """Have a callback ready at a simulated time."""
        context = contextvars.copy_context() if context is None else context
        timer = asyncio.TimerHandle(when, callback, args, self, context)
        owner = context.get(OWNER, NOBODY)
        heapq.heappush(self._timers, (when, next(self._serial), owner, timer))
        return timer

    def create_task(
        self, coro: Any, *, name: object = None, context: contextvars.Context | None = None
    ) -> asyncio.Task[Any]:
        """Start a task, numbered and remembered until the end."""
        task = Numbered(coro, next(self._serial), loop=self, name=name, context=context)
        self._born.append(task)
        return task

    def start(self, work: Coroutine[Any, Any, Result], owner: Owner) -> asyncio.Task[Result]:
        """Start a task that belongs to `owner`, as everything that it starts will."""
        context = contextvars.copy_context()
        context.run(OWNER.set, owner)
        return self.create_task(work, context=context)

    def freeze(self, owner: Owner) -> None:
        """Stop running what belongs to `owner`, as SIGSTOP does."""
        if owner.held is None:
            owner.held = []

    def thaw(self, owner: Owner) -> None:
        """Go on where the owner stood; its timers are late."""
        held, owner.held = owner.held or [], None
        self._queue.extend(held)

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Keep what nobody else takes."""
        if not self._over:
            self.unhandled.append(f"{context.get('message')}: {context.get('exception')!r}")

    def bury(self) -> None:
        """Close what died in the middle; its last words reach nobody."""
        self._over = True
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for task in self._born:
                if not task.done():
                    _close(task.get_coro())
            self._born.clear()
            self._queue.clear()
            self._timers.clear()
            gc.collect()  # what the dying began and nobody awaits warns here, unheard
        self.close()

    def _run_once(self) -> None:
        if not self._queue:
            self._jump()
        index = 0
        if len(self._queue) > 1 and self._chance.random() < self._disorder:
            index = self._chance.randrange(len(self._queue))
        owner, handle = self._queue.pop(index)
        if not owner.alive or handle.cancelled():
            return
        if owner.held is not None:
            owner.held.append((owner, handle))
            return
        self._left -= 1
        if self._left <= 0:
            raise TimeoutError(_NOT_TIED.format(self._turns))
        handle._run()
        if owner.fuse is not None:
            owner.fuse -= 1
            if owner.fuse <= 0:
                owner.fuse = None
                owner.blow()

    def _jump(self) -> None:
        while self._timers:
            when, _, owner, timer = heapq.heappop(self._timers)
            if timer.cancelled() or not owner.alive:
                continue
            self._now = max(self._now, when)
            self._queue.append((owner, timer))
            while self._timers and self._timers[0][0] <= self._now:
                _, _, owner, timer = heapq.heappop(self._timers)
                self._queue.append((owner, timer))
            return
        message = "nothing is ready and nobody sleeps: everything waits for something else"
        raise RuntimeError(message)

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """A cancelled timer is passed over when its time comes."""

    def _asyncgen_finalizer_hook(self, agen: Any) -> None:
        """Generators of the dead are not finished by the living."""


def _close(work: Any) -> None:
    """End a coroutine where it stands, also one that wants to wait once more in the end."""
    for _ in range(_WORDS):
        try:
            work.close()
        except RuntimeError:  # it waits again; a dead process has no consequences
            continue
        except BaseException:  # noqa: BLE001 - as above
            return
        else:
            return
