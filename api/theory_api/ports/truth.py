"""The ledger and its projections: one transaction, one winner."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from theory_api.domain.projection import Changes

INBOX: Final = "inbox"
"""Scope of the idempotency rows that make a command of the durable inbox happen once.

No client has it: theirs name a tenant and a principal.
"""


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """One event as it is stored, exported and verified."""

    plan: str
    seq: int
    kind: str
    at: str
    body: bytes
    """The canonical bytes that were hashed."""
    hash: str
    """`b3:` + 64 hex."""


@dataclass(frozen=True, slots=True)
class Head:
    """The newest event of a plan."""

    plan: str
    seq: int
    hash: str
    at: str


@dataclass(frozen=True, slots=True)
class Append:
    """One plan's share of a batch."""

    plan: str
    expected_seq: int
    """Seq of the last event that the writer folded; 0 for a plan that must not exist yet."""
    events: tuple[StoredEvent, ...]
    changes: Changes


@dataclass(frozen=True, slots=True)
class IdempotencyRow:
    """A POST that was answered: kept in the transaction of the events that it caused."""

    scope: str
    """Tenant and principal."""
    key: str
    body: str
    """`b3:` digest of the canonical request body."""
    answer: bytes
    """Canonical JSON of the answer."""


class TruthStore(Protocol):
    """The only door to the ledger for its one writer.

    Law: `append` is all or nothing over the whole batch; it is compare-and-swap on
    `(plan, expected_seq)` under the writer's epoch; stored bytes are never updated or deleted.
    """

    async def claim(self, shard: str, owner: str) -> int:
        """Become the writer of a shard and raise its epoch; returns the new epoch.

        Raises `TheoryError` `ERR_NOT_WRITER` while another owner holds it, `ERR_UNAVAILABLE`.
        """

    async def renew(self, shard: str, epoch: int) -> None:
        """Keep the shard: an owner that does not renew its lease in time loses it to another.

        Raises `TheoryError` `ERR_NOT_WRITER` when the epoch is over, `ERR_UNAVAILABLE`.
        """

    async def append(
        self,
        batch: Sequence[Append],
        *,
        shard: str,
        epoch: int,
        idempotency: Sequence[IdempotencyRow] = (),
    ) -> None:
        """Commit the batch, durable on return.

        Raises `TheoryError`: `ERR_NOT_WRITER` (epoch lost), `ERR_CONFLICT` (a head moved, or a
        plan exists already), `ERR_BUDGET_EXCEEDED` (the database itself refused a balance),
        `ERR_IDEMPOTENCY_IN_FLIGHT` (a key is there already: nothing was written, and
        `idempotency` answers it), `ERR_UNAVAILABLE` (nothing was written, or it cannot be known:
        refold before the next).
        """

    async def events(self, plan: str, *, after: int = 0, limit: int = 1000) -> list[StoredEvent]:
        """Events with `seq > after`, in order."""

    async def open_plans(self, shard: str) -> list[str]:
        """Plans whose status is not terminal, oldest first."""

    async def idempotency(self, scope: str, key: str) -> IdempotencyRow | None:
        """The stored answer of an earlier request."""

    async def release(self, shard: str, epoch: int) -> None:
        """Give the shard up; idempotent."""

    async def close(self) -> None:
        """Close every connection."""


class ProjectionStore(Protocol):
    """Where projections are put anew: they are rows of the ledger, never more than it says."""

    async def replace_projections(
        self, plan: str, changes: Changes, *, shard: str, epoch: int
    ) -> None:
        """Put the rows that a whole ledger implies in the place of the plan's present ones.

        `changes` is the projection of all events of the plan; its head comes from the ledger.
        Raises `TheoryError`: `ERR_NOT_WRITER`, `ERR_NOT_FOUND` (no events), `ERR_UNAVAILABLE`.
        """


@dataclass(frozen=True, slots=True)
class PlanRow:
    """A plan as lists and `show` tell it."""

    plan: str
    tenant: str
    status: str
    lane: str
    created_at: str
    updated_at: str
    head_seq: int
    head_hash: str
    registry_snapshot: str
    document: str
    transitions: int
    error_code: str | None


@dataclass(frozen=True, slots=True)
class BalanceRow:
    """One dimension of a plan's budget."""

    dimension: str
    limit: int | None
    """None: not limited."""
    reserved: int
    spent: int


@dataclass(frozen=True, slots=True)
class TransitionRow:
    """A transition as `show` tells it."""

    transition: str
    position: int
    processor_ref: str
    status: str
    attempt: int
    execution_id: str | None
    error_code: str | None


@dataclass(frozen=True, slots=True)
class ExecutionRow:
    """One attempt of a transition."""

    execution_id: str
    transition: str
    attempt: int
    status: str
    hold: Mapping[str, int]
    actual: Mapping[str, int] | None
    write_prefix: str
    envelope: str | None
    receipt: str | None
    trace: str | None
    started_at: str
    ended_at: str | None


@dataclass(frozen=True, slots=True)
class ArtifactRow:
    """What a WorldPath under `/artifacts` holds."""

    path: str
    """Plan-relative canonical path."""
    cid: str
    size_bytes: int
    mime: str
    execution_id: str | None
    seq: int


class ReadModel(Protocol):
    """Projections, read beside a running writer, from any process.

    Raises `TheoryError`: `ERR_NOT_FOUND` from `plan` and `execution` for what is not there, while
    lists of an unknown plan are empty; `ERR_UNAVAILABLE`.
    """

    async def plans(
        self,
        *,
        tenant: str | None = None,
        status: str | None = None,
        after: str = "",
        limit: int = 100,
    ) -> list[PlanRow]:
        """Plans ordered by path, beginning after `after`."""

    async def plan(self, plan: str) -> PlanRow:
        """One plan."""

    async def balance(self, plan: str) -> list[BalanceRow]:
        """The budget, ordered by dimension."""

    async def transitions(self, plan: str) -> list[TransitionRow]:
        """All transitions in the order in which they were proposed."""

    async def executions(self, plan: str, *, transition: str | None = None) -> list[ExecutionRow]:
        """Attempts, oldest first."""

    async def execution(self, execution_id: str, *, plan: str) -> ExecutionRow:
        """One attempt; `ERR_NOT_FOUND`."""

    async def artifact(self, plan: str, path: str) -> ArtifactRow | None:
        """The artifact at an exact plan-relative path."""

    async def artifacts(
        self, plan: str, prefix: str, *, after: str = "", limit: int = 1000
    ) -> list[ArtifactRow]:
        """Artifacts below a prefix that ends in `/`, ordered by path (bytewise)."""

    async def events(
        self, plan: str, *, after: int = 0, limit: int = 1000, kind: str | None = None
    ) -> list[StoredEvent]:
        """Events with `seq > after`, in order; with `kind` those of it alone."""

    async def heads(self, named: Sequence[tuple[str, int]]) -> list[Head]:
        """Those of these events, each (plan, seq), that the ledger itself holds, in any order."""

    async def close(self) -> None:
        """Close every connection."""
