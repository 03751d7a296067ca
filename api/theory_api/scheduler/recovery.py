"""What a new owner does about executions that the last one left open."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import structlog

from theory_api.domain.state import Attempting, PlanState
from theory_api.domain.values import Fault
from theory_api.ports.adapter import Standing
from theory_api.scheduler.context import PASSING, Context
from theory_api.scheduler.outcome import Note, decode
from theory_api.scheduler.reaping import LONGEST_S
from theory_api.scheduler.runner import Runner
from theory_api.scheduler.stopping import ask_to_stop
from theory_api.scheduler.writer import Writer
from theory_core import TheoryError

log = structlog.get_logger(__name__)

ORPHANED = Fault(
    code="ERR_ORPHANED",
    message="the process that ran this execution died; how far it came is unknown",
)
UNSTARTED = Fault(
    code="ERR_ORPHANED",
    message="the process that was about to run this execution died before it started",
)


class Recovery:
    """Decides about every open execution: one settle or void each, no work lost or repeated.

    Law: one that cannot be decided about (its adapter is away, its note unreadable) keeps its hold
    and is looked at again; neither its plan nor anybody else waits for it.
    """

    def __init__(
        self, context: Context, writer: Writer, runner: Runner, *, attaching: bool = True
    ) -> None:
        self._context = context
        self._writer = writer
        self._runner = runner
        self._attaching = attaching
        self._left: dict[tuple[str, str], Attempting] = {}
        self._noted: frozenset[str] = frozenset()
        self._news = asyncio.Event()
        self.looked = asyncio.Event()
        """Set once every open execution was looked at."""

    @property
    def left(self) -> int:
        """Open executions that are not decided about yet."""
        return len(self._left)

    def take(self, state: PlanState) -> None:
        """Take a plan up where it stands.

        Delays before a retry begin anew: the clock that they ran on died with its owner.
        """
        for attempt in state.open.values():
            self._left[state.plan, attempt.execution_id] = attempt
        for name in state.candidates:
            if state.transitions[name].delay_ms:
                self._runner.delay(state.plan, name, state.transitions[name].delay_ms)
        self._runner.touch(state.plan)

    def again(self, state: PlanState, attempt: Attempting) -> None:
        """Take up an execution of an earlier owner that is open after all.

        Law: what was decided on a state ahead of the store is open again if that commit fails.
        """
        if (state.plan, attempt.execution_id) not in self._left:
            self._left[state.plan, attempt.execution_id] = attempt
            self._news.set()

    async def run(self) -> None:
        """Decide about all of them, many at once; clean up behind them, and go on if more come."""
        pause, tidied = self._context.pace.poll_s, False
        while self._writer.lost is None:
            try:
                await self._round()
                if not tidied:
                    tidied = await self._tidy()
            except TheoryError as error:
                if error.code not in PASSING:
                    raise
                log.warning("recovery.waits", code=error.code, reason=error.message)
            self.looked.set()
            if tidied and not self._left:
                self._news.clear()
                await self._news.wait()
                pause = self._context.pace.poll_s
                continue
            await self._context.clock.sleep(pause)
            pause = min(2 * pause, LONGEST_S)

    async def _round(self) -> None:
        if not self._left:
            return
        self._noted = frozenset(await self._context.scratch.names())
        work = iter(list(self._left.items()))
        hands = min(self._context.pace.recovering, len(self._left))
        async with asyncio.TaskGroup() as group:
            for _ in range(hands):
                group.create_task(self._work(work))

    async def _work(self, work: Iterator[tuple[tuple[str, str], Attempting]]) -> None:
        for (plan, name), attempt in work:
            try:
                await self._one(plan, attempt)
                del self._left[plan, name]
            except TheoryError as error:
                if self._writer.lost is not None:
                    return
                labels = {"execution_id": name, "plan": plan, "adapter": attempt.adapter}
                log.warning("execution.undecided", **labels, code=error.code, reason=error.message)

    async def _one(self, plan: str, attempt: Attempting) -> None:
        """A complete outcome note settles as it says.

        Without one, what goes on and can be taken up again is; work that certainly never started
        is voided; everything else is stopped and settled at its hold, and may be retried by policy.
        """
        name = attempt.execution_id
        saved = await self._context.scratch.load(name) if name in self._noted else None
        if saved is not None:
            await self._complete(plan, decode(saved))
            return
        adapter = self._context.adapters.get(attempt.adapter)
        if adapter is None:
            message = f"adapter {attempt.adapter} of an open execution is not configured here"
            raise TheoryError("ERR_UNAVAILABLE", message, {"adapter": attempt.adapter})
        standing = await adapter.standing(name)
        if standing is Standing.ATTACHABLE and attempt.ended is None:
            self._attach(plan, name)
            return
        if standing in {Standing.RUNNING, Standing.ATTACHABLE}:
            grace = self._context.pace.stop_grace_s
            never: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            if not await ask_to_stop(self._context, adapter, name, seconds=grace, until=never):
                log.warning("execution.recovered", execution_id=name, outcome="unconfirmed")
                self._runner.reap(plan, attempt)
                return
        unstarted = standing is Standing.ABSENT and attempt.ended is None
        await self._complete(plan, _lost(name, unstarted=unstarted))

    def _attach(self, plan: str, name: str) -> None:
        """Law: who only settles and leaves, leaves what runs by itself to the next owner."""
        state = self._writer.state(plan)
        if self._attaching and state is not None and name in state.open:
            log.info("execution.recovered", execution_id=name, outcome="attached")
            self._runner.begin(state, name, attached=True)

    async def _complete(self, plan: str, note: Note) -> None:
        log.info("execution.recovered", execution_id=note.execution_id, outcome=note.outcome)
        await self._runner.closing.complete(plan, note)

    async def _tidy(self) -> bool:
        """Remove what executions left that were settled but not cleaned up before a death.

        Whether there is nothing to come back for: what cannot be removed keeps nothing else there.

        Laws: no secret and no process outlives its execution for longer than until the next start;
        a note and a mark outlive their settle. Of a plan that is set aside nobody knows what it
        has open, so nothing is removed before people have looked at it.
        """
        context = self._context
        if self._writer.plans.aside:
            log.warning("recovery.untidied", aside=len(self._writer.plans.aside))
            return True
        noted, done = set(await context.scratch.names()), True
        for adapter in context.adapters.values():
            for name in sorted(set(await adapter.remembered()) - self._busy()):
                done &= await self._released(name, adapter.name)
                noted.discard(name)
        for name in sorted(noted - self._busy()):
            done &= await self._released(name, None)
        return done

    async def _released(self, name: str, adapter: str | None) -> bool:
        try:
            await self._runner.closing.release(name, adapter)
        except TheoryError as error:
            if error.code not in PASSING:
                raise
            labels = {"execution_id": name, "adapter": adapter}
            log.warning("execution.unreleased", **labels, code=error.code, reason=error.message)
            return False
        return True

    def _busy(self) -> set[str]:
        return {*self._runner.running, *(name for _, name in self._left)}


def _lost(name: str, *, unstarted: bool) -> Note:
    """The note of an execution that ended with its owner."""
    return Note(
        execution_id=name,
        outcome="void" if unstarted else "orphaned",
        measured={},
        reported={},
        envelope="",
        duration_ms=0,
        error=UNSTARTED if unstarted else ORPHANED,
    )
