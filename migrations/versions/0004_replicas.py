"""Several schedulers of one ledger: who is alive, what holds for all, and what they ask."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

BYTEWISE = sa.Text().with_variant(postgresql.TEXT(collation="C"), "postgresql")


def upgrade() -> None:
    op.create_table(
        "constant",
        sa.Column("name", BYTEWISE, nullable=False),
        sa.Column("value", BYTEWISE, nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_constant")),
    )
    op.create_table(
        "replica",
        sa.Column("id", BYTEWISE, nullable=False),
        sa.Column("renewed_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_replica")),
    )
    op.create_table(
        "inbox",
        sa.Column("id", BYTEWISE, nullable=False),
        sa.Column("shard", BYTEWISE, nullable=False),
        sa.Column("plan", BYTEWISE, nullable=False),
        sa.Column("command", sa.LargeBinary(), nullable=False),
        sa.Column("scope", BYTEWISE, nullable=True),
        sa.Column("key", BYTEWISE, nullable=True),
        sa.Column("body", BYTEWISE, nullable=True),
        sa.Column("replay", sa.LargeBinary(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("answer", sa.LargeBinary(), nullable=True),
        sa.Column("error", sa.LargeBinary(), nullable=True),
        sa.Column("answered_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_inbox")),
    )
    op.create_index("ix_inbox_shard_answered_at", "inbox", ["shard", "answered_at", "created_at"])


def downgrade() -> None:
    op.drop_table("inbox")
    op.drop_table("replica")
    op.drop_table("constant")
