"""Completion: an attempt's outcome settles its hold, once, and decides what follows."""

from __future__ import annotations

from dataclasses import replace

from theory_api.domain import events as ev
from theory_api.domain.commands import Complete, Orphan
from theory_api.domain.decision import Decision, Delay, Draft, portions
from theory_api.domain.predicates import stale
from theory_api.domain.proposal import allowance, proposed, unfit
from theory_api.domain.settlement import booked, excess, retry_delay_ms
from theory_api.domain.state import Attempting, PlanState, TransitionState
from theory_api.domain.values import Fault
from theory_core import TheoryError

_STOPPED = frozenset({"void", "cancelled", "orphaned"})
_BLAMELESS = frozenset({"ERR_CANCELLED", "ERR_ORPHANED"})
"""Why work never started that may start the next time: it was stopped, or its owner died."""

MAX_ATTEMPT = 1000
"""The last attempt that a ledger can name."""


def complete(state: PlanState, command: Complete) -> Decision:
    """Book an attempt's end.

    Laws: one settle or void per attempt; a second report of the same attempt settles nothing, and
    the result that it brings is recorded once; a report of an attempt that is not the newest is
    refused. The hold leaves `reserved` in the same
    decision that adds the actual usage to `spent`. What a run proposes is taken in the decision
    that its success is, or never, and holds no more than its own hold has left; what was judged on
    an older state is judged again. Raises `TheoryError` `ERR_CONFLICT`, `ERR_OUTPUT_PREFIX`.
    """
    attempt = state.open.get(command.execution_id)
    if attempt is None:
        return _late(state, command)
    entry = state.transitions[attempt.transition]
    late = _overtaken(attempt, command)
    if attempt.ended is not None:
        command = _told(command)
    if command.outcome == "succeeded":
        _check_verdicts(entry, command)
        if stale(state, command.verdicts, attempt.transition):
            return Decision(stale=True)
        if command.proposals:
            left = allowance(state, attempt, command.usage)
            if unfit(state, command.proposals, left) is not None:
                return Decision(stale=True)
    draft = Draft(state)
    about = _about(attempt)
    draft.emit(*late)
    _produce(draft, about, attempt, command)
    if attempt.ended is None:
        draft.emit(_ended(about, command))
    for verdict in command.verdicts:
        draft.emit(
            ev.PredicateChecked(
                scope="success",
                transition=attempt.transition,
                execution_id=attempt.execution_id,
                verdict=verdict,
            )
        )
    breached = _book(draft, about, attempt, command)
    draft.emit(ev.LeaseReleased(**about))
    _follow(draft, about, attempt, command, breached=breached)
    if state.cancel is not None and not any(True for _ in draft.open_after()):
        by, reason = state.cancel
        draft.emit(ev.PlanCancelled(by=by, reason=reason))
    return draft.done()


def orphan(state: PlanState, command: Orphan) -> Decision:
    """End an attempt that cannot be confirmed stopped.

    Law: its hold and its leases stay until a completion reports that nothing of it runs any more.
    """
    attempt = state.open.get(command.execution_id)
    if attempt is None or attempt.ended is not None:
        return Decision()
    return Decision((ev.ExecutionOrphaned(**_about(attempt), error=command.error),))


def _overtaken(attempt: Attempting, command: Complete) -> tuple[ev.Event, ...]:
    """Law: what an attempt brings after its end was told is recorded, and does not count."""
    if attempt.ended is None or not command.envelope:
        return ()
    return (ev.ExecutionDuplicate(**_about(attempt), envelope=command.envelope),)


def _told(command: Complete) -> Complete:
    """Law: an end that was told is final; whatever is reported after it only settles the hold."""
    lost = Fault(code="ERR_ORPHANED", message="it could not be confirmed stopped when it had to be")
    return replace(
        command,
        outcome="orphaned",
        error=lost,
        outputs=(),
        records=(),
        streams=(),
        verdicts=(),
        proposals=(),
        receipt=None,
    )


def _about(attempt: Attempting) -> ev.About:
    return {
        "execution_id": attempt.execution_id,
        "transition": attempt.transition,
        "attempt": attempt.attempt,
    }


def _late(state: PlanState, command: Complete) -> Decision:
    """Laws: a report that is repeated changes nothing, and nothing follows a plan's end."""
    for name, entry in state.transitions.items():
        if entry.execution_id == command.execution_id:
            if state.terminal or not command.envelope or command.envelope in entry.results:
                return Decision()
            about: ev.About = {
                "execution_id": command.execution_id,
                "transition": name,
                "attempt": entry.admitted,
            }
            return Decision((ev.ExecutionDuplicate(**about, envelope=command.envelope),))
    message = "this attempt is not the newest of its transition, or was never admitted"
    raise TheoryError("ERR_CONFLICT", message, {"execution_id": command.execution_id})


def _check_verdicts(entry: TransitionState, command: Complete) -> None:
    asked = [(predicate.name, predicate.params) for predicate in entry.proposed.success]
    if asked != [(verdict.name, verdict.params) for verdict in command.verdicts]:
        message = "the verdicts are not those of the transition's success predicates"
        raise TheoryError("ERR_CONFLICT", message, {"execution_id": command.execution_id})


