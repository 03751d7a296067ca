"""PostgreSQL's appends cost what they write, not what the ledger or the shard holds already."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

# A scalar subquery: one look into the key for each row. `NOT EXISTS` beside an `OR` became a
# hashed subplan, which read the whole ledger for each append until the table was analysed.
FOLLOW = """
CREATE OR REPLACE FUNCTION ledger_event_follow() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN
IF EXISTS (
  SELECT FROM added AS a WHERE a.seq <> 1 AND (
    SELECT e.seq FROM ledger_event AS e WHERE e."plan" = a."plan" AND e.seq = a.seq - 1
  ) IS NULL
)
THEN RAISE EXCEPTION 'a ledger event follows the one before it'
USING ERRCODE = 'integrity_constraint_violation'; END IF;
RETURN NULL; END $$
"""

# Laws of every statement that joins a batch to a table. Rows are found by their key, whatever
# statistics there are: plans are made when a session begins, often over empty tables, and stay.
# `IS NOT DISTINCT FROM` is no condition of an index: the shard's index, which holds every plan, is
# out of the question. `"plan" || '' = "plan"` holds always and makes the planner reckon with one
# row of the batch, not with the hundred that it takes for granted: it never walks a whole table.
APPEND_ONE = """
CREATE FUNCTION theory_append_one(
  of_shard text, of_epoch bigint, of_plan text, expected bigint,
  kinds text[], ats text[], hashes bytea[], bodies bytea[], projected jsonb
) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  events CONSTANT integer := cardinality(kinds);
BEGIN
  PERFORM FROM shard WHERE id = of_shard AND epoch = of_epoch AND owner IS NOT NULL FOR SHARE;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'another process has become the writer' USING ERRCODE = 'TH001';
  END IF;

  UPDATE "plan"
  SET head_seq = expected + events, head_hash = hashes[events], updated_at = ats[events]
  WHERE "plan" = of_plan AND shard IS NOT DISTINCT FROM of_shard AND head_seq = expected;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'a plan''s head is not the expected one' USING ERRCODE = 'TH002';
  END IF;

  IF events = 1 THEN
    INSERT INTO ledger_event ("plan", seq, kind, at, hash, body)
    VALUES (of_plan, expected + 1, kinds[1], ats[1], hashes[1], bodies[1]);
  ELSE
    INSERT INTO ledger_event ("plan", seq, kind, at, hash, body)
    SELECT of_plan, expected + e.place, e.kind, e.at, e.hash, e.body
    FROM unnest(kinds, ats, hashes, bodies) WITH ORDINALITY AS e(kind, at, hash, body, place);
  END IF;

  IF projected IS NOT NULL THEN
    PERFORM theory_project(projected);
  END IF;
END $$
"""

ONE_SIGNATURE = "text, bigint, text, bigint, text[], text[], bytea[], bytea[], jsonb"

FOLLOW_FUNCTION = 2
"""Its place among the statements of the migration that made it."""

HEAD_BEFORE = """p."plan" = r."plan" AND p.shard = of_shard AND"""
HEAD = """p."plan" = r."plan" AND p.shard IS NOT DISTINCT FROM of_shard
      AND r."plan" || '' = r."plan" AND"""

PATCHES_BEFORE = (
    """WHERE t."plan" = r."plan" AND t.transition = r.transition;""",
    """WHERE x."plan" = r."plan" AND x.execution_id = r.execution_id;""",
    """WHERE a."plan" = r."plan" AND a.path = r.path;""",
)

MOVES_BEFORE = (
    """    INSERT INTO balance ("plan", dimension, "limit", reserved, spent)
    SELECT r."plan", r.dimension, NULL, 0, 0
    FROM jsonb_to_recordset(rows -> 'moves') AS r("plan" text, dimension text)
    WHERE NOT EXISTS (
      SELECT FROM balance AS b WHERE b."plan" = r."plan" AND b.dimension = r.dimension
    );
""",
    """    WHERE b."plan" = r."plan" AND b.dimension = r.dimension
""",
    """    GET DIAGNOSTICS changed = ROW_COUNT;
    IF changed <> jsonb_array_length(rows -> 'moves') THEN
      RAISE""",
)
# A balance that is not there yet has no limit: its first move is its first row.
MOVES = (
    "",
    """    WHERE b."plan" = r."plan" AND b.dimension = r.dimension AND r."plan" || '' = r."plan"
""",
    """    GET DIAGNOSTICS changed = ROW_COUNT;
    IF changed <> jsonb_array_length(rows -> 'moves') THEN
      INSERT INTO balance ("plan", dimension, "limit", reserved, spent)
      SELECT r."plan", r.dimension, NULL, r.reserved, r.spent
      FROM jsonb_to_recordset(rows -> 'moves') AS r(
        "plan" text, dimension text, reserved bigint, spent bigint,
        least_reserved bigint, least_spent bigint
      )
      WHERE r.least_reserved >= 0 AND r.least_spent >= 0 AND r."plan" || '' = r."plan"
        AND NOT EXISTS (
          SELECT FROM balance AS b WHERE b."plan" = r."plan" AND b.dimension = r.dimension
        );
      GET DIAGNOSTICS opened = ROW_COUNT;
    END IF;
    IF changed + opened <> jsonb_array_length(rows -> 'moves') THEN
      RAISE""",
)


# Rows that are updated in place have room beside them: their indexes stay as they are.
UPDATED = ("plan", "balance", "transition", "execution")
ROOM = 60


def upgrade() -> None:
    if op.get_context().dialect.name == "postgresql":
        for table in UPDATED:
            op.execute(f'ALTER TABLE "{table}" SET (fillfactor = {ROOM})')
        op.execute(FOLLOW)
        op.execute(replacing(earlier("APPEND"), {HEAD_BEFORE: HEAD}))
        op.execute(replacing(earlier("PROJECT"), project()))
        op.execute(APPEND_ONE)


def downgrade() -> None:
    if op.get_context().dialect.name == "postgresql":
        op.execute(f"DROP FUNCTION theory_append_one({ONE_SIGNATURE})")
        op.execute(replacing(earlier("PROJECT"), {}))
        op.execute(replacing(earlier("APPEND"), {}))
        op.execute(replacing(earlier("FOLLOW_EACH_BATCH")[FOLLOW_FUNCTION], {}))
        for table in UPDATED:
            op.execute(f'ALTER TABLE "{table}" RESET (fillfactor)')


def project() -> dict[str, str]:
    """What is exchanged in `theory_project`."""
    return {
        "  changed bigint;": "  changed bigint;\n  opened bigint := 0;",
        **dict(zip(MOVES_BEFORE, MOVES, strict=True)),
        **{old: old[:-1] + """ AND r."plan" || '' = r."plan";""" for old in PATCHES_BEFORE},
    }


def earlier(name: str) -> Any:  # noqa: ANN401 - a text or several
    """A function as the migration wrote it that made it."""
    return runpy.run_path(str(Path(__file__).with_name("0002_many_writers.py")))[name]


def replacing(function: str, parts: dict[str, str]) -> str:
    """The statement that puts a function in the place of the one of its name, parts exchanged."""
    for old, new in ({"CREATE FUNCTION": "CREATE OR REPLACE FUNCTION"} | parts).items():
        if function.count(old) != 1:
            message = f"not exactly once in the earlier function: {old}"
            raise ValueError(message)
        function = function.replace(old, new)
    return function
