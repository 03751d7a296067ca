"""What web and command line show: one closed type per answer, plain JSON values only."""

from __future__ import annotations

from typing import Any

import msgspec


class View(msgspec.Struct, frozen=True, kw_only=True):
    """Base of all answers."""


class ErrorView(View, frozen=True, kw_only=True):
    """Why something ended badly."""

    code: str
    message: str
    detail: dict[str, str | int] = {}


class BudgetLine(View, frozen=True, kw_only=True):
    """One dimension of a plan's budget, in the dimension's own unit."""

    dimension: str
    limit: int | None
    """None: not limited."""
    reserved: int
    spent: int
    headroom: int | None
    """What may still be reserved; None where there is no limit."""


class ExecutionView(View, frozen=True, kw_only=True):
    """One attempt of a transition."""

    execution_id: str
    transition: str
    attempt: int
    status: str
    reserved: dict[str, int]
    spent: dict[str, int] | None
    """What it was settled at; None while it holds its reservation."""
    write_prefix: str
    envelope: str | None
    receipt: str | None
    trace: str | None
    started_at: str
    ended_at: str | None


class TransitionView(View, frozen=True, kw_only=True):
    """One transition with its attempts, oldest first."""

    transition: str
    processor_ref: str
    status: str
    attempt: int
    error_code: str | None
    """Why it did not succeed, or why its last attempt did not; `why` says it in words."""
    executions: list[ExecutionView]


class ArtifactView(View, frozen=True, kw_only=True):
    """Bytes at a WorldPath."""

    path: str
    """Plan-relative canonical path."""
    uri: str
    """The same address from anywhere: `world://{tenant}/{plan}/…`."""
    cid: str
    size_bytes: int
    mime: str
    execution_id: str | None
    seq: int
    """The event that produced it."""


class PlanSummary(View, frozen=True, kw_only=True):
    """A plan as lists tell it."""

    plan: str
    status: str
    lane: str
    transitions: int
    created_at: str
    updated_at: str
    head_seq: int
    error_code: str | None


class PlanPage(View, frozen=True, kw_only=True):
    """Plans in the order of their paths."""

    plans: list[PlanSummary]
    next: str | None
    """Cursor of the next page; None on the last."""


class PlanView(View, frozen=True, kw_only=True):
    """A plan with everything that happened to it so far."""

    plan: str
    status: str
    lane: str
    created_at: str
    updated_at: str
    head_seq: int
    head_hash: str
    registry_snapshot: str
    document: str
    error: ErrorView | None
    budget: list[BudgetLine]
    transitions_total: int
    transitions: list[TransitionView]
    """The first 1,000 at most."""
    outputs: list[ArtifactView]
    """Outputs of succeeded transitions, ordered by path; the first 1,000 at most."""
    outputs_complete: bool


class WhyView(View, frozen=True, kw_only=True):
    """Why one transition has not succeeded yet."""

    transition: str
    status: str
    """`pending`, `applying`, or how it ended."""
    condition: str
    """The first condition that fails, e.g. `budget.available`; `none` when nothing holds it."""
    reason: str
    """In words."""
    detail: dict[str, str | int]


class PlanWhy(View, frozen=True, kw_only=True):
    """Every transition that has not succeeded, in the order of the plan."""

    plan: str
    status: str
    as_of_seq: int
    waiting: list[WhyView]


class LedgerEvent(View, frozen=True, kw_only=True):
    """An event of a plan's ledger (spec: ledger)."""

    v: str
    plan: str
    seq: int
    at: str
    kind: str
    data: dict[str, Any]


class EventView(View, frozen=True, kw_only=True):
    """An event and its hash in the chain."""

    event: LedgerEvent
    hash: str


class EventPage(View, frozen=True, kw_only=True):
    """Events in the order of their seq."""

    events: list[EventView]
    next_after: int | None
    """`after` of the next page; None once this page reaches the head."""


class HeadView(View, frozen=True, kw_only=True):
    """The newest event of a plan: what an outsider keeps to anchor a later verification."""

    plan: str
    seq: int
    hash: str
    at: str


class ArtifactPage(View, frozen=True, kw_only=True):
    """Artifacts in the bytewise order of their paths."""

    artifacts: list[ArtifactView]
    next_after: str | None
    """`after` of the next page; None on the last."""


class StreamView(View, frozen=True, kw_only=True):
    """What one execution left of a stream: every frame of it, as its seal says."""

    path: str
    """Plan-relative canonical path."""
    uri: str
    digest: str
    """Of the data of its frames, one after the other."""
    frames: int
    size_bytes: int
    execution_id: str | None
    transition: str | None
    attempt: int | None
    seq: int
    """The event that sealed it."""
    at: str


class StreamPage(View, frozen=True, kw_only=True):
    """Streams in the order in which they were sealed."""

    streams: list[StreamView]
    next_after: str | None
    """`after` of the next page; None on the last."""


class FaultView(View, frozen=True, kw_only=True):
    """The first place where a ledger is not sound."""

    seq: int | None
    """None where the lines before it are not there to count from."""
    line: int
    reason: str
    law: str | None
    """The law that does not hold, for the reason `law`."""
    member: str | None
    """The member of the data that has not its type, for the reason `data`."""


class VerdictView(View, frozen=True, kw_only=True):
    """What the verifier says about a ledger."""

    plan: str
    count: int
    head: HeadView
    anchored: bool
    fault: FaultView | None
    laws: str
    """`judged` or `not asked`."""
    verdict: str
    """The verdict in words."""


class WorldView(View, frozen=True, kw_only=True):
    """What stands at a WorldPath (spec: WorldPath, the World is addressable)."""

    path: str
    """Canonical path."""
    uri: str
    kind: str
    """`plan`, `transition`, `budget`, `policy`, `event`, or what `artifact(s)` and `stream(s)` are.

    The plural is a list of what lies below the path; a `stream` is a list, too, since any number
    of executions may have streamed there.
    """
    value: Any
