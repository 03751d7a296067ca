"""Why transitions wait: the plan's own state, the world, and what the scheduler knows, in words."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Final

from theory_api.domain.runnable import Blocked, why
from theory_api.domain.state import PlanState, TransitionState
from theory_api.ports.artifacts import ArtifactStore
from theory_api.ports.truth import PlanRow, ReadModel
from theory_api.ports.world import World
from theory_api.scheduler import folding
from theory_api.scheduler.evaluation import evaluate
from theory_api.services.views import WhyView
from theory_core import TheoryError

_FREE: Final = "nothing in the plan holds it; it starts once a scheduler serves this home"


async def refold(read: ReadModel, row: PlanRow) -> PlanState:
    """The plan's state as of its head or later, its chain verified on the way.

    Raises `TheoryError` `ERR_CHAIN_BROKEN`, naming plan and seq, when an event is missing or is not
    the one that was written.
    """
    state = (await folding.refold(read, row.plan)).state
    if state.seq < row.head_seq:
        message = f"event {state.seq + 1} of {row.plan} is missing"
        raise TheoryError("ERR_CHAIN_BROKEN", message, {"plan": row.plan, "seq": state.seq + 1})
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
