"""What can have happened: one closed type per event kind that moves a plan."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, TypedDict

import msgspec

from theory_api.domain.values import (
    Basis,
    ControlOp,
    Counts,
    Fault,
    InputBytes,
    Lane,
    Mode,
    Output,
    Policy,
    Predicate,
    SelectorSpec,
    Verdict,
)


class Event(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of all events; `KIND` is the ledger's name of it."""

    KIND: ClassVar[str] = ""

    def data(self) -> dict[str, Any]:
        """The event's `data` member: plain JSON values, absent members absent."""
        plain: dict[str, Any] = msgspec.to_builtins(self)
        return {name: value for name, value in plain.items() if value is not None}


class Attempt(Event, frozen=True, kw_only=True):
    """Base of the events about one execution attempt."""

    execution_id: str
    transition: str
    attempt: int


class About(TypedDict):
    """The three members that name an attempt in its events."""

    execution_id: str
    transition: str
    attempt: int


class PlanCreated(Event, frozen=True, kw_only=True):
    """A plan came into being; its transitions follow as events of their own."""

    KIND = "plan.created"
    schema: Literal["theory.plan.v1"]
    document: str
    transitions: int
    limit: dict[str, int]
    policy: Policy
    lane: Lane
    registry_snapshot: str
    goal: tuple[Predicate, ...]
    invariants: tuple[Predicate, ...]
    by: str
    parent: str | None = None


class PlanPaused(Event, frozen=True, kw_only=True):
    """Nothing more is admitted until `plan.resumed`."""

    KIND = "plan.paused"
    by: str
    reason: str


class PlanResumed(Event, frozen=True, kw_only=True):
    """Admission goes on."""

    KIND = "plan.resumed"
    by: str
    reason: str


class PlanCancelRequested(Event, frozen=True, kw_only=True):
    """Somebody wants the plan stopped; running work still holds its budget."""

    KIND = "plan.cancel_requested"
    by: str
    reason: str


class PlanCancelled(Event, frozen=True, kw_only=True):
    """Every stop is confirmed; the plan has ended."""

    KIND = "plan.cancelled"
    by: str
    reason: str


class PlanCompleted(Event, frozen=True, kw_only=True):
    """Every transition is terminal and the goal holds."""

    KIND = "plan.completed"
    verdicts: tuple[Verdict, ...]
    counts: Counts
    spent: dict[str, int]


class PlanFailed(Event, frozen=True, kw_only=True):
    """Every transition is terminal and the plan did not reach its goal."""

    KIND = "plan.failed"
    error: Fault
    verdicts: tuple[Verdict, ...]
    counts: Counts
    spent: dict[str, int]


class TransitionProposed(Event, frozen=True, kw_only=True):
    """A mutation of the world was proposed; `hold` is what it would reserve."""

    KIND = "transition.proposed"
    transition: str
    processor_ref: str
    mode: Mode
    inputs: str
    depends_on: tuple[str, ...]
    write_prefix: str
    write_set: tuple[SelectorSpec, ...]
    admission: tuple[Predicate, ...]
    success: tuple[Predicate, ...]
    hold: dict[str, int]
    timeout_ms: int
    by: str
    adapter: str | None = None
    on_fail: str | None = None
    trigger: str | None = None


class TransitionAdmitted(Attempt, frozen=True, kw_only=True):
    """The attempt won admission: `runnable -> applying`."""

    KIND = "transition.admitted"
    write_prefix: str
    write_set: tuple[SelectorSpec, ...]
    inputs_hash: str


class TransitionRefused(Event, frozen=True, kw_only=True):
    """It can never be admitted."""

    KIND = "transition.refused"
    transition: str
    error: Fault


class TransitionSucceeded(Attempt, frozen=True, kw_only=True):
    """Its outputs are there and its success predicates hold."""

    KIND = "transition.succeeded"


class TransitionFailed(Attempt, frozen=True, kw_only=True):
    """Its last permitted attempt ended otherwise than succeeded."""

    KIND = "transition.failed"
    error: Fault


class TransitionSkipped(Event, frozen=True, kw_only=True):
    """A dependency, named by `because`, ended otherwise than succeeded."""

    KIND = "transition.skipped"
    transition: str
    because: str


class TransitionCancelled(Event, frozen=True, kw_only=True):
    """It was stopped, or will never start: its plan ends, or somebody cancelled its execution."""

    KIND = "transition.cancelled"
    transition: str
    reason: str
    attempt: int | None = None
    execution_id: str | None = None


class TransitionRetried(Attempt, frozen=True, kw_only=True):
    """The attempt ended; the next one may be admitted after `delay_ms`."""

    KIND = "transition.retried"
    next_attempt: int
    delay_ms: int
    error: Fault


