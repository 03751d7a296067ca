"""The ledger, which only grows, and the rows that are projected from it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

BYTEWISE = sa.Text().with_variant(postgresql.TEXT(collation="C"), "postgresql")

SQLITE_GUARDS = (
    """
    CREATE TRIGGER ledger_event_follows BEFORE INSERT ON ledger_event
    WHEN NEW.seq <> 1 + (SELECT coalesce(max(seq), 0) FROM ledger_event WHERE "plan" = NEW."plan")
    BEGIN SELECT RAISE(ABORT, 'a ledger event follows the one before it'); END
    """,
    """
    CREATE TRIGGER ledger_event_update BEFORE UPDATE ON ledger_event
    BEGIN SELECT RAISE(ABORT, 'ledger events are never updated'); END
    """,
    """
    CREATE TRIGGER ledger_event_delete BEFORE DELETE ON ledger_event
    BEGIN SELECT RAISE(ABORT, 'ledger events are never deleted'); END
    """,
)

POSTGRESQL_GUARDS = (
    """
    CREATE FUNCTION ledger_event_refuse() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN RAISE EXCEPTION 'ledger events are never changed'
    USING ERRCODE = 'integrity_constraint_violation'; END $$
    """,
    """
    CREATE FUNCTION ledger_event_follow() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN
    IF NEW.seq <> 1 + (SELECT coalesce(max(seq), 0) FROM ledger_event WHERE "plan" = NEW."plan")
    THEN RAISE EXCEPTION 'a ledger event follows the one before it'
    USING ERRCODE = 'integrity_constraint_violation'; END IF;
    RETURN NEW; END $$
    """,
    """
    CREATE TRIGGER ledger_event_follows BEFORE INSERT ON ledger_event
    FOR EACH ROW EXECUTE FUNCTION ledger_event_follow()
    """,
    """
    CREATE TRIGGER ledger_event_update BEFORE UPDATE OR DELETE ON ledger_event
    FOR EACH ROW EXECUTE FUNCTION ledger_event_refuse()
    """,
    """
    CREATE TRIGGER ledger_event_truncate BEFORE TRUNCATE ON ledger_event
    FOR EACH STATEMENT EXECUTE FUNCTION ledger_event_refuse()
    """,
)

TABLES = (
    "artifact",
    "balance",
    "execution",
    "transition",
    "plan",
    "idempotency",
    "ledger_event",
    "shard",
)


def upgrade() -> None:
    create_truth()
    create_plan()
    create_parts_of_plans()
    sqlite = op.get_context().dialect.name == "sqlite"
    for statement in SQLITE_GUARDS if sqlite else POSTGRESQL_GUARDS:
        op.execute(statement)


def downgrade() -> None:
    for table in TABLES:
        op.drop_table(table)
    if op.get_context().dialect.name == "postgresql":
        op.execute("DROP FUNCTION ledger_event_refuse()")
        op.execute("DROP FUNCTION ledger_event_follow()")


def create_truth() -> None:
    """What nothing else is needed to understand: events, requests, writers."""
    op.create_table(
        "shard",
        sa.Column("id", BYTEWISE, nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("owner", BYTEWISE, nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_shard")),
    )
    op.create_table(
        "ledger_event",
        sa.Column("plan", BYTEWISE, nullable=False),
        sa.Column("seq", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("kind", BYTEWISE, nullable=False),
        sa.Column("at", BYTEWISE, nullable=False),
        sa.Column("hash", sa.LargeBinary(32), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("plan", "seq", name=op.f("pk_ledger_event")),
        sa.CheckConstraint("seq >= 1", name=op.f("ck_ledger_event_seq")),
        sa.CheckConstraint("length(hash) = 32", name=op.f("ck_ledger_event_hash")),
    )
    op.create_table(
        "idempotency",
        sa.Column("scope", BYTEWISE, nullable=False),
        sa.Column("key", BYTEWISE, nullable=False),
        sa.Column("body", BYTEWISE, nullable=False),
        sa.Column("answer", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("scope", "key", name=op.f("pk_idempotency")),
    )


def create_plan() -> None:
    """Plans and their heads."""
    op.create_table(
        "plan",
        sa.Column("plan", BYTEWISE, nullable=False),
        sa.Column("shard", BYTEWISE, nullable=False),
        sa.Column("tenant", BYTEWISE, nullable=False),
        sa.Column("status", BYTEWISE, nullable=False),
        sa.Column("lane", BYTEWISE, nullable=False),
        sa.Column("created_at", BYTEWISE, nullable=False),
        sa.Column("updated_at", BYTEWISE, nullable=False),
        sa.Column("head_seq", sa.BigInteger(), nullable=False),
        sa.Column("head_hash", sa.LargeBinary(32), nullable=False),
        sa.Column("registry_snapshot", BYTEWISE, nullable=False),
        sa.Column("document", BYTEWISE, nullable=False),
        sa.Column("transitions", sa.BigInteger(), nullable=False),
        sa.Column("error_code", BYTEWISE, nullable=True),
        sa.PrimaryKeyConstraint("plan", name=op.f("pk_plan")),
        sa.CheckConstraint("head_seq >= 1", name=op.f("ck_plan_head_seq")),
        sa.CheckConstraint("length(head_hash) = 32", name=op.f("ck_plan_head_hash")),
        sa.ForeignKeyConstraint(["shard"], ["shard.id"], name=op.f("fk_plan_shard_shard")),
    )
    op.create_index("ix_plan_shard_status", "plan", ["shard", "status"])
    op.create_index("ix_plan_tenant_status", "plan", ["tenant", "status"])


def create_parts_of_plans() -> None:
    """Budgets, transitions, attempts, artifacts."""
    op.create_table(
        "balance",
        sa.Column("plan", BYTEWISE, nullable=False),
        sa.Column("dimension", BYTEWISE, nullable=False),
        sa.Column("limit", sa.BigInteger(), nullable=True),
        sa.Column("reserved", sa.BigInteger(), nullable=False),
        sa.Column("spent", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("plan", "dimension", name=op.f("pk_balance")),
        sa.CheckConstraint("reserved >= 0", name=op.f("ck_balance_reserved")),
        sa.CheckConstraint("spent >= 0", name=op.f("ck_balance_spent")),
        sa.ForeignKeyConstraint(["plan"], ["plan.plan"], name=op.f("fk_balance_plan_plan")),
    )
    op.create_table(
        "transition",
        sa.Column("plan", BYTEWISE, nullable=False),
        sa.Column("transition", BYTEWISE, nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("processor_ref", BYTEWISE, nullable=False),
        sa.Column("status", BYTEWISE, nullable=False),
        sa.Column("attempt", sa.BigInteger(), nullable=False),
        sa.Column("execution_id", BYTEWISE, nullable=True),
        sa.Column("error_code", BYTEWISE, nullable=True),
        sa.PrimaryKeyConstraint("plan", "transition", name=op.f("pk_transition")),
        sa.ForeignKeyConstraint(["plan"], ["plan.plan"], name=op.f("fk_transition_plan_plan")),
    )
    op.create_table(
        "execution",
        sa.Column("plan", BYTEWISE, nullable=False),
        sa.Column("execution_id", BYTEWISE, nullable=False),
        sa.Column("transition", BYTEWISE, nullable=False),
        sa.Column("attempt", sa.BigInteger(), nullable=False),
        sa.Column("status", BYTEWISE, nullable=False),
        sa.Column("hold", sa.JSON(), nullable=False),
        sa.Column("actual", sa.JSON(), nullable=True),
        sa.Column("write_prefix", BYTEWISE, nullable=False),
        sa.Column("envelope", BYTEWISE, nullable=True),
        sa.Column("receipt", BYTEWISE, nullable=True),
        sa.Column("trace", BYTEWISE, nullable=True),
        sa.Column("started_at", BYTEWISE, nullable=False),
        sa.Column("ended_at", BYTEWISE, nullable=True),
        sa.PrimaryKeyConstraint("plan", "execution_id", name=op.f("pk_execution")),
        sa.ForeignKeyConstraint(["plan"], ["plan.plan"], name=op.f("fk_execution_plan_plan")),
    )
    op.create_table(
        "artifact",
        sa.Column("plan", BYTEWISE, nullable=False),
        sa.Column("path", BYTEWISE, nullable=False),
        sa.Column("cid", BYTEWISE, nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("mime", BYTEWISE, nullable=False),
        sa.Column("execution_id", BYTEWISE, nullable=True),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("plan", "path", name=op.f("pk_artifact")),
        sa.ForeignKeyConstraint(["plan"], ["plan.plan"], name=op.f("fk_artifact_plan_plan")),
    )
