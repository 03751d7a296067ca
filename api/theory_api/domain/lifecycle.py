"""What may follow what: the one table of events by the state of a plan, a transition, an attempt.

Law: an event that these tables do not list in the state where it stands cannot have happened. The
fold refuses it, whoever wrote it and however well it is chained.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from theory_api.domain import events as ev
from theory_api.domain.state import Attempting, PlanState, TransitionState
from theory_core import TheoryError

Table = Mapping[str, Mapping[str, str]]
"""Status -> kind of event -> status after it; what is not there cannot happen."""


def _stay(status: str, kinds: Iterable[str]) -> dict[str, str]:
    return dict.fromkeys(kinds, status)


_BEGINS: Final = (
    "transition.admitted",
    "lease.acquired",
    "budget.reserved",
    "artifact.consumed",
    "secret.used",
    "execution.started",
)
"""An admission, from its first event to its last."""

_RUNS: Final = (
    "artifact.produced",
    "stream.sealed",
    "execution.succeeded",
    "execution.failed",
    "execution.cancelled",
    "execution.orphaned",
    "predicate.checked",
    "budget.settled",
    "budget.voided",
    "budget.breached",
    "lease.released",
    "execution.duplicate",
)
"""An attempt's way to its end, what it cost, and what came too late."""

_ENDS: Final = (
    "transition.succeeded",
    "transition.failed",
    "transition.refused",
    "transition.skipped",
    "transition.cancelled",
)

_ANYWAY: Final = (*_RUNS, *_ENDS, "transition.retried", "transition.proposed", "budget.topped_up")
"""What comes to a plan that has not ended, whether it admits anything or not."""

_CLOSING: Final = {"plan.completed": "completed", "plan.failed": "failed"}

PLAN: Final[Table] = {
    "absent": {"plan.created": "active"},
    "active": {
        **_stay("active", (*_BEGINS, *_ANYWAY, "execution.controlled")),
        "plan.paused": "paused",
        "plan.cancel_requested": "cancelling",
        **_CLOSING,
    },
    "paused": {
        **_stay("paused", (*_ANYWAY, "execution.controlled")),
        "plan.resumed": "active",
        "plan.cancel_requested": "cancelling",
        **_CLOSING,
    },
    "cancelling": {
        **_stay("cancelling", (*_RUNS, *_ENDS, "budget.topped_up")),
        "plan.cancelled": "cancelled",
    },
    "completed": {},
    "failed": {},
    "cancelled": {},
}
"""A plan: what happens to it, and what may happen inside of it."""

TRANSITION: Final[Table] = {
    "absent": {"transition.proposed": "pending"},
    "pending": {
        "predicate.checked": "pending",
        "execution.duplicate": "pending",
        "transition.admitted": "applying",
        "transition.refused": "refused",
        "transition.skipped": "skipped",
        "transition.cancelled": "cancelled",
    },
    "applying": {
        **_stay("applying", (*_BEGINS[1:], "execution.controlled", *_RUNS)),
        "transition.succeeded": "succeeded",
        "transition.failed": "failed",
        "transition.cancelled": "cancelled",
        "transition.retried": "pending",
    },
    "succeeded": {"execution.duplicate": "succeeded"},
    "failed": {"execution.duplicate": "failed"},
    "cancelled": {"execution.duplicate": "cancelled"},
    "skipped": {},
    "refused": {"execution.duplicate": "refused"},
}
"""A transition, and every event that names it."""

ATTEMPT: Final[Table] = {
    "absent": {
        "transition.admitted": "admitted",
        "budget.breached": "absent",
        "lease.released": "absent",
        "transition.succeeded": "absent",
        "transition.failed": "absent",
        "transition.cancelled": "absent",
        "transition.retried": "absent",
        "execution.duplicate": "absent",
    },
    "admitted": {
        **_stay("admitted", ("lease.acquired", "budget.reserved")),
        **_stay("admitted", ("artifact.consumed", "secret.used")),
        "execution.started": "running",
    },
    "running": {
        "execution.controlled": "running",
        **_stay("running", ("artifact.produced", "stream.sealed")),
        "execution.succeeded": "ended",
        "execution.failed": "ended",
        "execution.cancelled": "ended",
        "execution.orphaned": "ended",
    },
    "ended": {
        **_stay("ended", ("artifact.produced", "predicate.checked")),
        "execution.duplicate": "ended",
        "budget.settled": "absent",
        "budget.voided": "absent",
    },
}
"""An execution attempt while it holds its reservation; absent before that, and again after it."""