class PredicateChecked(Event, frozen=True, kw_only=True):
    """A predicate was evaluated and its answer counted."""

    KIND = "predicate.checked"
    scope: Literal["admission", "success", "invariant", "goal"]
    verdict: Verdict
    transition: str | None = None
    execution_id: str | None = None


class LeaseAcquired(Attempt, frozen=True, kw_only=True):
    """The attempt alone may write below `selectors`."""

    KIND = "lease.acquired"
    selectors: tuple[SelectorSpec, ...]
    duration_ms: int
    epoch: int


class LeaseReleased(Attempt, frozen=True, kw_only=True):
    """The write set is free again."""

    KIND = "lease.released"


class BudgetReserved(Attempt, frozen=True, kw_only=True):
    """The hold was taken from the headroom, in the admission itself."""

    KIND = "budget.reserved"
    hold: dict[str, int]
    duration_ms: int
    owner: str
    epoch: int


class BudgetSettled(Attempt, frozen=True, kw_only=True):
    """The hold was given back and the actual usage spent."""

    KIND = "budget.settled"
    hold: dict[str, int]
    actual: dict[str, int]
    basis: dict[str, Basis]
    receipt: str | None = None


class BudgetVoided(Attempt, frozen=True, kw_only=True):
    """The hold was given back: the work certainly never started."""

    KIND = "budget.voided"
    hold: dict[str, int]
    reason: str


class BudgetBreached(Attempt, frozen=True, kw_only=True):
    """Usage passed the hold by `excess`; it was booked as it is."""

    KIND = "budget.breached"
    excess: dict[str, int]


class BudgetToppedUp(Event, frozen=True, kw_only=True):
    """Limits were raised by `amount` to `limit`."""

    KIND = "budget.topped_up"
    amount: dict[str, int]
    limit: dict[str, int]
    by: str


class ExecutionStarted(Attempt, frozen=True, kw_only=True):
    """The adapter may be called from here on."""

    KIND = "execution.started"
    processor_ref: str
    adapter: str
    mode: Mode
    timeout_ms: int
    inputs: str
    inputs_hash: str
    env_fingerprint: str
    registry_snapshot: str
    image_digest: str | None = None


class ExecutionControlled(Attempt, frozen=True, kw_only=True):
    """Somebody steers it: what was asked for is due from here on."""

    KIND = "execution.controlled"
    op: ControlOp
    by: str
    reason: str
    budget: dict[str, int] | None = None


class ExecutionSucceeded(Attempt, frozen=True, kw_only=True):
    """The processor delivered, and what it delivered was verified."""

    KIND = "execution.succeeded"
    envelope: str
    receipt: str
    outputs_index: str
    outputs: int
    output_bytes: int
    duration_ms: int
    trace: str | None = None


class ExecutionFailed(Attempt, frozen=True, kw_only=True):
    """The processor or its transport failed."""

    KIND = "execution.failed"
    error: Fault
    envelope: str
    duration_ms: int
    receipt: str | None = None
    trace: str | None = None


class ExecutionCancelled(Attempt, frozen=True, kw_only=True):
    """The adapter confirmed that the work stopped."""

    KIND = "execution.cancelled"
    error: Fault
    envelope: str
    duration_ms: int
    receipt: str | None = None
    trace: str | None = None


class ExecutionOrphaned(Attempt, frozen=True, kw_only=True):
    """Its owner died, and nothing tells how far it came."""

    KIND = "execution.orphaned"
    error: Fault


class ExecutionDuplicate(Attempt, frozen=True, kw_only=True):
    """A result came that does not count, since the attempt has ended with another one, or none."""

    KIND = "execution.duplicate"
    envelope: str


class ArtifactProduced(Event, frozen=True, kw_only=True):
    """Artifacts came into the world: outputs of an attempt, or what a person attached."""

    KIND = "artifact.produced"
    part: int
    parts: int
    outputs: tuple[Output, ...]
    execution_id: str | None = None
    transition: str | None = None
    attempt: int | None = None
    by: str | None = None


class ArtifactConsumed(Attempt, frozen=True, kw_only=True):
    """The bytes that the attempt reads."""

    KIND = "artifact.consumed"
    inputs: tuple[InputBytes, ...]


class StreamSealed(Event, frozen=True, kw_only=True):
    """A stream of an attempt ended, and every frame of it came in."""

    KIND = "stream.sealed"
    path: str
    digest: str
    count: int
    bytes: int
    execution_id: str | None = None
    transition: str | None = None
    attempt: int | None = None


class SecretUsed(Attempt, frozen=True, kw_only=True):
    """The attempt is given a secret; its name only."""

    KIND = "secret.used"
    name: str
