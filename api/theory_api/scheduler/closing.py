"""How an execution's outcome is settled: reported until it is decided, then cleaned up behind."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

import structlog

from theory_api.domain import commands as cmd
from theory_api.domain.state import Attempting, PlanState
from theory_api.scheduler.context import PASSING, Context
from theory_api.scheduler.duplicates import record
from theory_api.scheduler.evaluation import evaluate
from theory_api.scheduler.execution import tell
from theory_api.scheduler.outcome import Note
from theory_api.scheduler.proposing import Proposing
from theory_api.scheduler.reaping import LONGEST_S
from theory_api.scheduler.watching import drop_stream, end_stream
from theory_api.scheduler.writer import Writer
from theory_core import TheoryError

log = structlog.get_logger(__name__)

Spawn = Callable[[Coroutine[Any, Any, None]], None]
"""Has work done beside the caller; a runner that is stopping begins nothing more."""


class Closing:
    """Completes executions. It has no say: what it reports is decided by `decide`."""

    def __init__(self, context: Context, writer: Writer, spawn: Spawn) -> None:
        self._context = context
        self._writer = writer
        self._spawn = spawn
        self._proposing = Proposing(context)

    async def complete(self, plan: str, note: Note) -> None:
        """Propose a completion, a duplicate one too, until it is decided; then clean up."""
        context, settling = self._context, None
        conflict: TheoryError | None = None
        while True:
            try:
                state = await self._writer.load(plan)
                attempt = state.open.get(note.execution_id)
                if attempt is None:
                    # Law: a note outlives its commit; a state ahead of the store may fall back.
                    if note.execution_id in (await self._writer.settled(plan)).open:
                        continue
                    await record(self._writer, state, note)
                    break
                if conflict is not None:
                    raise conflict
                settling = attempt
                note, decided = await self._report(state, attempt, note)
            except TheoryError as error:
                again = error.code in PASSING | {"ERR_CONFLICT"} and error is not conflict
                if self._writer.lost is not None or not again:
                    raise
                if error.code == "ERR_CONFLICT":
                    # Law: a stale report is refused; another one of it was decided meanwhile.
                    conflict, settling = error, None
                else:
                    await context.clock.sleep(context.pace.poll_s)
                continue
            if decided:
                break
        if settling is not None:
            tell(note, settling)
            await end_stream(context, note)
        else:
            drop_stream(context, note.execution_id)
        await self._clean(note.execution_id, settling.adapter if settling else None)

    async def _report(self, state: PlanState, attempt: Attempting, note: Note) -> tuple[Note, bool]:
        """Have an outcome judged, with the answers of the success predicates and its proposals.

        The outcome as it was reported, and whether that was decided; if not, the plan has moved on.
        Law: nothing that a run proposes is looked at before the run itself is a success.
        """
        proposed = state.transitions[attempt.transition].proposed
        verdicts = await evaluate(
            proposed.success if note.outcome == "succeeded" else (),
            state,
            self._context.world,
            self._context.artifacts,
            at_seq=self._writer.committed(state.plan),
            own=attempt.transition,
            pending=note.outputs,
            prefix=attempt.write_prefix,
        )
        proposals: tuple[cmd.Proposal, ...] = ()
        if all(verdict.verdict == "true" for verdict in verdicts):
            note, proposals = await self._proposing.judge(state, attempt, note)
        answer = await self._writer.submit(note.command(state.plan, verdicts, proposals))
        return note, not answer.stale

    async def _clean(self, name: str, adapter: str | None) -> None:
        """Clean up behind a settled execution; what cannot be removed now is tried again.

        Law: what is settled is settled; a folder that does not go stops no scheduler, and takes no
        place of an execution.
        """
        try:
            await self.release(name, adapter)
        except TheoryError as error:
            if error.code not in PASSING:
                raise
            log.warning("execution.unreleased", execution_id=name, code=error.code)
            self._spawn(self._clean_later(name, adapter))

    async def _clean_later(self, name: str, adapter: str | None) -> None:
        pause = self._context.pace.poll_s
        while True:
            await self._context.clock.sleep(pause)
            try:
                await self.release(name, adapter)
            except TheoryError as error:
                if error.code not in PASSING:
                    raise
                pause = min(2 * pause, LONGEST_S)
            else:
                return

    async def release(self, name: str, adapter: str | None) -> None:
        """Forget an execution that is settled."""
        if adapter is not None:
            await self._context.adapters[adapter].release(name)
        await self._context.scratch.drop(name)
