"""The tables: the ledger, the rows that are projected from it, and who may write."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from advanced_alchemy.base import CommonTableAttributes, create_registry
from sqlalchemy import (
    JSON,
    BigInteger,
    CheckConstraint,
    DateTime,
    ForeignKey,
    Index,
    LargeBinary,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from theory_api.adapters.sql.columns import BYTEWISE, Digest

HEAD: Final = "0005"
"""The migration that leads to these tables."""


class Base(CommonTableAttributes, DeclarativeBase):
    """Base of all tables; constraints are named by convention."""

    registry = create_registry(
        {
            str: BYTEWISE,
            int: BigInteger(),
            bytes: LargeBinary(),
            dict[str, int]: JSON(),
            datetime: DateTime(timezone=True),
        }
    )


class Shard(Base):
    """Who may append to the plans of a shard. Law: `epoch` only rises."""

    __tablename__ = "shard"
    id: Mapped[str] = mapped_column(primary_key=True)
    epoch: Mapped[int]
    owner: Mapped[str | None]


class ShardLease(Base):
    """Until when a shard's owner is believed alive; SQLite has a lock on the home instead."""

    __tablename__ = "shard_lease"
    shard: Mapped[str] = mapped_column(ForeignKey("shard.id"), primary_key=True)
    epoch: Mapped[int]
    owner: Mapped[str]
    backend: Mapped[int]
    """Process id, in the server, of the connection that appends."""
    renewed_at: Mapped[datetime]


class LedgerEvent(Base):
    """The truth. Law: triggers refuse every UPDATE and DELETE."""

    __tablename__ = "ledger_event"
    __table_args__ = (
        CheckConstraint("seq >= 1", name="seq"),
        CheckConstraint("length(hash) = 32", name="hash"),
    )
    plan: Mapped[str] = mapped_column(primary_key=True)
    seq: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    kind: Mapped[str]
    at: Mapped[str]
    hash: Mapped[str] = mapped_column(Digest())
    body: Mapped[bytes]


class Plan(Base):
    """A plan and its head."""

    __tablename__ = "plan"
    __table_args__ = (
        CheckConstraint("head_seq >= 1", name="head_seq"),
        CheckConstraint("length(head_hash) = 32", name="head_hash"),
        Index("ix_plan_shard_status", "shard", "status"),
        Index("ix_plan_tenant_status", "tenant", "status"),
    )
    plan: Mapped[str] = mapped_column(primary_key=True)
    shard: Mapped[str] = mapped_column(ForeignKey("shard.id"))
    tenant: Mapped[str]
    status: Mapped[str]
    lane: Mapped[str]
    created_at: Mapped[str]
    updated_at: Mapped[str]
    head_seq: Mapped[int]
    head_hash: Mapped[str] = mapped_column(Digest())
    registry_snapshot: Mapped[str]
    document: Mapped[str]
    transitions: Mapped[int]
    error_code: Mapped[str | None]


class Balance(Base):
    """One dimension of a plan's budget. Law: `reserved >= 0` and `spent >= 0`."""

    __tablename__ = "balance"
    __table_args__ = (
        CheckConstraint("reserved >= 0", name="reserved"),
        CheckConstraint("spent >= 0", name="spent"),
    )
    plan: Mapped[str] = mapped_column(ForeignKey("plan.plan"), primary_key=True)
    dimension: Mapped[str] = mapped_column(primary_key=True)
    limit: Mapped[int | None]
    reserved: Mapped[int]
    spent: Mapped[int]


class Transition(Base):
    """A proposed mutation and where it stands."""

    __tablename__ = "transition"
    plan: Mapped[str] = mapped_column(ForeignKey("plan.plan"), primary_key=True)
    transition: Mapped[str] = mapped_column(primary_key=True)
    position: Mapped[int]
    processor_ref: Mapped[str]
    status: Mapped[str]
    attempt: Mapped[int]
    execution_id: Mapped[str | None]
    error_code: Mapped[str | None]


class Execution(Base):
    """One attempt of a transition."""

    __tablename__ = "execution"
    plan: Mapped[str] = mapped_column(ForeignKey("plan.plan"), primary_key=True)
    execution_id: Mapped[str] = mapped_column(primary_key=True)
    transition: Mapped[str]
    attempt: Mapped[int]
    status: Mapped[str]
    hold: Mapped[dict[str, int]]
    actual: Mapped[dict[str, int] | None]
    write_prefix: Mapped[str]
    envelope: Mapped[str | None]
    receipt: Mapped[str | None]
    trace: Mapped[str | None]
    started_at: Mapped[str]
    ended_at: Mapped[str | None]


class Artifact(Base):
    """What a plan-relative path holds."""

    __tablename__ = "artifact"
    plan: Mapped[str] = mapped_column(ForeignKey("plan.plan"), primary_key=True)
    path: Mapped[str] = mapped_column(primary_key=True)
    cid: Mapped[str]
    size_bytes: Mapped[int]
    mime: Mapped[str]
    execution_id: Mapped[str | None]
    seq: Mapped[int]


class Idempotency(Base):
    """A request that was answered."""

    __tablename__ = "idempotency"
    scope: Mapped[str] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    body: Mapped[str]
    answer: Mapped[bytes]


class Fold(Base):
    """A plan's state as of one event: a cache of the ledger, never a source."""

    __tablename__ = "fold"
    __table_args__ = (
        CheckConstraint("seq >= 1", name="seq"),
        CheckConstraint("length(hash) = 32", name="hash"),
    )
    plan: Mapped[str] = mapped_column(ForeignKey("plan.plan"), primary_key=True)
    seq: Mapped[int]
    hash: Mapped[str] = mapped_column(Digest())
    at: Mapped[str]
    version: Mapped[str]
    body: Mapped[bytes]


class Constant(Base):
    """What the first start of several schedulers decided for good: number of shards, home."""

    __tablename__ = "constant"
    name: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[str]


class Replica(Base):
    """A scheduler, and when it was last heard of."""

    __tablename__ = "replica"
    id: Mapped[str] = mapped_column(primary_key=True)
    renewed_at: Mapped[datetime]


class Inbox(Base):
    """A command that another replica than its owner took; kept for a while after its reply."""

    __tablename__ = "inbox"
    __table_args__ = (Index("ix_inbox_shard_answered_at", "shard", "answered_at", "created_at"),)
    id: Mapped[str] = mapped_column(primary_key=True)
    shard: Mapped[str]
    plan: Mapped[str]
    command: Mapped[bytes]
    scope: Mapped[str | None]
    key: Mapped[str | None]
    body: Mapped[str | None]
    replay: Mapped[bytes | None]
    """Answer of the client's own key."""
    created_at: Mapped[datetime]
    answer: Mapped[bytes | None]
    error: Mapped[bytes | None]
    answered_at: Mapped[datetime | None]
