"""How an event changes the fold of a plan: mechanical; what may happen says the lifecycle."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any, Final, Literal

from theory_api.domain import events as ev
from theory_api.domain.kinds import from_data
from theory_api.domain.lifecycle import require
from theory_api.domain.state import Attempting, PlanState, TransitionState
from theory_api.domain.values import Fault
from theory_api.domain.vector import add, subtract
from theory_core import EVENT_VERSION, Selector, TheoryError, loads_strict


def evolve(state: PlanState, seq: int, event: ev.Event | None) -> PlanState:
    """Apply `event`, which has sequence number `seq`; changes and returns `state`.

    `None` stands for a kind that moves no plan. Raises `TheoryError` `ERR_CHAIN_BROKEN`, and
    changes nothing, when `seq` does not follow the last one or the event cannot follow in `state`.
    """
    if seq != state.seq + 1:
        message = f"event {seq} does not follow event {state.seq}"
        raise TheoryError("ERR_CHAIN_BROKEN", message, {"seq": seq})
    if event is not None:
        require(state, event)
    state.seq = seq
    if event is not None:
        apply = _APPLY.get(type(event))
        if apply is not None:
            apply(state, event)
    return state


def fold(plan: str, bodies: Iterable[bytes], state: PlanState | None = None) -> PlanState:
    """The state after the stored canonical `bodies`, on top of `state` or from nothing.

    Raises `TheoryError` `ERR_CHAIN_BROKEN` for an event of another plan or version.
    """
    folded = state if state is not None else PlanState(plan=plan)
    for body in bodies:
        stored: Any = loads_strict(body)
        if stored["v"] != EVENT_VERSION or stored["plan"] != plan:
            message = f"event {stored['seq']} is not one of {plan}, or of another version"
            raise TheoryError("ERR_CHAIN_BROKEN", message, {"plan": plan})
        evolve(folded, stored["seq"], from_data(stored["kind"], stored["data"]))
    return folded


@lru_cache(maxsize=4096)
def selector(plan: str, kind: Literal["exact", "prefix"], path: str) -> Selector:
    """The core's selector of a path in `plan`; raises the core's path errors."""
    return Selector(kind, path, root=plan)


def _created(state: PlanState, event: ev.PlanCreated) -> None:
    state.status = "active"
    state.limit = dict(event.limit)
    state.policy = event.policy
    state.lane = event.lane
    state.registry_snapshot = event.registry_snapshot
    state.document = event.document
    state.goal = event.goal
    state.invariants = event.invariants


def _proposed(state: PlanState, event: ev.TransitionProposed) -> None:
    known = state.transitions
    entry = TransitionState(proposed=event, position=len(known))
    for dependency in event.depends_on:
        state.dependents.setdefault(dependency, []).append(event.transition)
        before = known.get(dependency)
        if before is None or before.status != "succeeded":
            entry.unmet += 1
    known[event.transition] = entry
    state.unfinished += 1
    if not entry.unmet:
        state.candidates[event.transition] = None


def _admitted(state: PlanState, event: ev.TransitionAdmitted) -> None:
    entry = state.transitions[event.transition]
    entry.status = "applying"
    entry.admitted = event.attempt
    entry.execution_id = event.execution_id
    entry.write_prefix = event.write_prefix
    entry.results = ()
    state.candidates.pop(event.transition, None)
    state.open[event.execution_id] = Attempting(
        execution_id=event.execution_id,
        transition=event.transition,
        attempt=event.attempt,
        hold={},
        write_prefix=event.write_prefix,
        selectors=tuple(selector(state.plan, spec.kind, spec.path) for spec in event.write_set),
    )


def _reserved(state: PlanState, event: ev.BudgetReserved) -> None:
    attempt = state.open[event.execution_id]
    attempt.hold, attempt.epoch = dict(event.hold), event.epoch
    state.reserved = add(state.reserved, event.hold)


def _started(state: PlanState, event: ev.ExecutionStarted) -> None:
    attempt = state.open[event.execution_id]
    attempt.inputs = event.inputs
    attempt.inputs_hash = event.inputs_hash
    attempt.adapter = event.adapter


def _controlled(state: PlanState, event: ev.ExecutionControlled) -> None:
    attempt = state.open[event.execution_id]
    match event.op:
        case "cancel":
            attempt.cancelled = True
        case "set_budget":
            attempt.budget |= event.budget or {}
        case _:
            attempt.paused = event.op == "pause"


def _settled(state: PlanState, event: ev.BudgetSettled) -> None:
    state.reserved = subtract(state.reserved, event.hold)
    state.spent = add(state.spent, event.actual)
    entry = state.transitions[event.transition]
    entry.cost = add(entry.cost, event.actual)
    del state.open[event.execution_id]


def _voided(state: PlanState, event: ev.BudgetVoided) -> None:
    state.transitions[event.transition].excused += 1
    state.reserved = subtract(state.reserved, event.hold)
    del state.open[event.execution_id]


def _topped_up(state: PlanState, event: ev.BudgetToppedUp) -> None:
    state.limit = dict(event.limit)
    state.breached = False


def _produced(state: PlanState, event: ev.ArtifactProduced) -> None:
    if event.execution_id is not None:
        attempt = state.open[event.execution_id]
        records = f"/artifacts/execution/{event.execution_id}/"
        for prefix in (attempt.write_prefix, records):
            if any(output.path.startswith(prefix) for output in event.outputs):
                state.touches.append((state.seq, selector(state.plan, "prefix", prefix)))
        return
    for output in event.outputs:
        state.touches.append((state.seq, selector(state.plan, "exact", output.path)))


def _finish(state: PlanState, transition: str, status: str, error: Fault | None = None) -> None:
    entry = state.transitions[transition]
    entry.status = status
    entry.error = error
    state.candidates.pop(transition, None)
    state.unfinished -= 1
    state.counts[status] = state.counts.get(status, 0) + 1


def _succeeded(state: PlanState, event: ev.TransitionSucceeded) -> None:
    _finish(state, event.transition, "succeeded")
    for name in state.dependents.get(event.transition, ()):
        dependent = state.transitions[name]
        dependent.unmet -= 1
        if not dependent.unmet and dependent.status == "pending":
            state.candidates[name] = None


def _refused(state: PlanState, event: ev.TransitionRefused) -> None:
    _finish(state, event.transition, "refused", event.error)
    if state.rules.on_refused == "fail" and state.failing is None:
        state.failing = event.error


def _retried(state: PlanState, event: ev.TransitionRetried) -> None:
    entry = state.transitions[event.transition]
    entry.status = "pending"
    entry.attempt = event.next_attempt
    entry.delay_ms = event.delay_ms
    entry.error = event.error
    state.candidates[event.transition] = None


def _breached(state: PlanState, event: ev.BudgetBreached) -> None:
    state.breached = True
    if state.rules.on_breach == "fail" and state.failing is None:
        over = ", ".join(f"{name} by {amount}" for name, amount in sorted(event.excess.items()))
        message = f"budget exceeded: {event.transition} passed its hold ({over})"
        detail: dict[str, str | int] = {"transition": event.transition, **event.excess}
        state.failing = Fault(code="ERR_BUDGET_EXCEEDED", message=message, detail=detail)


def _status(status: str) -> Callable[[PlanState, Any], None]:
    def apply(state: PlanState, _event: ev.Event) -> None:
        state.status = status

    return apply


def _cancel_requested(state: PlanState, event: ev.PlanCancelRequested) -> None:
    state.status = "cancelling"
    state.cancel = (event.by, event.reason)


def _told(how: str) -> Callable[[PlanState, Any], None]:
    def apply(
        state: PlanState, event: ev.ExecutionSucceeded | ev.ExecutionFailed | ev.ExecutionCancelled
    ) -> None:
        state.open[event.execution_id].ended = how
        state.transitions[event.transition].results = (event.envelope,)

    return apply


def _cancelled(state: PlanState, event: ev.ExecutionCancelled) -> None:
    _told("cancelled")(state, event)
    state.transitions[event.transition].excused += 1


def _orphaned(state: PlanState, event: ev.ExecutionOrphaned) -> None:
    state.open[event.execution_id].ended = "orphaned"


def _duplicate(state: PlanState, event: ev.ExecutionDuplicate) -> None:
    entry = state.transitions[event.transition]
    entry.results = (*entry.results, event.envelope)


_APPLY: Final[dict[type[ev.Event], Callable[[PlanState, Any], None]]] = {
    ev.PlanCreated: _created,
    ev.PlanPaused: _status("paused"),
    ev.PlanResumed: _status("active"),
    ev.PlanCancelRequested: _cancel_requested,
    ev.PlanCancelled: _status("cancelled"),
    ev.PlanCompleted: _status("completed"),
    ev.PlanFailed: _status("failed"),
    ev.TransitionProposed: _proposed,
    ev.TransitionAdmitted: _admitted,
    ev.TransitionRefused: _refused,
    ev.TransitionSucceeded: _succeeded,
    ev.TransitionFailed: lambda state, event: _finish(
        state, event.transition, "failed", event.error
    ),
    ev.TransitionSkipped: lambda state, event: _finish(state, event.transition, "skipped"),
    ev.TransitionCancelled: lambda state, event: _finish(state, event.transition, "cancelled"),
    ev.TransitionRetried: _retried,
    ev.BudgetReserved: _reserved,
    ev.BudgetSettled: _settled,
    ev.BudgetVoided: _voided,
    ev.BudgetBreached: _breached,
    ev.BudgetToppedUp: _topped_up,
    ev.ExecutionStarted: _started,
    ev.ExecutionControlled: _controlled,
    ev.ExecutionSucceeded: _told("succeeded"),
    ev.ExecutionFailed: _told("failed"),
    ev.ExecutionCancelled: _cancelled,
    ev.ExecutionOrphaned: _orphaned,
    ev.ExecutionDuplicate: _duplicate,
    ev.ArtifactProduced: _produced,
}
