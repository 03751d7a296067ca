"""Why a transition is not running: the one list of conditions, in the order they are checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from theory_api.domain.evolve import selector
from theory_api.domain.naming import attempt_id
from theory_api.domain.state import PlanState, TransitionState
from theory_api.domain.values import Fault
from theory_api.domain.vector import MAX_AMOUNT, dimensions
from theory_core import Selector


@dataclass(frozen=True, slots=True)
class Blocked:
    """The first condition that fails."""

    condition: str
    """The predicate's or condition's name, e.g. `budget.available`."""
    reason: str
    """In words, for the person who waits."""
    detail: Mapping[str, str | int] = field(default_factory=dict)


def why(state: PlanState, transition: str) -> Blocked | None:
    """What `transition` waits for by state alone; None when nothing in the state holds it.

    Admission predicates that read the world, retry delays and the number of executions at once
    are the runner's to add.
    """
    entry = state.transitions[transition]
    if entry.terminal:
        return Blocked("transition.ended", f"it has ended: {entry.status}")
    if entry.status == "applying":
        return Blocked("transition.applying", _applies(state, entry))
    blocked = _plan_blocks(state)
    if blocked is not None:
        return blocked
    if entry.unmet:
        return _unmet(state, transition)
    return leased(state, expand(state, transition)) or unaffordable(state, entry.proposed.hold)


def _applies(state: PlanState, entry: TransitionState) -> str:
    attempt = state.open.get(entry.execution_id or "")
    if attempt is not None and attempt.ended == "orphaned":
        return f"attempt {entry.attempt} was told to stop, and nobody has confirmed that it has"
    if attempt is not None and attempt.cancelled:
        return f"attempt {entry.attempt} was cancelled, and is being stopped"
    if attempt is not None and attempt.paused:
        return f"attempt {entry.attempt} stands still until somebody resumes it"
    return f"attempt {entry.attempt} is running"


def _plan_blocks(state: PlanState) -> Blocked | None:
    if state.terminal:
        return Blocked("plan.active", f"the plan has ended: {state.status}")
    if state.cancel is not None:
        return Blocked("plan.active", "the plan is being cancelled")
    if state.failing is not None:
        return Blocked("plan.active", f"the plan is failing: {state.failing.message}")
    if state.status == "paused":
        return Blocked("plan.active", "the plan is paused; resume it to go on")
    if state.breached:
        return Blocked("budget.available", "a hold was breached; top up the budget to go on")
    return None


def _unmet(state: PlanState, transition: str) -> Blocked:
    for dependency in state.transitions[transition].proposed.depends_on:
        before = state.transitions.get(dependency)
        status = "not proposed" if before is None else before.status
        if status != "succeeded":
            reason = f"waits for {dependency}, which is {status}"
            return Blocked("dependency.satisfied", reason, {"transition": dependency})
    message = f"{transition} counts unmet dependencies but all succeeded"
    raise ValueError(message)


def expand(state: PlanState, transition: str) -> tuple[Selector, ...]:
    """The selectors that an admission of the next attempt would lease."""
    entry = state.transitions[transition]
    name = attempt_id(state.plan, transition, entry.attempt)
    return tuple(
        selector(state.plan, spec.kind, spec.path.replace("{execution_id}", name))
        for spec in entry.proposed.write_set
    )


def leased(
    state: PlanState, wanted: tuple[Selector, ...], *, besides: str | None = None
) -> Blocked | None:
    """The lease that stands in the way of `wanted`, if one does."""
    for attempt in state.open.values():
        if attempt.transition == besides:
            continue
        for held in attempt.selectors:
            for asked in wanted:
                if held.overlaps(asked):
                    reason = f"waits for {attempt.transition}, which holds the lease on {held.path}"
                    return Blocked(
                        "lease.acquirable",
                        reason,
                        {"transition": attempt.transition, "path": str(held.path)},
                    )
    return None


def unaffordable(state: PlanState, ask: Mapping[str, int]) -> Blocked | None:
    """The first dimension in which `ask` does not fit beside what is spent and held.

    Where no limit is set, the largest exact sum is one.
    """
    for dimension in dimensions(ask):
        held = state.reserved.get(dimension, 0)
        headroom = state.limit.get(dimension, MAX_AMOUNT) - state.spent.get(dimension, 0) - held
        if ask[dimension] > headroom:
            reason = (
                f"needs {ask[dimension]} {dimension}, headroom is {headroom}"
                f" ({held} held by running work)"
            )
            detail: dict[str, str | int] = {
                "dimension": dimension,
                "ask": ask[dimension],
                "headroom": headroom,
            }
            return Blocked("budget.available", reason, detail)
    return None


def hopeless(state: PlanState, ask: Mapping[str, int]) -> Fault | None:
    """The refusal of an ask that cannot fit even when every hold returns unspent."""
    for dimension in dimensions(ask):
        headroom = state.limit.get(dimension, MAX_AMOUNT) - state.spent.get(dimension, 0)
        if ask[dimension] > headroom:
            message = (
                f"budget exceeded: {dimension} ask {ask[dimension]} is above the headroom"
                f" {max(headroom, 0)}"
            )
            detail: dict[str, str | int] = {
                "dimension": dimension,
                "ask": ask[dimension],
                "headroom": headroom,
            }
            return Fault(code="ERR_BUDGET_EXCEEDED", message=message, detail=detail)
    return None


def beyond_hope(state: PlanState, ask: Mapping[str, int]) -> Fault | None:
    """Why an ask is refused now: it has no hope, and the plan is not waiting for a top-up."""
    if state.breached or state.status != "active":
        return None
    return hopeless(state, ask)
