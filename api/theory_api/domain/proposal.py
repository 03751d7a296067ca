"""Whether a plan takes more transitions than it was made of, and the events that say so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from theory_api.domain import events as ev
from theory_api.domain.commands import Proposal, Usage
from theory_api.domain.runnable import hopeless
from theory_api.domain.settlement import booked, left
from theory_api.domain.state import Attempting, PlanState
from theory_api.domain.values import Fault
from theory_api.domain.vector import dimensions
from theory_core import LIMITS


def allowance(state: PlanState, attempt: Attempting, usage: Usage) -> dict[str, int]:
    """What `attempt`, once it is settled for `usage`, leaves to what its run proposes.

    A dimension that is neither held nor limited is absent, and bounds nothing.
    """
    actual, _ = booked(attempt.hold, usage, state.spent)
    return left(attempt.hold, actual, state.limit)


def unfit(
    state: PlanState, proposals: Sequence[Proposal], allowed: Mapping[str, int] | None = None
) -> tuple[str, Fault] | None:
    """The first of `proposals` that the plan cannot take, and why; each after those it depends on.

    Law: in sum they hold no more than is `allowed`, where something is (see `allowance`). The name
    is empty where no single one is to blame. Codes: `ERR_CONFLICT` (the plan is ending, or has a
    transition of this name), `ERR_PLAN_INVALID` (too many, or after something that cannot succeed),
    `ERR_BUDGET_EXCEEDED`.
    """
    if state.cancel is not None or state.failing is not None or not state.unfinished:
        message = "the plan is ending and takes no more transitions"
        return "", Fault(code="ERR_CONFLICT", message=message, detail={"status": state.status})
    cap = LIMITS["transitions_per_plan"]
    if len(state.transitions) + len(proposals) > cap:
        message = f"$.transitions: a plan has at most {cap} transitions"
        return "", Fault(
            code="ERR_PLAN_INVALID", message=message, detail={"place": "$.transitions"}
        )
    before: set[str] = set()
    asked: dict[str, int] = {}
    for proposal in proposals:
        fault = _unfit(state, proposal, before)
        if fault is None and allowed is not None:
            fault = _unheld(proposal, asked, allowed)
        if fault is not None:
            return proposal.transition, fault
        before.add(proposal.transition)
    return None


def _unfit(state: PlanState, proposal: Proposal, before: set[str]) -> Fault | None:
    name = proposal.transition
    if name in state.transitions or name in before:
        message = f"transition {name} exists already"
        return Fault(code="ERR_CONFLICT", message=message, detail={"transition": name})
    for dependency in proposal.depends_on:
        known = state.transitions.get(dependency)
        lost = known is not None and known.terminal and known.status != "succeeded"
        if lost or (known is None and dependency not in before):
            message = f"{name} depends on {dependency}, which cannot succeed"
            detail: dict[str, str | int] = {"transition": dependency}
            return Fault(code="ERR_PLAN_INVALID", message=message, detail=detail)
    return hopeless(state, proposal.hold)


def _unheld(proposal: Proposal, asked: dict[str, int], allowed: Mapping[str, int]) -> Fault | None:
    """Why `proposal` is beyond what is allowed beside what was `asked` before, and is added to."""
    for dimension in dimensions(proposal.hold):
        asked[dimension] = ask = asked.get(dimension, 0) + proposal.hold[dimension]
        rest = allowed.get(dimension, ask)
        if ask > rest:
            message = (
                f"budget exceeded: {dimension} ask {ask}, in sum, is above the {rest} that the"
                " proposing run's reservation has left"
            )
            detail: dict[str, str | int] = {"dimension": dimension, "ask": ask, "left": rest}
            return Fault(code="ERR_BUDGET_EXCEEDED", message=message, detail=detail)
    return None


def proposed(proposal: Proposal, by: str) -> ev.TransitionProposed:
    """The event that adds a transition to its plan."""
    return ev.TransitionProposed(
        transition=proposal.transition,
        processor_ref=proposal.processor_ref,
        mode=proposal.mode,
        inputs=proposal.inputs,
        depends_on=proposal.depends_on,
        write_prefix=proposal.write_prefix,
        write_set=proposal.write_set,
        admission=proposal.admission,
        success=proposal.success,
        hold=dict(proposal.hold),
        timeout_ms=proposal.timeout_ms,
        by=by,
        adapter=proposal.adapter,
    )
