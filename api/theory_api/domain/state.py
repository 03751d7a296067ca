"""A plan as its events tell it: the one value that decisions read."""

from __future__ import annotations

from dataclasses import dataclass, field

from theory_api.domain.events import TransitionProposed
from theory_api.domain.values import (
    TERMINAL_PLAN,
    TERMINAL_TRANSITION,
    Counts,
    Fault,
    Policy,
    Predicate,
)
from theory_core import Selector


@dataclass(slots=True)
class Attempting:
    """An execution attempt that holds budget and leases.

    Law: exists from `budget.reserved` to `budget.settled` or `budget.voided`, no longer.
    """

    execution_id: str
    transition: str
    attempt: int
    hold: dict[str, int]
    write_prefix: str
    selectors: tuple[Selector, ...]
    inputs: str = ""
    """Cid of the resolved inputs document."""
    inputs_hash: str = ""
    adapter: str = ""
    epoch: int = 0
    """Whose admission it was: the writer with this epoch starts it, nobody else."""
    ended: str | None = None
    """`succeeded`, `failed`, `cancelled`, `orphaned` once its end is in the ledger."""
    cancelled: bool = False
    """Whether somebody wants it stopped and its transition never tried again."""
    paused: bool = False
    """Whether it is to stand still."""
    budget: dict[str, int] = field(default_factory=dict)
    """What it may use at most where that is less than its hold, or is not held."""

    @property
    def allowed(self) -> dict[str, int]:
        """Usage beyond this stops it; the hold in the ledger stays what was reserved."""
        return self.hold | self.budget


@dataclass(slots=True)
class TransitionState:
    """One transition: what was proposed, and where it stands."""

    proposed: TransitionProposed
    position: int
    status: str = "pending"
    """`pending`, `applying`, or a terminal status; "runnable" is computed, never stored."""
    attempt: int = 1
    """The attempt that runs or would run next."""
    admitted: int = 0
    """The newest attempt that was admitted, whose execution is `execution_id`; 0 before it."""
    unmet: int = 0
    """Dependencies that have not succeeded yet."""
    execution_id: str | None = None
    """The newest attempt's execution."""
    write_prefix: str | None = None
    """Expanded prefix of the newest admitted attempt."""
    error: Fault | None = None
    delay_ms: int = 0
    """How long the next attempt waits after the last one ended."""
    excused: int = 0
    """Attempts that certainly never started, or that their owner stopped to go away itself."""
    results: tuple[str, ...] = ()
    """Cids of the newest attempt's envelopes: the one that counts, and duplicates."""
    cost: dict[str, int] = field(default_factory=dict)
    """What its attempts were settled at."""

    @property
    def terminal(self) -> bool:
        """Whether it can never change again."""
        return self.status in TERMINAL_TRANSITION


@dataclass(slots=True)
class PlanState:
    """The fold of one plan's ledger. Only `evolve` changes it.

    Laws, at every prefix and per dimension: `reserved >= 0`, `spent >= 0`,
    `reserved == sum of the holds of open`; selectors of `open` attempts never overlap.
    """

    plan: str
    seq: int = 0
    status: str = "absent"
    """`absent`, `active`, `paused`, `cancelling`, or a terminal status."""
    limit: dict[str, int] = field(default_factory=dict)
    reserved: dict[str, int] = field(default_factory=dict)
    spent: dict[str, int] = field(default_factory=dict)
    policy: Policy | None = None
    lane: str = "build"
    registry_snapshot: str = ""
    document: str = ""
    goal: tuple[Predicate, ...] = ()
    invariants: tuple[Predicate, ...] = ()
    transitions: dict[str, TransitionState] = field(default_factory=dict)
    dependents: dict[str, list[str]] = field(default_factory=dict)
    candidates: dict[str, None] = field(default_factory=dict)
    """Pending transitions whose dependencies all succeeded, in order: an ordered set."""
    open: dict[str, Attempting] = field(default_factory=dict)
    """Execution id -> attempt that still holds its reservation."""
    unfinished: int = 0
    """Transitions that are not terminal."""
    counts: dict[str, int] = field(default_factory=dict)
    failing: Fault | None = None
    """Why this plan cannot complete any more, once that is certain."""
    breached: bool = False
    """A breach that no top-up has answered: nothing is admitted."""
    cancel: tuple[str, str] | None = None
    """Who asked for the cancellation, and why."""
    touches: list[tuple[int, Selector]] = field(default_factory=list)
    """(seq, where) of every write to the plan's artifacts, in order of seq."""

    @property
    def terminal(self) -> bool:
        """Whether the plan can never change again."""
        return self.status in TERMINAL_PLAN

    @property
    def rules(self) -> Policy:
        """The policy, which every created plan has."""
        if self.policy is None:
            message = "a plan without a plan.created event has no policy"
            raise ValueError(message)
        return self.policy

    def tally(self) -> Counts:
        """How many transitions ended how."""
        return Counts(**{name: self.counts.get(name, 0) for name in Counts.__struct_fields__})
