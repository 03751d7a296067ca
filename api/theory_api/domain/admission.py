"""Admission: reserve, lease and start in one decision, or nothing at all."""

from __future__ import annotations

from theory_api.domain import events as ev
from theory_api.domain.commands import Admit, Refuse
from theory_api.domain.decision import Decision, Draft, Start, portions
from theory_api.domain.evolve import selector
from theory_api.domain.predicates import stale
from theory_api.domain.runnable import beyond_hope, leased, why
from theory_api.domain.state import PlanState, TransitionState
from theory_api.domain.values import Fault
from theory_core import Selector, TheoryError, expand_prefix


def admit(state: PlanState, command: Admit) -> Decision:
    """Admit one attempt, if it still may be.

    Laws: compare-and-swap on (`pending`, attempt): exactly one winner. `spent + reserved + ask <=
    limit` holds afterwards in every limited dimension; the ask is never shrunk. Waiting writes
    nothing. Raises `TheoryError` `ERR_NOT_FOUND`, `ERR_CONFLICT` (not the plan's predicates, write
    prefix or write set, or a name that another attempt has).
    """
    entry = _pending(state, command.transition, command.attempt)
    if entry is None:
        return Decision()
    if command.execution_id in state.open:
        message = "another attempt runs under this execution id"
        raise TheoryError("ERR_CONFLICT", message, {"execution_id": command.execution_id})
    hold = entry.proposed.hold
    fault = beyond_hope(state, hold)
    if fault is not None:
        draft = Draft(state)
        draft.refuse(command.transition, fault)
        return draft.done()
    if why(state, command.transition) is not None:
        return Decision()
    if leased(state, _wanted(state, entry, command)) is not None:
        return Decision()
    asked = [(predicate.name, predicate.params) for predicate in entry.proposed.admission]
    if asked != [(verdict.name, verdict.params) for verdict in command.verdicts]:
        message = "the verdicts are not those of the transition's admission predicates"
        raise TheoryError("ERR_CONFLICT", message, {"transition": command.transition})
    if stale(state, command.verdicts, command.transition):
        return Decision(stale=True)
    if any(verdict.verdict != "true" for verdict in command.verdicts):
        return Decision()
    return Decision(tuple(_admission(state, entry, command)), (Start(command.execution_id),))


def _wanted(state: PlanState, entry: TransitionState, command: Admit) -> tuple[Selector, ...]:
    """What the attempt leases.

    Law: it leases what was proposed, and writes where that was proposed, under the attempt's own
    name, no more and no less; whoever admits has no say in it. Raises `TheoryError` `ERR_CONFLICT`.
    """
    home = expand_prefix(entry.proposed.write_prefix, command.execution_id, root=state.plan)
    if home.relative != command.write_prefix:
        message = "the write prefix is not the one that was proposed for this attempt"
        raise TheoryError("ERR_CONFLICT", message, {"transition": command.transition})
    wanted = tuple(
        selector(state.plan, spec.kind, spec.path.replace("{execution_id}", command.execution_id))
        for spec in entry.proposed.write_set
    )
    expanded = [(str(one.kind), one.path.relative) for one in wanted]
    if expanded != [(spec.kind, spec.path) for spec in command.write_set]:
        message = "the write set is not the one that was proposed for this attempt"
        raise TheoryError("ERR_CONFLICT", message, {"transition": command.transition})
    return wanted


def _pending(state: PlanState, transition: str, attempt: int) -> TransitionState | None:
    """The transition, if this attempt of it still waits for admission."""
    entry = state.transitions.get(transition)
    if entry is None:
        message = f"no transition {transition} in {state.plan}"
        raise TheoryError("ERR_NOT_FOUND", message, {"transition": transition})
    if entry.status != "pending" or entry.attempt != attempt or state.terminal:
        return None
    return entry


def _admission(state: PlanState, entry: TransitionState, command: Admit) -> list[ev.Event]:
    proposed = entry.proposed
    about: ev.About = {
        "execution_id": command.execution_id,
        "transition": command.transition,
        "attempt": command.attempt,
    }
    lease_ms = max(state.rules.lease_ms, proposed.timeout_ms)
    events: list[ev.Event] = [
        ev.PredicateChecked(scope="admission", transition=command.transition, verdict=verdict)
        for verdict in command.verdicts
    ]
    events += [
        ev.TransitionAdmitted(
            **about,
            write_prefix=command.write_prefix,
            write_set=command.write_set,
            inputs_hash=command.inputs_hash,
        ),
        ev.LeaseAcquired(
            **about,
            selectors=command.write_set,
            duration_ms=lease_ms,
            epoch=command.epoch,
        ),
        ev.BudgetReserved(
            **about,
            hold=dict(proposed.hold),
            duration_ms=lease_ms,
            owner=command.owner,
            epoch=command.epoch,
        ),
    ]
    events += [ev.ArtifactConsumed(**about, inputs=part) for part in portions(command.consumed)]
    events += [ev.SecretUsed(**about, name=name) for name in command.secrets]
    events.append(
        ev.ExecutionStarted(
            **about,
            processor_ref=proposed.processor_ref,
            adapter=command.adapter,
            mode=proposed.mode,
            timeout_ms=proposed.timeout_ms,
            inputs=command.inputs,
            inputs_hash=command.inputs_hash,
            env_fingerprint=command.env_fingerprint,
            registry_snapshot=state.registry_snapshot,
            image_digest=command.image_digest,
        )
    )
    return events


def refuse(state: PlanState, command: Refuse) -> Decision:
    """End a candidate that can never be admitted, whatever comes.

    Law: a budget is judged where it is: what had no hope when it was looked at may have been
    topped up since.
    """
    entry = _pending(state, command.transition, command.attempt)
    if entry is None:
        return Decision()
    error: Fault | None = command.error
    if command.error.code == "ERR_BUDGET_EXCEEDED":
        error = beyond_hope(state, entry.proposed.hold)
    if error is None:
        return Decision()
    draft = Draft(state)
    draft.refuse(command.transition, error)
    return draft.done()
