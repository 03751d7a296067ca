"""Folds of plans, so that a start reads the tail of a ledger instead of all of it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

BYTEWISE = sa.Text().with_variant(postgresql.TEXT(collation="C"), "postgresql")


def upgrade() -> None:
    op.create_table(
        "fold",
        sa.Column("plan", BYTEWISE, nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("hash", sa.LargeBinary(32), nullable=False),
        sa.Column("at", BYTEWISE, nullable=False),
        sa.Column("version", BYTEWISE, nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("plan", name=op.f("pk_fold")),
        sa.CheckConstraint("seq >= 1", name=op.f("ck_fold_seq")),
        sa.CheckConstraint("length(hash) = 32", name=op.f("ck_fold_hash")),
        sa.ForeignKeyConstraint(["plan"], ["plan.plan"], name=op.f("fk_fold_plan_plan")),
    )


def downgrade() -> None:
    op.drop_table("fold")
