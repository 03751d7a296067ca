"""Admissions that are due on a plan: its candidates, tried in their order while places are free."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

from theory_api.domain import commands as cmd
from theory_api.domain import events as ev
from theory_api.domain.runnable import Blocked, beyond_hope, why
from theory_api.domain.state import PlanState
from theory_api.domain.values import Fault
from theory_api.scheduler.answer import Answer
from theory_api.scheduler.capacity import Pool, Seats
from theory_api.scheduler.context import PASSING, Context
from theory_api.scheduler.gathering import CAPACITY, Gathering, Held
from theory_api.scheduler.inputs import MissingInputError, missing
from theory_api.scheduler.outcome import fault
from theory_api.scheduler.writer import Writer
from theory_core import TheoryError

_FIRST: Final = 16
"""Candidates looked at before more of them are listed."""


@dataclass(slots=True)
class Desk:
    """What the runner keeps of one plan; all of it can be lost."""

    delayed: dict[str, float] = field(default_factory=dict)
    """Transition -> monotonic time before which its next attempt is not proposed."""
    held: dict[str, Held] = field(default_factory=dict)
    """What outside the state holds a candidate, or what held it when it was last tried."""
    earlier: dict[str, Held] = field(default_factory=dict)
    """The same of candidates that were left alone since."""
    crowded: bool = False
    """Whether candidates were left alone because no place was free."""
    doubtful: set[str] = field(default_factory=set)
    """Executions whose admission was sent, and nobody learned whether it was committed.

    One that is begun is none of them any more.
    """
    dirty: bool = False
    task: asyncio.Task[None] | None = None
    timer: asyncio.Task[None] | None = None


class Admissions:
    """Proposes the admission of candidates, and takes a place for each until it is decided."""

    def __init__(
        self,
        context: Context,
        writer: Writer,
        gathering: Gathering,
        *,
        owner: str,
        seats: Seats,
        touch: Callable[[str], None],
    ) -> None:
        self._context = context
        self._writer = writer
        self._gathering = gathering
        self._owner = owner
        self._seats = seats
        self._touch = touch

    async def consider(self, state: PlanState, desk: Desk) -> float | None:
        """Try candidates in turn while places are free; remember why the others wait.

        The admissions of one turn are judged together, each by itself. Seconds after which to look
        again come back where something outside the ledger may have changed by then.
        """
        before, desk.held, desk.earlier = desk.earlier | desk.held, {}, {}
        desk.crowded = False
        soonest: float | None = None
        absent: dict[str, MissingInputError] = {}
        asked: list[tuple[cmd.Admit, asyncio.Future[Answer]]] = []
        full: set[Pool] = set()
        for name in _in_turn(state.candidates):
            if self._seats.crowded(state.plan):
                desk.crowded = True
                # Law: what is not looked at costs nothing; its answer may hold it still later.
                desk.earlier = _untried(before, desk.held, state)
                break
            wait = desk.delayed.get(name, 0.0) - self._context.clock.monotonic()
            if wait > 0:
                soonest = wait if soonest is None else min(soonest, wait)
                continue
            desk.delayed.pop(name, None)
            try:
                found = await self._try(state, name, before.get(name), full)
            except MissingInputError as error:
                absent[name] = error
                reason = f"waits for {error.path}, which is not there"
                found = Held(Blocked("artifact.exists", reason))
            if isinstance(found, Held):
                desk.held[name] = found
                if found.passing:
                    soonest = min(soonest or self._context.pace.poll_s, self._context.pace.poll_s)
            elif found is not None:
                ref = state.transitions[name].proposed.processor_ref
                asked.append((found, self._ask(state.plan, desk, found, ref)))
        await self._judged(state, asked)
        crowded = desk.crowded or any(held.seatless for held in desk.held.values())
        if absent and not state.open and not desk.dirty and soonest is None and not crowded:
            for name, gap in absent.items():
                attempt = state.transitions[name].attempt
                await self._refuse(state, name, attempt, fault(missing(gap, name)))
        return soonest

    async def _try(
        self, state: PlanState, name: str, before: Held | None, full: set[Pool]
    ) -> cmd.Admit | Held | None:
        """The admission of one candidate, or what holds it; None once it is refused.

        Law: of a wide plan, those that wait for their processor cost next to nothing: the pools in
        `full` were found so in this turn.
        """
        waited = None if before is None else before.pool
        if waited is not None and (waited in full or self._seats.full(state.plan, waited)):
            full.add(waited)
            return before
        entry = state.transitions[name]
        no_hope = beyond_hope(state, entry.proposed.hold)
        if no_hope is not None:
            await self._refuse(state, name, entry.attempt, no_hope)
            return None
        blocked = why(state, name)
        if blocked is not None:
            return Held(blocked)
        if before is not None and before.lasts(
            state, name, at_seq=self._writer.committed(state.plan)
        ):
            return before
        attempt = entry.attempt
        try:
            return await self._gather(state, name)
        except TheoryError as error:
            if error.code in PASSING:
                raise
            await self._refuse(state, name, attempt, fault(error))
            return None

    async def _gather(self, state: PlanState, name: str) -> cmd.Admit | Held:
        """The admission of a candidate if its processor has a place for it, before and after."""
        at_seq = self._writer.committed(state.plan)
        pool = await self._gathering.pool(state, name)
        if self._seats.full(state.plan, pool):
            return _waits(pool)
        admission = await self._gathering.admission(
            state, name, at_seq=at_seq, owner=self._owner, epoch=self._writer.epoch
        )
        if isinstance(admission, Held):
            return admission
        if self._seats.crowded(state.plan):
            return Held(CAPACITY)
        return _waits(pool) if self._seats.full(state.plan, pool) else admission

    def _ask(self, plan: str, desk: Desk, admission: cmd.Admit, ref: str) -> asyncio.Future[Answer]:
        """Take a place for the execution, and have its admission judged."""
        name = admission.execution_id

        def answered(future: asyncio.Future[Answer]) -> None:
            error = None if future.cancelled() else future.exception()
            started = False
            if error is None and not future.cancelled():
                started = ev.ExecutionStarted.KIND in future.result().events
                if future.result().stale:
                    self._touch(plan)
            elif not isinstance(error, TheoryError) or error.code != "ERR_TOO_LARGE":
                desk.doubtful.add(name)
            if not started:
                self._seats.free(name)

        future = self._writer.ask(admission)
        self._seats.take(name, ref, admission.adapter)
        future.add_done_callback(answered)
        return future

    async def _judged(
        self, state: PlanState, asked: list[tuple[cmd.Admit, asyncio.Future[Answer]]]
    ) -> None:
        """Wait for all answers; refuse what is too large, raise what else went wrong."""
        if not asked:
            return
        await asyncio.wait([future for _, future in asked])
        for admission, future in asked:
            error = future.exception()
            if not isinstance(error, TheoryError) or error.code != "ERR_TOO_LARGE":
                future.result()
                continue
            await self._refuse(state, admission.transition, admission.attempt, fault(error))

    async def _refuse(self, state: PlanState, name: str, attempt: int, error: Fault) -> None:
        command = cmd.Refuse(plan=state.plan, transition=name, attempt=attempt, error=error)
        await self._writer.submit(command)


def _waits(pool: Pool) -> Held:
    """What holds a candidate whose processor runs as often as it declares."""
    where = f"{pool.processor_ref} on {pool.adapter}"
    reason = f"waits for a place of {where}, which runs {pool.most} at once"
    detail: dict[str, str | int] = {
        "processor_ref": pool.processor_ref,
        "adapter": pool.adapter,
        "most": pool.most,
    }
    return Held(Blocked("processor.concurrency", reason, detail), pool=pool)


def _untried(
    before: Mapping[str, Held], tried: Mapping[str, Held], state: PlanState
) -> dict[str, Held]:
    """The answers that candidates got before, of those that got none now."""
    return {
        name: held
        for name, held in before.items()
        if name not in tried and name in state.candidates
    }


def _in_turn(candidates: Mapping[str, None]) -> Iterator[str]:
    """Every candidate once, in order, also while candidates come and go."""
    seen: set[str] = set()
    size = _FIRST
    while fresh := [name for name in islice(candidates, len(seen) + size) if name not in seen]:
        seen.update(fresh)
        size *= 2
        for name in fresh:
            if name in candidates:
                yield name
