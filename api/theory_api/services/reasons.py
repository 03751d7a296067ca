"""Why transitions wait: the plan's own state, the world, and what the scheduler knows, in words."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Final

from theory_api.domain.evolve import fold
from theory_api.domain.runnable import Blocked, why
from theory_api.domain.state import PlanState, TransitionState
from theory_api.ports.artifacts import ArtifactStore
from theory_api.ports.truth import PlanRow, ReadModel
from theory_api.ports.world import World
from theory_api.scheduler.evaluation import evaluate
from theory_api.services.views import WhyView
from theory_core import TheoryError

_PAGE: Final = 1000
_FREE: Final = "nothing in the plan holds it; it starts once a scheduler serves this home"


async def refold(read: ReadModel, row: PlanRow) -> PlanState:
    """The plan's state as of its head or later.

    Raises `TheoryError` `ERR_CHAIN_BROKEN` when events are missing.
    """
    state = PlanState(plan=row.plan)
    while state.seq < row.head_seq:
        page = await read.events(row.plan, after=state.seq, limit=_PAGE)
        if not page:
            message = f"event {state.seq + 1} of {row.plan} is missing"
            raise TheoryError("ERR_CHAIN_BROKEN", message, {"seq": state.seq + 1})
        fold(row.plan, (event.body for event in page), state)
    return state


async def reasons(
    state: PlanState,
    world: World,
    artifacts: ArtifactStore,
    holds: Callable[[str, str], Blocked | None] | None,
) -> AsyncIterator[WhyView]:
    """One reason for each transition that has not succeeded, in the order of the plan."""
    for name, entry in state.transitions.items():
        if entry.status == "succeeded":
            continue
        blocked = why(state, name)
        if blocked is None:
            blocked = await _outside(state, name, entry, world, artifacts, holds)
        reason, detail = blocked.reason, dict(blocked.detail)
        if entry.error is not None:
            reason = f"{reason}; {entry.error.code}: {entry.error.message}"
            detail |= {"code": entry.error.code}
        yield WhyView(
            transition=name,
            status=entry.status,
            condition=blocked.condition,
            reason=reason,
            detail=detail,
        )


async def _outside(
    state: PlanState,
    name: str,
    entry: TransitionState,
    world: World,
    artifacts: ArtifactStore,
    holds: Callable[[str, str], Blocked | None] | None,
) -> Blocked:
    for verdict in await evaluate(entry.proposed.admission, state, world, artifacts, own=name):
        if verdict.verdict != "true":
            return Blocked(verdict.name, verdict.reason)
    held = None if holds is None else holds(state.plan, name)
    return held or Blocked("none", _FREE)
