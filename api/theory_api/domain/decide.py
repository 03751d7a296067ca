"""Judge a command on a plan's state: the only place where a policy becomes events.

Legal:       absent -> active <-> paused; active | paused -> cancelling -> cancelled;
             active | paused -> completed | failed; pending -> applying -> pending (retried),
             succeeded, failed, cancelled; pending -> refused, skipped, cancelled.
Impossible:  anything after a terminal event of a plan; a second settle of an execution; an
             admission without a reservation; a cancelled plan with an open reservation.
"""

from __future__ import annotations

from collections.abc import Iterator

from theory_api.domain import commands as cmd
from theory_api.domain import events as ev
from theory_api.domain.admission import admit, refuse
from theory_api.domain.completion import complete, orphan
from theory_api.domain.control import control
from theory_api.domain.decision import Decision, Draft, Stop
from theory_api.domain.evolve import evolve
from theory_api.domain.predicates import stale
from theory_api.domain.proposal import proposed, unfit
from theory_api.domain.runnable import hopeless
from theory_api.domain.state import PlanState
from theory_api.domain.values import Fault
from theory_api.domain.vector import add, checked
from theory_core import TheoryError


def decide(state: PlanState, command: cmd.Command) -> Decision:
    """The events and effects of `command` on `state`, which is not changed.

    Raises `TheoryError`: `ERR_CONFLICT` (the plan exists, has ended, or is not in the state that
    the command needs), `ERR_NOT_FOUND` (no such plan or transition), `ERR_PLAN_INVALID`.
    """
    if isinstance(command, cmd.CreatePlan):
        return _create(state, command)
    if state.status == "absent":
        raise TheoryError("ERR_NOT_FOUND", f"no plan {command.plan}", {"plan": command.plan})
    match command:
        case cmd.Admit():
            return admit(state, command)
        case cmd.Refuse():
            return refuse(state, command)
        case cmd.Complete() | cmd.Orphan() | cmd.ControlExecution():
            return _attempt(state, command)
        case cmd.Conclude():
            return _conclude(state, command)
        case cmd.Enquire():
            return Decision()
        case _:
            return _operate(state, command)


def _attempt(
    state: PlanState, command: cmd.Complete | cmd.Orphan | cmd.ControlExecution
) -> Decision:
    """What happens to one attempt, whatever state its plan is in."""
    match command:
        case cmd.Complete():
            return complete(state, command)
        case cmd.Orphan():
            return orphan(state, command)
        case cmd.ControlExecution():
            return control(state, command)


def _operate(state: PlanState, command: cmd.Command) -> Decision:
    """What people ask of a plan that has not ended."""
    if isinstance(command, cmd.CancelPlan) and (state.cancel or state.status == "cancelled"):
        return Decision()
    if state.terminal:
        message = f"the plan has ended: {state.status}"
        raise TheoryError("ERR_CONFLICT", message, {"status": state.status})
    match command:
        case cmd.CancelPlan():
            return _cancel(state, command)
        case cmd.ProposeTransition():
            return _propose(state, command)
        case cmd.PausePlan():
            if state.status != "active":
                return Decision()
            return Decision((ev.PlanPaused(by=command.by, reason=command.reason),))
        case cmd.ResumePlan():
            if state.status != "paused":
                return Decision()
            return Decision((ev.PlanResumed(by=command.by, reason=command.reason),))
        case cmd.TopUp():
            return _top_up(state, command)
        case _:
            message = f"no rule for {type(command).__name__}"
            raise TypeError(message)


def _create(state: PlanState, command: cmd.CreatePlan) -> Decision:
    if state.status != "absent":
        if state.document == command.document:
            return Decision()
        message = "another plan has this name already; choose another name"
        raise TheoryError("ERR_CONFLICT", message, {"plan": command.plan})
    created = ev.PlanCreated(
        schema="theory.plan.v1",
        document=command.document,
        transitions=len(command.proposals),
        limit=dict(command.limit),
        policy=command.policy,
        lane=command.lane,
        registry_snapshot=command.registry_snapshot,
        goal=command.goal,
        invariants=command.invariants,
        by=command.by,
    )
    attached = [
        ev.ArtifactProduced(part=1, parts=1, outputs=(output,), by=command.by)
        for output in command.attachments
    ]
    proposals = [proposed(proposal, command.by) for proposal in command.proposals]
    return _refuse_hopeless(command, created, [*attached, *proposals])