_OF_TRANSITION: Final = frozenset(kind for row in TRANSITION.values() for kind in row)
_OF_ATTEMPT: Final = frozenset(kind for row in ATTEMPT.values() for kind in row)
_LAST: Final = frozenset({"plan.completed", "plan.failed", "plan.cancelled"})


def stage(attempt: Attempting | None) -> str:
    """Where an attempt stands: a status of `ATTEMPT`."""
    if attempt is None:
        return "absent"
    if attempt.ended is not None:
        return "ended"
    return "running" if attempt.adapter else "admitted"


def require(state: PlanState, event: ev.Event) -> None:
    """Refuse an event that cannot follow in `state`.

    Laws beside the tables: a plan ends with every transition ended and nothing held; a hold leaves
    as it came; an attempt is the newest of its transition, under the number that it was admitted
    with. Raises `TheoryError` `ERR_CHAIN_BROKEN`, naming the kind and what it stands against.
    """
    kind = event.KIND
    if kind not in PLAN[state.status]:
        raise _impossible(kind, f"the plan is {state.status}")
    if kind in _OF_TRANSITION:
        named: Any = event
        if named.transition is not None:
            _require_transition(state, named, kind)
    elif kind in _LAST and (state.open or state.unfinished):
        raise _impossible(kind, "the plan has work that has not ended")


def _require_transition(state: PlanState, event: Any, kind: str) -> None:  # noqa: ANN401
    entry = state.transitions.get(event.transition)
    status = "absent" if entry is None else entry.status
    if kind not in TRANSITION[status]:
        raise _impossible(kind, f"transition {event.transition[:64]} is {status}")
    if entry is not None and kind in _OF_ATTEMPT:
        ident: str | None = event.execution_id
        if ident is None and status == "applying":
            ident = entry.execution_id
        if ident is not None:
            _require_attempt(state, event, entry, ident)


def _require_attempt(
    state: PlanState,
    event: Any,  # noqa: ANN401 - of any kind that names an attempt
    entry: TransitionState,
    ident: str,
) -> None:
    kind: str = event.KIND
    attempt = state.open.get(ident)
    standing = stage(attempt)
    if kind not in ATTEMPT[standing]:
        raise _impossible(kind, f"execution {ident[:64]} is {standing}")
    if ident != entry.execution_id and kind != "transition.admitted":
        raise _impossible(kind, f"execution {ident[:64]} is not the newest attempt")
    newest = entry.admitted if kind == "execution.duplicate" else entry.attempt
    if kind != "predicate.checked" and event.attempt not in {None, newest}:
        raise _impossible(kind, f"attempt {event.attempt} is not attempt {newest}")
    if attempt is not None and isinstance(event, ev.ExecutionControlled):
        _require_control(state, event, attempt)
    if attempt is None or not kind.startswith("budget."):
        return
    if kind == "budget.reserved":
        if attempt.hold:
            raise _impossible(kind, f"execution {ident[:64]} holds a budget already")
    elif event.hold != attempt.hold:
        raise _impossible(kind, f"execution {ident[:64]} held something else")


def _require_control(state: PlanState, event: ev.ExecutionControlled, attempt: Attempting) -> None:
    """Laws: nothing steers what is being stopped; each event changes something; budgets fall."""
    budget = event.budget or {}
    limited = dict.fromkeys(state.limit, 0) | attempt.allowed
    lowered = [most < limited.get(name, most + 1) for name, most in budget.items()]
    raised = any(most > limited.get(name, most) for name, most in budget.items())
    changes = {
        "cancel": True,
        "pause": not attempt.paused,
        "resume": attempt.paused,
        "set_budget": any(lowered) and not raised,
    }
    if attempt.cancelled or not changes[event.op]:
        what = f"execution {attempt.execution_id[:64]}"
        raise _impossible(event.KIND, f"{event.op} changes nothing of {what}, or more than it may")


def _impossible(kind: str, because: str) -> TheoryError:
    message = f"a {kind} event cannot follow here: {because}"
    return TheoryError("ERR_CHAIN_BROKEN", message, {"kind": kind})
