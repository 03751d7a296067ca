"""The rows that events imply, as changes any store can apply: one definition for all databases."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from theory_api.domain import events as ev
from theory_api.domain.vector import DIMENSIONS


class BalanceMove(NamedTuple):
    """A change of one dimension, relative to what the store holds.

    Law: `reserved >= 0` and `spent >= 0` afterwards. With `guarded`, also `spent + reserved <=
    limit` afterwards where a limit exists; a store refuses the batch otherwise.
    """

    dimension: str
    reserved: int = 0
    spent: int = 0
    guarded: bool = False


@dataclass(slots=True)
class Changes:
    """What one plan's events change; a store applies it in the transaction of the events.

    Each mapping is `key -> {column: value}`: an upsert that leaves other columns alone. Columns
    are those of the rows in `theory_api.ports.truth`; times come from the events' `at`.
    """

    plan: dict[str, Any] = field(default_factory=dict)
    """Columns of the plan row (never its head, which the store takes from the events)."""
    limits: dict[str, int] = field(default_factory=dict)
    """Dimension -> limit after this batch; applied before `moves`."""
    moves: list[BalanceMove] = field(default_factory=list)
    """In the order of their events."""
    transitions: dict[str, dict[str, Any]] = field(default_factory=dict)
    executions: dict[str, dict[str, Any]] = field(default_factory=dict)
    artifacts: dict[str, Mapping[str, Any] | None] = field(default_factory=dict)
    """Plan-relative path -> columns, or None when it was erased."""


def project(plan: str, numbered: Iterable[tuple[int, str, ev.Event | None]]) -> Changes:
    """The changes of one plan's consecutive events, each as (seq, at, event).

    Law: projecting a ledger in one piece or in any pieces leads to the same rows.
    """
    changes = Changes()
    tenant = plan.split("/")[2]
    for seq, at, event in numbered:
        changes.plan["updated_at"] = at
        if event is None:
            continue
        if isinstance(event, ev.PlanCreated):
            changes.plan |= {"tenant": tenant, "created_at": at}
        apply = _PROJECT.get(type(event))
        if apply is not None:
            apply(changes, seq, at, event)
    return changes


def _created(changes: Changes, _seq: int, _at: str, event: ev.PlanCreated) -> None:
    changes.plan |= {
        "status": "active",
        "lane": event.lane,
        "registry_snapshot": event.registry_snapshot,
        "document": event.document,
        "transitions": event.transitions,
        "error_code": None,
    }
    changes.limits.update(event.limit)


def _plan_status(status: str) -> Callable[[Changes, int, str, Any], None]:
    def apply(changes: Changes, _seq: int, _at: str, event: ev.Event) -> None:
        changes.plan["status"] = status
        if isinstance(event, ev.PlanFailed):
            changes.plan["error_code"] = event.error.code

    return apply


def _proposed(changes: Changes, seq: int, _at: str, event: ev.TransitionProposed) -> None:
    changes.transitions[event.transition] = {
        "position": seq,
        "processor_ref": event.processor_ref,
        "status": "pending",
        "attempt": 1,
        "execution_id": None,
        "error_code": None,
    }


def _admitted(changes: Changes, _seq: int, at: str, event: ev.TransitionAdmitted) -> None:
    changes.transitions.setdefault(event.transition, {}).update(
        status="applying", attempt=event.attempt, execution_id=event.execution_id
    )
    changes.executions[event.execution_id] = {
        "transition": event.transition,
        "attempt": event.attempt,
        "status": "admitted",
        "write_prefix": event.write_prefix,
        "started_at": at,
        "hold": {},
        "actual": None,
        "envelope": None,
        "receipt": None,
        "trace": None,
        "ended_at": None,
    }


def _reserved(changes: Changes, _seq: int, _at: str, event: ev.BudgetReserved) -> None:
    changes.executions.setdefault(event.execution_id, {})["hold"] = dict(event.hold)
    for dimension in DIMENSIONS:
        if dimension in event.hold:
            amount = event.hold[dimension]
            changes.moves.append(BalanceMove(dimension, reserved=amount, guarded=True))


def _settled(changes: Changes, _seq: int, _at: str, event: ev.BudgetSettled) -> None:
    changes.executions.setdefault(event.execution_id, {})["actual"] = dict(event.actual)
    for dimension in DIMENSIONS:
        back, spent = event.hold.get(dimension), event.actual.get(dimension)
        if back is not None or spent is not None:
            move = BalanceMove(dimension, reserved=-(back or 0), spent=spent or 0)
            changes.moves.append(move)


def _voided(changes: Changes, _seq: int, _at: str, event: ev.BudgetVoided) -> None:
    changes.executions.setdefault(event.execution_id, {})["actual"] = {}
    for dimension in DIMENSIONS:
        if dimension in event.hold:
            changes.moves.append(BalanceMove(dimension, reserved=-event.hold[dimension]))


def _topped_up(changes: Changes, _seq: int, _at: str, event: ev.BudgetToppedUp) -> None:
    changes.limits.update(event.limit)


def _execution(status: str) -> Callable[[Changes, int, str, Any], None]:
    def apply(changes: Changes, _seq: int, at: str, event: ev.Attempt) -> None:
        row = changes.executions.setdefault(event.execution_id, {})
        row["status"] = status
        if status != "running":
            row["ended_at"] = at
            for name in ("envelope", "receipt", "trace"):
                row[name] = getattr(event, name, None)

    return apply


def _controlled(changes: Changes, _seq: int, _at: str, event: ev.ExecutionControlled) -> None:
    standing = {"pause": "paused", "resume": "running"}.get(event.op)
    if standing is not None:
        changes.executions.setdefault(event.execution_id, {})["status"] = standing


def _transition(status: str) -> Callable[[Changes, int, str, Any], None]:
    def apply(changes: Changes, _seq: int, _at: str, event: Any) -> None:  # noqa: ANN401
        row = changes.transitions.setdefault(event.transition, {})
        row["status"] = status
        error = getattr(event, "error", None)
        row["error_code"] = None if error is None else error.code
        if isinstance(event, ev.TransitionRetried):
            row["attempt"] = event.next_attempt

    return apply


def _produced(changes: Changes, seq: int, _at: str, event: ev.ArtifactProduced) -> None:
    for output in event.outputs:
        changes.artifacts[output.path] = {
            "cid": output.cid,
            "size_bytes": output.size_bytes,
            "mime": output.mime,
            "execution_id": event.execution_id,
            "seq": seq,
        }


_PROJECT: Final[Mapping[type[ev.Event], Callable[[Changes, int, str, Any], None]]] = {
    ev.PlanCreated: _created,
    ev.PlanPaused: _plan_status("paused"),
    ev.PlanResumed: _plan_status("active"),
    ev.PlanCancelRequested: _plan_status("cancelling"),
    ev.PlanCancelled: _plan_status("cancelled"),
    ev.PlanCompleted: _plan_status("completed"),
    ev.PlanFailed: _plan_status("failed"),
    ev.TransitionProposed: _proposed,
    ev.TransitionAdmitted: _admitted,
    ev.TransitionRefused: _transition("refused"),
    ev.TransitionSucceeded: _transition("succeeded"),
    ev.TransitionFailed: _transition("failed"),
    ev.TransitionSkipped: _transition("skipped"),
    ev.TransitionCancelled: _transition("cancelled"),
    ev.TransitionRetried: _transition("pending"),
    ev.BudgetReserved: _reserved,
    ev.BudgetSettled: _settled,
    ev.BudgetVoided: _voided,
    ev.BudgetToppedUp: _topped_up,
    ev.ExecutionStarted: _execution("running"),
    ev.ExecutionControlled: _controlled,
    ev.ExecutionSucceeded: _execution("succeeded"),
    ev.ExecutionFailed: _execution("failed"),
    ev.ExecutionCancelled: _execution("cancelled"),
    ev.ExecutionOrphaned: _execution("orphaned"),
    ev.ArtifactProduced: _produced,
}
