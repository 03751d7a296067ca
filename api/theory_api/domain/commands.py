"""What can be asked of a plan; each command is judged by `decide` and by nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from theory_api.domain.values import (
    ControlOp,
    Fault,
    InputBytes,
    Lane,
    Mode,
    Output,
    Policy,
    Predicate,
    SelectorSpec,
    StreamSeal,
    Verdict,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """Base of all commands: the plan they concern."""

    plan: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """One transition, resolved against the registry and validated."""

    transition: str
    processor_ref: str
    mode: Mode
    inputs: str
    """Cid of the inputs document as written, references unresolved."""
    depends_on: tuple[str, ...] = ()
    write_prefix: str
    """Template that holds `{execution_id}` once."""
    write_set: tuple[SelectorSpec, ...]
    admission: tuple[Predicate, ...] = ()
    success: tuple[Predicate, ...] = ()
    hold: Mapping[str, int]
    timeout_ms: int
    adapter: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CreatePlan(Command):
    """Bring a plan into being, with its transitions and what a person attached."""

    by: str
    document: str
    limit: Mapping[str, int]
    policy: Policy
    lane: Lane
    registry_snapshot: str
    goal: tuple[Predicate, ...] = ()
    invariants: tuple[Predicate, ...] = ()
    proposals: tuple[Proposal, ...]
    attachments: tuple[Output, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ProposeTransition(Command):
    """Add one transition to a plan that has not ended."""

    by: str
    proposal: Proposal


@dataclass(frozen=True, slots=True, kw_only=True)
class Admit(Command):
    """Admit, reserve and start one attempt: compare-and-swap `runnable -> applying`."""

    transition: str
    attempt: int
    execution_id: str
    write_prefix: str
    write_set: tuple[SelectorSpec, ...]
    inputs: str
    inputs_hash: str
    consumed: tuple[InputBytes, ...] = ()
    secrets: tuple[str, ...] = ()
    verdicts: tuple[Verdict, ...] = ()
    adapter: str
    env_fingerprint: str
    owner: str
    epoch: int
    image_digest: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Refuse(Command):
    """A candidate that can never be admitted, whatever comes: its inputs or its processor."""

    transition: str
    attempt: int
    error: Fault


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What an execution used, and who says so; an absent dimension is unknown."""

    measured: Mapping[str, int] = field(default_factory=dict)
    """Counted by the adapter or the orchestrator, outside the processor."""
    reported: Mapping[str, int] = field(default_factory=dict)
    """Stated by the processor."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Complete(Command):
    """An attempt ended; its outcome is stored, and everything it names is durable."""

    execution_id: str
    outcome: str
    """`succeeded`, `failed`, `cancelled`, `orphaned`, or `void` (it certainly never started)."""
    usage: Usage = field(default_factory=Usage)
    error: Fault | None = None
    envelope: str | None = None
    receipt: str | None = None
    outputs_index: str | None = None
    outputs: tuple[Output, ...] = ()
    records: tuple[Output, ...] = ()
    """What the orchestrator itself keeps of the attempt: index, receipt, trace."""
    streams: tuple[StreamSeal, ...] = ()
    """What streamed while it ran, whatever became of it."""
    trace: str | None = None
    duration_ms: int = 0
    verdicts: tuple[Verdict, ...] = ()
    """Success predicates, evaluated on the world plus `outputs`."""
    proposals: tuple[Proposal, ...] = ()
    """What the run proposes, each after those it depends on: taken with its success, or not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Orphan(Command):
    """Nobody can confirm that an attempt was stopped; its end is reported later."""

    execution_id: str
    error: Fault


@dataclass(frozen=True, slots=True, kw_only=True)
class Conclude(Command):
    """Every transition is terminal and the goal was evaluated."""

    verdicts: tuple[Verdict, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Enquire(Command):
    """Change nothing: whoever owns the plan answers, or says why it refuses the plan."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelPlan(Command):
    """Stop everything; done when every stop is confirmed."""

    by: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlExecution(Command):
    """Steer one attempt that runs: stop it, let it stand still or go on, allow it less."""

    by: str
    reason: str
    execution_id: str
    op: ControlOp
    budget: Mapping[str, int] | None = None
    """With `set_budget` and with nothing else: the most that the attempt may use, by dimension."""
    able: tuple[str, ...] = ()
    """Adapters of the owner that can have a run stand still; the owner's engine states them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PausePlan(Command):
    """Admit nothing more until resumed."""

    by: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ResumePlan(Command):
    """Admit again."""

    by: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TopUp(Command):
    """Raise limits by an amount; clears a breach."""

    by: str
    amount: Mapping[str, int]
