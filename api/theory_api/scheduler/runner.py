"""What is due on each plan after every commit: admissions, executions, the goal."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

import structlog

from theory_api.domain import commands as cmd
from theory_api.domain.decision import Delay, Start, Steer, Stop
from theory_api.domain.runnable import Blocked
from theory_api.domain.state import Attempting, PlanState
from theory_api.scheduler.admitting import Admissions, Desk
from theory_api.scheduler.capacity import Capacity
from theory_api.scheduler.closing import Closing
from theory_api.scheduler.context import PASSING, Context
from theory_api.scheduler.evaluation import evaluate
from theory_api.scheduler.execution import execute
from theory_api.scheduler.gathering import CAPACITY, Gathering
from theory_api.scheduler.inputs import InputDocuments
from theory_api.scheduler.metering import Metering
from theory_api.scheduler.order import order
from theory_api.scheduler.outcome import UNCALLED, Note, fault, unstarted
from theory_api.scheduler.patience import patiently
from theory_api.scheduler.reaping import Reaper, abandon
from theory_api.scheduler.reins import Reins
from theory_api.scheduler.watching import drop_stream
from theory_api.scheduler.writer import Committed, Writer
from theory_core import TheoryError

log = structlog.get_logger(__name__)


class Runner:
    """Turns runnable transitions into admissions, and started executions into completions.

    It has no say: what it proposes is decided by `decide`, and may come to nothing.
    """

    def __init__(
        self, context: Context, writer: Writer, *, owner: str, admitting: bool = True
    ) -> None:
        self._context = context
        self._admitting = admitting
        self._writer = writer
        self._desks: dict[str, Desk] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._rereading: dict[str, asyncio.Task[None]] = {}
        self._reins: dict[str, Reins] = {}
        self.closing = Closing(context, writer, self._unless_stopping)
        self._reaper = Reaper(context, writer, self.closing.complete)
        self._stopping = False
        self._seats = (context.capacity or Capacity(context.pace.parallel)).join(self.touch)
        self._inputs = InputDocuments(context.artifacts)
        self._gathering = Gathering(context, self._inputs)
        self._admissions = Admissions(
            context,
            writer,
            self._gathering,
            owner=owner,
            seats=self._seats,
            touch=self.touch,
        )
        self._metering = Metering(context, self._spawn)
        self.failed: Callable[[BaseException], None] = lambda _error: None
        self.entitled: Callable[[], bool] = lambda: True
        self.overlooked: Callable[[PlanState, Attempting], None] = lambda _state, _attempt: None

    # -- what the engine calls --------------------------------------------------------------

    def committed(self, commit: Committed) -> None:
        """Carry out a commit's effects, and look at the plan again."""
        if self._stopping:
            return
        for effect in commit.effects:
            match effect:
                case Start(execution_id=name):
                    self.begin(commit.state, name)
                case Stop(execution_id=name):
                    self._halt(commit.state, name)
                case Steer(execution_id=name) if name in self._seats:
                    self._reins_of(name).want(paused=effect.paused, budget=effect.budget)
                case Delay(transition=name, delay_ms=delay):
                    self.delay(commit.plan, name, delay)
        if commit.state.terminal:
            self._forget(commit.plan)
        else:
            self.touch(commit.plan)

    def touch(self, plan: str) -> None:
        """Look at a plan as soon as possible."""
        if self._stopping:
            return
        desk = self._desk(plan)
        desk.dirty = True
        if desk.task is None or desk.task.done():
            desk.task = self._spawn(self._tend(plan, desk))
            # Law: whoever looked and left a place free lets the next one look.
            desk.task.add_done_callback(lambda _: self._seats.freed())

    def doubted(self, plan: str) -> None:
        """Look at a plan anew: what was concluded may rest on what never happened."""
        desk = self._desks.get(plan)
        if desk is not None:
            desk.held, desk.earlier = {}, {}
        self.touch(plan)
        if plan not in self._rereading and not self._stopping:
            self._rereading[plan] = self._spawn(self._reread(plan))
            self._rereading[plan].add_done_callback(lambda _: self._rereading.pop(plan))

    def blocked(self, plan: str, transition: str) -> Blocked | None:
        """The condition outside the plan's state that holds a candidate, if there is one."""
        desk = self._desks.get(plan)
        if desk is None:
            return None
        until = desk.delayed.get(transition)
        if until is not None and until > self._context.clock.monotonic():
            return Blocked("retry.delay", "waits before its next attempt")
        held = desk.held.get(transition)
        if held is not None:
            return held.blocked
        return CAPACITY if desk.crowded else None

    async def drain(self) -> None:
        """Stop what runs, so that it settles with what it used; nothing new starts."""
        context, self._admitting = self._context, False
        until = context.clock.monotonic() + context.pace.stop_grace_s
        while (
            self._seats.running and self._writer.lost is None and context.clock.monotonic() < until
        ):
            for plan in list(self._desks):
                state = self._writer.state(plan)
                if state is not None:
                    for name in sorted(self._seats.running & state.open.keys()):
                        self._halt(state, name)
            await context.clock.sleep(context.pace.meter_s / 4)

    async def stop(self) -> None:
        """Abandon what runs; its executions stay open in the ledger and are recovered."""
        self._stopping = True
        tasks = {*self._tasks, *self._gathering.tasks}
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        self._seats.leave()

    # -- tasks ------------------------------------------------------------------------------

    def _desk(self, plan: str) -> Desk:
        return self._desks.setdefault(plan, Desk())

    def _forget(self, plan: str) -> None:
        desk = self._desks.pop(plan, None)
        self._seats.forget(plan)
        if desk is not None and desk.timer is not None:
            desk.timer.cancel()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._reap)
        return task

    def _unless_stopping(self, work: Coroutine[Any, Any, None]) -> None:
        if self._stopping:
            work.close()
        else:
            self._spawn(work)

    def _reap(self, task: asyncio.Task[Any]) -> None:
        """Law: nothing is swallowed; a task that failed stops the engine, loudly."""
        self._tasks.discard(task)
        cause = None if task.cancelled() else task.exception()
        if cause is not None:
            self.failed(cause)

    # -- due work ---------------------------------------------------------------------------

    async def _tend(self, plan: str, desk: Desk) -> None:
        """Propose everything that is due, until nothing changes any more."""
        while desk.dirty:
            desk.dirty = False
            try:
                state = await self._writer.settled(plan)
                if state.terminal or not state.seq:
                    self._forget(plan)
                    return
                self._catch_up(state, desk)
                if not state.unfinished and not state.open:
                    await self._conclude(state)
                elif self._admitting:
                    soon = await self._admissions.consider(state, desk)
                    if soon is not None:
                        self._look_again(plan, desk, soon)
            except TheoryError as error:
                if plan in self._writer.plans.aside:
                    self._forget(plan)
                    return
                if error.code not in PASSING | {"ERR_NOT_WRITER", "ERR_CONFLICT"}:
                    raise
                log.warning("plan.waits", plan=plan, code=error.code, reason=error.message)
                if self._writer.lost is not None:
                    return
                self._look_again(plan, desk, self._context.pace.poll_s)

    def _catch_up(self, state: PlanState, desk: Desk) -> None:
        """Carry out the effects of commits whose success nobody learned.

        Law: an admission that a later owner made is not this one's to start.
        """
        for name, attempt in sorted(state.open.items()):
            if attempt.epoch != self._writer.epoch and name not in self.running:
                self.overlooked(state, attempt)
            elif name in desk.doubtful and name not in self._seats:
                self.begin(state, name)
            if name in self._seats:
                self._reins_of(name).follow(attempt)
        if state.cancel is not None:
            for name in sorted(self._seats.running & state.open.keys()):
                self._halt(state, name)

    async def _reread(self, plan: str) -> None:
        """Law: a commit that its writer gave up may land yet; what it started is not left lying."""
        await self._context.clock.sleep(self._context.pace.doubt_s)
        await patiently(self._context, partial(self._writer.reread, plan))
        self.touch(plan)

    async def _conclude(self, state: PlanState) -> None:
        at_seq = self._writer.committed(state.plan)
        verdicts = await evaluate(
            state.goal, state, self._context.world, self._context.artifacts, at_seq=at_seq
        )
        answer = await self._writer.submit(cmd.Conclude(plan=state.plan, verdicts=verdicts))
        if answer.stale:
            self.touch(state.plan)

    def _look_again(self, plan: str, desk: Desk, seconds: float) -> None:
        if desk.timer is not None:
            desk.timer.cancel()

        async def later() -> None:
            await self._context.clock.sleep(seconds)
            desk.timer = None
            self.touch(plan)

        desk.timer = self._spawn(later())

    # -- executions -------------------------------------------------------------------------

    def begin(self, state: PlanState, name: str, *, attached: bool = False) -> None:
        """Run an admitted execution in a task of its own; `attached`: it runs somewhere already."""
        attempt = state.open[name]
        self._desk(state.plan).doubtful.discard(name)
        proposed = state.transitions[attempt.transition].proposed
        self._seats.take(name, proposed.processor_ref, attempt.adapter)
        if attached:
            self._reins_of(name).take_up(attempt)
        work = partial(self._execute, state, attempt, attached=attached)
        self._spawn(self._writer.plans.trusting(state.plan, work))

    async def _execute(self, state: PlanState, attempt: Attempting, *, attached: bool) -> None:
        """Law: the attempt is that of the admission; the live state moves on while it runs."""
        try:
            note = await self._run(state, attempt, attached=attached)
            if note is None:
                self.reap(state.plan, attempt)
            else:
                await self.closing.complete(state.plan, note)
        except BaseException:
            # Law: who watches is never left with a stream that nobody will end.
            drop_stream(self._context, attempt.execution_id)
            raise
        finally:
            self._reins.pop(attempt.execution_id, None)
            self._seats.free(attempt.execution_id)

    async def _run(self, state: PlanState, attempt: Attempting, *, attached: bool) -> Note | None:
        """Execute an attempt; one whose order cannot be read any more is given up.

        Law: what was stopped or given up before it was called is never called, and costs nothing.
        """
        reins = self._reins_of(attempt.execution_id)
        gather = partial(order, self._context, self._inputs, state, attempt)
        try:
            job = await patiently(self._context, gather)
        except TheoryError as error:
            if not attached:
                return unstarted(attempt.execution_id, fault(error))
            await self._still_ours(attempt)
            return await abandon(self._context, attempt, fault(error))
        await self._still_ours(attempt)
        if reins.halt.is_set() and not attached:
            return unstarted(attempt.execution_id, UNCALLED)
        return await execute(self._context, self._metering, job, reins)

    async def _still_ours(self, attempt: Attempting) -> None:
        """Wait until the shard is certainly held, or until this engine is stopped.

        Law: what a successor may have voided is not started by one that slept since its commit.
        """
        told = False
        while not self.entitled():
            if not told:
                log.warning("execution.waits", execution_id=attempt.execution_id)
                told = True
            await self._context.clock.sleep(self._context.pace.poll_s)

    def reap(self, plan: str, attempt: Attempting) -> None:
        """Go on stopping an execution that did not confirm its stop; its plan goes on meanwhile."""
        self._spawn(self._writer.plans.trusting(plan, partial(self._reaper.reap, plan, attempt)))

    def delay(self, plan: str, transition: str, delay_ms: int) -> None:
        """Do not propose a transition before this much time has passed."""
        self._desk(plan).delayed[transition] = self._context.clock.monotonic() + delay_ms / 1000

    @property
    def running(self) -> frozenset[str]:
        """Executions that have a task here, or are about to."""
        return self._seats.running | self._reaper.names

    def _halt(self, state: PlanState, name: str) -> None:
        """Have an execution stopped that runs here."""
        if name in state.open and name in self._seats:
            self._reins_of(name).halt.set()

    def _reins_of(self, name: str) -> Reins:
        return self._reins.setdefault(name, Reins())
