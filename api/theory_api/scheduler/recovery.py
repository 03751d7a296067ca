"""What a new owner does about executions that the last one left open."""

from __future__ import annotations

import structlog

from theory_api.domain.state import Attempting
from theory_api.domain.values import Fault
from theory_api.ports.adapter import Standing
from theory_api.scheduler.context import Context
from theory_api.scheduler.outcome import Note, decode
from theory_api.scheduler.runner import Runner
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


async def recover(context: Context, writer: Writer, runner: Runner, plan: str) -> None:
    """Settle every open execution of a plan: one settle or void each, no work lost or repeated.

    A complete outcome note settles as it says. Without one, work that certainly never started is
    voided; everything else is stopped and settled at its hold, and may be retried by policy.
    Delays before a retry begin anew: the clock that they ran on died with its owner.
    """
    state = await writer.load(plan)
    for attempt in list(state.open.values()):
        note = await _note(context, attempt)
        log.info("execution.recovered", execution_id=attempt.execution_id, outcome=note.outcome)
        await runner.complete(plan, note)
    state = await writer.load(plan)
    for name in state.candidates:
        runner.delay(plan, name, state.transitions[name].delay_ms)
    runner.touch(plan)


async def tidy(context: Context, runner: Runner) -> None:
    """Remove what executions left that were settled but not cleaned up before their owner died.

    Law: no secret and no process outlives its execution for longer than until the next start.
    """
    noted = set(await context.scratch.names())
    for adapter in context.adapters.values():
        for name in sorted(set(await adapter.remembered()) - runner.running):
            await runner.release(name, adapter.name)
            noted.discard(name)
    for name in sorted(noted - runner.running):
        await runner.release(name, None)


async def _note(context: Context, attempt: Attempting) -> Note:
    saved = await context.scratch.load(attempt.execution_id)
    if saved is not None:
        return decode(saved)
    adapter = context.adapters.get(attempt.adapter)
    if adapter is None:
        message = f"adapter {attempt.adapter} of an open execution is not configured here"
        raise TheoryError("ERR_UNAVAILABLE", message, {"adapter": attempt.adapter})
    standing = await adapter.standing(attempt.execution_id)
    if standing is Standing.RUNNING and not await adapter.cancel(attempt.execution_id):
        message = "an execution of the last owner cannot be stopped"
        raise TheoryError("ERR_UNAVAILABLE", message, {"execution_id": attempt.execution_id})
    unstarted = standing is Standing.ABSENT
    return Note(
        execution_id=attempt.execution_id,
        outcome="void" if unstarted else "orphaned",
        measured={},
        reported={},
        envelope="",
        duration_ms=0,
        error=UNSTARTED if unstarted else ORPHANED,
    )
