"""Has a result recorded that came after its attempt was settled."""

from __future__ import annotations

import structlog

from theory_api.domain.state import PlanState
from theory_api.scheduler.outcome import Note
from theory_api.scheduler.writer import Writer
from theory_core import TheoryError

log = structlog.get_logger(__name__)


async def record(writer: Writer, state: PlanState, note: Note) -> None:
    """Propose a settled attempt's report once more: another result than its own is a duplicate.

    Law: a result of a plan that has ended, or of an attempt that is not the newest of its
    transition, is logged and changes nothing. Raises what a commit raises.
    """
    if not note.envelope:
        return
    facts = {"execution_id": note.execution_id, "envelope": note.envelope}
    if state.terminal:
        log.info("execution.late", **facts, plan_status=state.status)
        return
    try:
        answer = await writer.submit(note.command(state.plan, ()))
    except TheoryError as error:
        if error.code != "ERR_CONFLICT":
            raise
        log.info("execution.late", **facts, code=error.code)
        return
    if answer.events:
        log.warning("execution.duplicate", **facts)
