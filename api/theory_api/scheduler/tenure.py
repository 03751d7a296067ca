"""One scheduler's time as the owner of one shard, from its claim to its end."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

import structlog

from theory_api.ports.clock import Clock
from theory_api.ports.truth import TruthStore
from theory_api.scheduler.engine import Engine
from theory_core import TheoryError

log = structlog.get_logger(__name__)

Attend = Callable[[str, Engine], Awaitable[None]]
"""(shard, its engine) -> what goes on beside the engine while the shard is owned."""


@dataclass(frozen=True, slots=True)
class LeasePace:
    """How long a shard is held without a sign of life, and how often there is one."""

    lease_s: float = 5.0
    """What the store grants; an owner that could not renew for as long stops by itself."""
    renew_s: float = 1.0
    look_s: float = 1.0
    """Between two looks at who owns what; jittered."""
    unowned_s: float = 3.0
    """After this long without an owner a shard is taken beyond one's share."""
    keep_s: float = 10.0
    """A shard is not handed over before it was owned for so long."""
    calls_s: float = 2.0
    """How long commands may take that arrived before a hand-over."""
    poll_s: float = 0.5
    """Between two looks into the inbox, and at events of other owners, without a hint."""
    ask_s: float = 10.0
    """Between two questions to another owner whether a plan that is read here goes on."""
    patience_s: float = 15.0
    """How long a command waits for the owner of its plan: a takeover, and then some."""
    kept_s: float = 600.0
    """How long an answered row is kept for a replica that lost its answer on the way."""
    sweep_s: float = 60.0
    """Between two looks for rows that need not be kept."""


_TICK_S: Final = 0.01


@dataclass(slots=True)
class Tenure:
    """An engine, the lease that it rests on, and how both end."""

    shard: str
    engine: Engine
    store: TruthStore
    clock: Clock
    pace: LeasePace
    began: float
    serving: bool = False
    """Whether the engine takes commands."""
    orderly: bool = False
    """Whether it ends because somebody wants it to: what runs is stopped and settled first."""
    calls: int = 0
    """Commands that wait for the engine's answer."""
    renewed: float | None = None
    """When the newest renewal that succeeded had begun, monotonic."""
    fault: BaseException | None = None
    over: asyncio.Event = field(default_factory=asyncio.Event)
    _seen: float | None = None
    _asked: float = 0.0
    _closing: bool = False
    _renewal: asyncio.Task[None] | None = None

    @property
    def held(self) -> bool:
        """Whether nobody else can own the shard at this moment, by this process's own clock.

        Law: the lease began in the store after its renewal began here, and clocks that only count
        run alike: while this holds, what the engine refuses is refused by the owner.
        """
        since = self.engine.claimed if self.renewed is None else self.renewed
        return since is not None and self.clock.monotonic() - since < self.pace.lease_s

    def end(self, *, orderly: bool = False) -> None:
        """Have it end; only the first word counts."""
        if not self.over.is_set():
            self.orderly = orderly
            self.over.set()

    def tick(self) -> None:
        """Renew, and end a lease that cannot be renewed in time."""
        if self.engine.epoch is None or self._closing:
            return
        now = self.clock.monotonic()
        self._seen = now if self._seen is None else self._seen
        broken = _fault_of(self._renewal)
        if broken is not None:
            self.fault = broken
            self.end()
        elif self._renewal is None or self._renewal.done():
            self._asked = now
            self._renewal = asyncio.create_task(self._renew(self.engine.epoch))
        elif self._stale and now - self._asked >= self.pace.renew_s:
            log.error("shard.lease_ended", shard=self.shard)
            self.end()

    @property
    def _stale(self) -> bool:
        """Whether another may own the shard by now, if the store cannot be asked."""
        since = self._seen if self.renewed is None else self.renewed
        return since is not None and self.clock.monotonic() - since >= self.pace.lease_s

    async def serve(self, attend: Attend) -> None:
        """Claim, recover, serve until it is over; then stop, and give the shard back if it is ours.

        Raises what kept the engine from starting, and what `attend` raises.
        """
        over = asyncio.create_task(self.over.wait())
        self.engine.entitled = lambda: self.held
        try:
            await self._until(asyncio.create_task(self.engine.start()), over)
            if not over.done() and self.engine.epoch is not None:
                await self._until(asyncio.create_task(self._renew(self.engine.epoch)), over)
            if over.done():
                return
            log.info("shard.owned", shard=self.shard, epoch=self.engine.epoch)
            self.serving = True
            attending = asyncio.ensure_future(attend(self.shard, self.engine))
            stopped = asyncio.create_task(self.engine.stopped.wait())
            try:
                await asyncio.wait({attending, stopped, over}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                self.serving = False
                stopped.cancel()
                await self._quit(attending)
        finally:
            over.cancel()
            await self._close()

    async def _until(self, work: asyncio.Task[None], over: asyncio.Task[bool]) -> None:
        """Wait for work, or for the end of all work."""
        try:
            await asyncio.wait({work, over}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            if not work.done():
                work.cancel()
                await asyncio.wait({work})
        if not work.cancelled():
            work.result()

    async def _quit(self, attending: asyncio.Future[None]) -> None:
        """Answer what has arrived; end what goes on beside the engine."""
        until = self.clock.monotonic() + self.pace.calls_s
        while self.orderly and self.calls and self.clock.monotonic() < until:
            await self.clock.sleep(_TICK_S)
        if not attending.done():
            attending.cancel()
            await asyncio.wait({attending})
        if not attending.cancelled():
            attending.result()

    async def _close(self) -> None:
        """Law: nothing of this tenure runs, or is renewed, after its end."""
        try:
            if self.orderly:
                await self.engine.drain()
            self._closing = True
            await self.engine.stop()
        except TheoryError as error:
            # The lease ends by itself; nobody else is kept waiting for longer than that.
            log.warning("shard.not_released", shard=self.shard, code=error.code)
        finally:
            if self._renewal is not None:
                self._renewal.cancel()
        log.info("shard.left", shard=self.shard, orderly=self.orderly)

    async def _renew(self, epoch: int) -> None:
        began = self.clock.monotonic()
        try:
            await self.store.renew(self.shard, epoch)
        except TheoryError as error:
            log.warning("shard.not_renewed", shard=self.shard, code=error.code)
            if error.code == "ERR_NOT_WRITER" or self._stale:
                self.end()
        else:
            self.renewed = began


def _fault_of(task: asyncio.Task[None] | None) -> BaseException | None:
    """What a task ended with that it should not have."""
    if task is None or not task.done() or task.cancelled():
        return None
    return task.exception()