def _refuse_hopeless(
    command: cmd.CreatePlan, created: ev.PlanCreated, rest: list[ev.Event]
) -> Decision:
    """A plan whose work cannot fit its budget says so at once, before anything is spent."""
    empty = PlanState(plan=command.plan, limit=dict(command.limit))
    faults = {
        proposal.transition: fault
        for proposal in command.proposals
        if (fault := hopeless(empty, proposal.hold)) is not None
    }
    events = [created, *rest]
    if not faults:
        return Decision(tuple(events))
    from_creation = _dry(command.plan, events)
    draft = Draft(from_creation)
    for transition, fault in faults.items():
        if transition not in draft.ended:
            draft.refuse(transition, fault)
    return Decision((*events, *draft.events))


def _dry(plan: str, events: list[ev.Event]) -> PlanState:
    state = PlanState(plan=plan)
    for seq, event in enumerate(events, start=1):
        evolve(state, seq, event)
    return state


def _propose(state: PlanState, command: cmd.ProposeTransition) -> Decision:
    refused = unfit(state, (command.proposal,))
    if refused is not None:
        _, fault = refused
        raise TheoryError(fault.code, fault.message, dict(fault.detail))
    return Decision((proposed(command.proposal, command.by),))


def _cancel(state: PlanState, command: cmd.CancelPlan) -> Decision:
    draft = Draft(state)
    draft.emit(ev.PlanCancelRequested(by=command.by, reason=command.reason))
    draft.halt("the plan was cancelled")
    draft.effects.extend(Stop(execution_id) for execution_id in state.open)
    if not state.open:
        draft.emit(ev.PlanCancelled(by=command.by, reason=command.reason))
    return draft.done()


def _top_up(state: PlanState, command: cmd.TopUp) -> Decision:
    amount = checked(command.amount, place="amount")
    if not any(amount.values()):
        raise TheoryError("ERR_PLAN_INVALID", "amount: a top-up raises something", {})
    for dimension in amount:
        if dimension not in state.limit:
            message = f"{dimension} is not limited in this plan"
            raise TheoryError("ERR_PLAN_INVALID", message, {"dimension": dimension})
    limit = add(state.limit, amount)
    return Decision((ev.BudgetToppedUp(amount=amount, limit=limit, by=command.by),))


def _conclude(state: PlanState, command: cmd.Conclude) -> Decision:
    """End a plan whose transitions have all ended.

    Law: completed exactly when the goal holds and nothing made completion impossible; an empty
    goal means that every transition succeeded.
    """
    if state.terminal or state.unfinished or state.open or state.cancel is not None:
        return Decision()
    if stale(state, command.verdicts):
        return Decision(stale=True)
    error = state.failing or _unreached(state, command)
    counts, spent = state.tally(), dict(state.spent)
    if error is None:
        return Decision((ev.PlanCompleted(verdicts=command.verdicts, counts=counts, spent=spent),))
    failed = ev.PlanFailed(error=error, verdicts=command.verdicts, counts=counts, spent=spent)
    return Decision((failed,))


def _failures(state: PlanState) -> Iterator[tuple[str, Fault]]:
    """Transitions that ended by an error of their own, in their order."""
    for name, entry in state.transitions.items():
        if entry.error is not None and entry.status in {"failed", "refused"}:
            yield name, entry.error


def _unreached(state: PlanState, command: cmd.Conclude) -> Fault | None:
    asked = [(predicate.name, predicate.params) for predicate in state.goal]
    answered = [(verdict.name, verdict.params) for verdict in command.verdicts]
    if asked != answered:
        message = "the verdicts are not those of the plan's goal"
        raise TheoryError("ERR_CONFLICT", message, {"goal": len(asked)})
    for verdict in command.verdicts:
        if verdict.verdict != "true":
            message = f"goal not reached: {verdict.name} is {verdict.verdict}: {verdict.reason}"
            detail: dict[str, str | int] = {"predicate": verdict.name}
            for name, fault in _failures(state):
                message = f"{name} {state.transitions[name].status}: {fault.message}; {message}"
                detail |= {"transition": name, "cause": fault.code}
                break
            return Fault(code="ERR_PREDICATE_FAILED", message=message[:1024], detail=detail)
    if not state.goal:
        for name, entry in state.transitions.items():
            if entry.status != "succeeded":
                cause = entry.error or Fault(
                    code="ERR_PREDICATE_FAILED", message=f"{name} ended {entry.status}"
                )
                return Fault(
                    code=cause.code,
                    message=f"{name} ended {entry.status}: {cause.message}"[:1024],
                    detail={"transition": name},
                )
    return None
