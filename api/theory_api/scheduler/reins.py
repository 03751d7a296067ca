"""What is wanted of one execution that runs, and its standstill passed on to its adapter."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import structlog

from theory_api.domain.state import Attempting
from theory_api.ports.adapter import Adapter, SteeringOp
from theory_api.scheduler.context import Context
from theory_api.scheduler.stopping import retrieved, within
from theory_api.scheduler.trace import Trace
from theory_core import TheoryError

log = structlog.get_logger(__name__)


class Reins:
    """The wishes of one execution, as its plan's ledger has them; whoever runs it follows."""

    def __init__(self) -> None:
        self.halt = asyncio.Event()
        """Set when somebody wants it stopped."""
        self.paused = False
        self.budget: Mapping[str, int] = {}
        """What it may use at most where that is less than its hold."""
        self.unsure = False
        """Whether nobody here knows if it stands still: what is wanted is told in any case."""
        self.news = asyncio.Event()
        """Set when it is to stand still, or to go on."""

    def want(self, *, paused: bool, budget: Mapping[str, int]) -> None:
        """Take up what a commit says."""
        self.budget = budget
        if paused != self.paused:
            self.paused = paused
            self.news.set()

    def follow(self, attempt: Attempting) -> None:
        """Take up all that a plan's committed state says."""
        self.want(paused=attempt.paused, budget=dict(attempt.budget))
        if attempt.cancelled:
            self.halt.set()

    def take_up(self, attempt: Attempting) -> None:
        """Follow what was wanted of a run that goes on from before, told to it or not."""
        self.follow(attempt)
        self.unsure = True
        self.news.set()


class Steering:
    """Has one execution stand still, and go on, as its reins say; counts how long it stood.

    Laws: time counts until its adapter took the pause, and again once it took the resumption; what
    an adapter does not take now is told again, for as long as it is wanted.
    """

    def __init__(
        self, context: Context, adapter: Adapter, name: str, reins: Reins, trace: Trace
    ) -> None:
        self._context = context
        self._adapter = adapter
        self._name = name
        self._reins = reins
        self._trace = trace
        self._since: float | None = None
        self._stood = 0.0

    @property
    def stood_s(self) -> float:
        """Seconds in which it stood still so far."""
        now = self._context.clock.monotonic()
        return self._stood + (0.0 if self._since is None else now - self._since)

    async def steer(self) -> None:
        """Follow the reins until cancelled."""
        reins, pace = self._reins, self._context.pace
        while self._adapter.steers:
            await reins.news.wait()
            reins.news.clear()
            pause = pace.meter_s
            while reins.unsure or reins.paused != (self._since is not None):
                op: SteeringOp = "pause" if reins.paused else "resume"
                if await self._told(op):
                    reins.unsure = False
                    self._turn(op)
                else:
                    # It may have been taken all the same, and what is wanted may change meanwhile.
                    reins.unsure = True
                    await self._context.clock.sleep(pause)
                    pause = max(pause, min(2 * pause, pace.poll_s))

    async def _told(self, op: SteeringOp) -> bool:
        """Tell the adapter once; whether it took it in time."""
        asking = asyncio.ensure_future(self._adapter.steer(self._name, op))
        asking.add_done_callback(retrieved)
        try:
            await within(self._context, self._context.pace.stop_grace_s, asking)
            error = asking.exception() if asking.done() else _silent(op)
        finally:
            asking.cancel()
        if error is None:
            return True
        labels = {"execution_id": self._name, "op": op}
        if isinstance(error, TheoryError):
            log.warning("execution.unsteered", **labels, code=error.code, reason=error.message)
        else:
            log.error("execution.unsteered", **labels, code="ERR_INTERNAL", exc_info=error)
        return False

    def _turn(self, op: SteeringOp) -> None:
        now, stood = self._context.clock.monotonic(), self._since
        if (op == "pause") == (stood is not None):
            return
        self._since = now if stood is None else None
        self._stood += 0.0 if stood is None else now - stood
        self._trace.event(op)


def _silent(op: SteeringOp) -> TheoryError:
    return TheoryError("ERR_TIMEOUT", f"the adapter did not take the {op} in time", {})