def _produce(draft: Draft, about: ev.About, attempt: Attempting, command: Complete) -> None:
    """Law: an attempt brings nothing into the world outside its write prefix and its records."""
    own = (attempt.write_prefix, f"/artifacts/execution/{command.execution_id}/")
    produced = (*command.outputs, *command.records)
    if not all(output.path.startswith(own) for output in produced):
        message = "an output lies outside the write prefix"
        raise TheoryError("ERR_OUTPUT_PREFIX", message, {"execution_id": command.execution_id})
    pieces = list(portions(produced))
    for part, outputs in enumerate(pieces, start=1):
        draft.emit(ev.ArtifactProduced(part=part, parts=len(pieces), outputs=outputs, **about))
    for stream in command.streams:
        draft.emit(
            ev.StreamSealed(
                path=stream.path,
                digest=stream.digest,
                count=stream.count,
                bytes=stream.bytes,
                **about,
            )
        )


def _ended(about: ev.About, command: Complete) -> ev.Event:
    if command.outcome == "succeeded":
        return ev.ExecutionSucceeded(
            **about,
            envelope=_present(command.envelope, "envelope"),
            receipt=_present(command.receipt, "receipt"),
            outputs_index=_present(command.outputs_index, "outputs_index"),
            outputs=len(command.outputs),
            output_bytes=sum(output.size_bytes for output in command.outputs),
            duration_ms=command.duration_ms,
            trace=command.trace,
        )
    if command.error is None:
        message = f"an outcome {command.outcome} needs its error"
        raise ValueError(message)
    if command.outcome in {"orphaned", "void"}:
        return ev.ExecutionOrphaned(**about, error=command.error)
    kind = ev.ExecutionCancelled if command.outcome == "cancelled" else ev.ExecutionFailed
    return kind(
        **about,
        error=command.error,
        envelope=_present(command.envelope, "envelope"),
        duration_ms=command.duration_ms,
        receipt=command.receipt,
        trace=command.trace,
    )


def _present(value: str | None, name: str) -> str:
    if value is None:
        message = f"this outcome needs its {name}"
        raise ValueError(message)
    return value


def _book(draft: Draft, about: ev.About, attempt: Attempting, command: Complete) -> bool:
    """Settle or void the hold; whether the settlement breached it."""
    draft.settled.add(attempt.execution_id)
    if command.outcome == "void":
        reason = "the work certainly never started"
        draft.emit(ev.BudgetVoided(**about, hold=attempt.hold, reason=reason))
        return False
    actual, basis = booked(attempt.hold, command.usage, draft.state.spent)
    draft.emit(
        ev.BudgetSettled(
            **about, hold=attempt.hold, actual=actual, basis=basis, receipt=command.receipt
        )
    )
    over = excess(attempt.hold, actual, draft.state.limit)
    if over:
        draft.emit(ev.BudgetBreached(**about, excess=over))
    return bool(over)


def _follow(
    draft: Draft, about: ev.About, attempt: Attempting, command: Complete, *, breached: bool
) -> None:
    """What becomes of the transition, its dependents and the plan.

    Law: what somebody cancelled is not tried again, whether the plan goes on or not.
    """
    state, name = draft.state, about["transition"]
    entry = state.transitions[name]
    cancelled = attempt.cancelled or state.cancel is not None
    error = command.error
    if command.outcome == "succeeded":
        error = _unmet_success(command)
        if error is None:
            if not (breached and state.rules.on_breach == "fail"):
                by = f"execution {command.execution_id}"
                draft.emit(*(proposed(proposal, by) for proposal in command.proposals))
            draft.emit(ev.TransitionSucceeded(**about))
            draft.ended.add(name)
    if error is not None:
        if cancelled and command.outcome in _STOPPED:
            what = "execution" if state.cancel is None else "plan"
            reason = f"the {what} was cancelled"
            draft.end(ev.TransitionCancelled(**about, reason=reason), name)
        elif not (cancelled or breached) and _may_retry(state, entry, command, error):
            delay = retry_delay_ms(
                state.rules, attempt=about["attempt"], execution_id=about["execution_id"]
            )
            following = about["attempt"] + 1
            draft.emit(
                ev.TransitionRetried(**about, next_attempt=following, delay_ms=delay, error=error)
            )
            draft.effects.append(Delay(name, delay))
        else:
            draft.end(ev.TransitionFailed(**about, error=error), name)
    if breached and state.rules.on_breach == "pause":
        draft.pause(f"{name} passed its hold; top up the budget and resume")
    elif breached:
        draft.halt("the plan is failing: a hold was breached")


def _unmet_success(command: Complete) -> Fault | None:
    for verdict in command.verdicts:
        if verdict.verdict != "true":
            message = f"success predicate {verdict.name} is {verdict.verdict}: {verdict.reason}"
            return Fault(
                code="ERR_PREDICATE_FAILED",
                message=message[:1024],
                detail={"predicate": verdict.name},
            )
    return None


def _may_retry(state: PlanState, entry: TransitionState, command: Complete, error: Fault) -> bool:
    """Law: retries are bounded by the policy; an attempt counts if its work is to blame.

    Work that never started because it was stopped or its owner died, and work that was stopped
    while its plan goes on, does not count; what could not be started for its own sake does.
    """
    if state.failing is not None or entry.attempt >= MAX_ATTEMPT:
        return False
    void = command.outcome == "void"
    if command.outcome == "cancelled" or (void and error.code in _BLAMELESS):
        return True
    tries = entry.attempt if void else entry.attempt - entry.excused
    retry = state.rules.retry
    return tries < retry.max_attempts and error.code in retry.retry_on
