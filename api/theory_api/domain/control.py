"""Control of one attempt that runs: stopped for good, standing still, going on, allowed less."""

from __future__ import annotations

from theory_api.domain import events as ev
from theory_api.domain.commands import ControlExecution
from theory_api.domain.decision import Decision, Effect, Steer, Stop
from theory_api.domain.state import Attempting, PlanState
from theory_api.domain.vector import checked
from theory_core import TheoryError


def control(state: PlanState, command: ControlExecution) -> Decision:
    """Have an attempt steered (spec: run.v1, Control).

    Laws: what ended, or is being stopped already, is steered by nobody, and asking changes
    nothing; a budget only ever falls, and the hold in the ledger stays what was reserved. Raises
    `TheoryError`: `ERR_CONFLICT` (its adapter cannot have it stand still; the budget would rise),
    `ERR_PLAN_INVALID` (no budget, or one that does not belong to the operation).
    """
    if (command.budget is not None) != (command.op == "set_budget"):
        message = "budget: belongs to set_budget, and to nothing else"
        raise TheoryError("ERR_PLAN_INVALID", message, {"op": command.op})
    budget = checked(command.budget or {}, place="budget")
    attempt = state.open.get(command.execution_id)
    if attempt is None or attempt.ended is not None or attempt.cancelled or state.cancel:
        return Decision()
    if command.op in {"pause", "resume"} and attempt.adapter not in command.able:
        message = f"the adapter {attempt.adapter} cannot have a run stand still"
        raise TheoryError("ERR_CONFLICT", message, {"adapter": attempt.adapter})
    if not _changes(state, attempt, command, budget):
        return Decision()
    controlled = ev.ExecutionControlled(
        execution_id=attempt.execution_id,
        transition=attempt.transition,
        attempt=attempt.attempt,
        op=command.op,
        by=command.by,
        reason=command.reason,
        budget=budget if command.op == "set_budget" else None,
    )
    name = attempt.execution_id
    paused = attempt.paused if command.op == "set_budget" else command.op == "pause"
    steer = Steer(name, paused=paused, budget=attempt.budget | budget)
    effect: Effect = Stop(name) if command.op == "cancel" else steer
    return Decision((controlled,), (effect,))


def _changes(
    state: PlanState, attempt: Attempting, command: ControlExecution, budget: dict[str, int]
) -> bool:
    """Whether anything is different afterwards."""
    match command.op:
        case "pause":
            return not attempt.paused
        case "resume":
            return attempt.paused
        case "set_budget":
            lowered = [_lowers(state, attempt, name, most) for name, most in budget.items()]
            return any(lowered)
        case "cancel":
            return True


def _lowers(state: PlanState, attempt: Attempting, dimension: str, most: int) -> bool:
    """Whether an amount is less than what the attempt may use now; more of it is refused.

    Law: an absent dimension is zero in an ask, so nothing of a limited one is allowed.
    """
    allowed = attempt.allowed.get(dimension)
    if allowed is None:
        allowed = 0 if dimension in state.limit else None
    if allowed is None or most < allowed:
        return True
    if most > allowed:
        message = f"a budget is only lowered: {dimension} may be {allowed} at most"
        detail = {"dimension": dimension, "allowed": allowed, "asked": most}
        raise TheoryError("ERR_CONFLICT", message, detail)
    return False
