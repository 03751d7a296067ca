"""Leases of shards, and PostgreSQL's own append: one round trip, fenced, guarded."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

BYTEWISE = sa.Text().with_variant(postgresql.TEXT(collation="C"), "postgresql")

FOLLOW_EACH_ROW = (
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
)

FOLLOW_EACH_BATCH = (
    "DROP TRIGGER ledger_event_follows ON ledger_event",
    "DROP FUNCTION ledger_event_follow()",
    # Rows below are there without a gap, seq is unique: a run that begins right after one of
    # them, or at 1, and has no gap of its own, keeps it so.
    """
    CREATE FUNCTION ledger_event_follow() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN
    IF EXISTS (
      SELECT FROM (
        SELECT "plan", min(seq) AS first, max(seq) AS last, count(*) AS events
        FROM added GROUP BY "plan"
      ) AS run
      WHERE run.last - run.first + 1 <> run.events OR (run.first <> 1 AND NOT EXISTS (
        SELECT FROM ledger_event AS e WHERE e."plan" = run."plan" AND e.seq = run.first - 1
      ))
    )
    THEN RAISE EXCEPTION 'a ledger event follows the one before it'
    USING ERRCODE = 'integrity_constraint_violation'; END IF;
    RETURN NULL; END $$
    """,
    """
    CREATE TRIGGER ledger_event_follows AFTER INSERT ON ledger_event
    REFERENCING NEW TABLE AS added
    FOR EACH STATEMENT EXECUTE FUNCTION ledger_event_follow()
    """,
)

PROJECT = """
CREATE FUNCTION theory_project(rows jsonb) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  changed bigint;
BEGIN
  IF rows ? 'limits' THEN
    INSERT INTO balance ("plan", dimension, "limit", reserved, spent)
    SELECT r."plan", r.dimension, r."limit", 0, 0
    FROM jsonb_to_recordset(rows -> 'limits') AS r("plan" text, dimension text, "limit" bigint)
    ON CONFLICT ("plan", dimension) DO UPDATE SET "limit" = excluded."limit";
  END IF;

  IF rows ? 'moves' THEN
    INSERT INTO balance ("plan", dimension, "limit", reserved, spent)
    SELECT r."plan", r.dimension, NULL, 0, 0
    FROM jsonb_to_recordset(rows -> 'moves') AS r("plan" text, dimension text)
    WHERE NOT EXISTS (
      SELECT FROM balance AS b WHERE b."plan" = r."plan" AND b.dimension = r.dimension
    );
    UPDATE balance AS b SET reserved = b.reserved + r.reserved, spent = b.spent + r.spent
    FROM jsonb_to_recordset(rows -> 'moves') AS r(
      "plan" text, dimension text, reserved bigint, spent bigint,
      least_reserved bigint, least_spent bigint, most_used bigint
    )
    WHERE b."plan" = r."plan" AND b.dimension = r.dimension
      AND b.reserved + r.least_reserved >= 0 AND b.spent + r.least_spent >= 0
      AND (r.most_used IS NULL OR b."limit" IS NULL
           OR b.reserved + b.spent + r.most_used <= b."limit");
    GET DIAGNOSTICS changed = ROW_COUNT;
    IF changed <> jsonb_array_length(rows -> 'moves') THEN
      RAISE EXCEPTION 'a balance cannot move so' USING ERRCODE = 'TH003';
    END IF;
  END IF;

  IF rows ? 'transitions' THEN
    INSERT INTO transition
      ("plan", transition, position, processor_ref, status, attempt, execution_id, error_code)
    SELECT r."plan", r.transition, r.position, r.processor_ref, r.status, r.attempt,
      r.execution_id, r.error_code
    FROM jsonb_to_recordset(rows -> 'transitions') AS r(
      "plan" text, transition text, position bigint, processor_ref text, status text,
      attempt bigint, execution_id text, error_code text
    )
    ON CONFLICT ("plan", transition) DO UPDATE SET
      position = excluded.position, processor_ref = excluded.processor_ref,
      status = excluded.status, attempt = excluded.attempt,
      execution_id = excluded.execution_id, error_code = excluded.error_code;
  END IF;

  IF rows ? 'transition_patches' THEN
    UPDATE transition AS t SET
      position = CASE WHEN r.new ? 'position' THEN (r.new ->> 'position')::bigint
        ELSE t.position END,
      processor_ref = CASE WHEN r.new ? 'processor_ref' THEN r.new ->> 'processor_ref'
        ELSE t.processor_ref END,
      status = CASE WHEN r.new ? 'status' THEN r.new ->> 'status' ELSE t.status END,
      attempt = CASE WHEN r.new ? 'attempt' THEN (r.new ->> 'attempt')::bigint
        ELSE t.attempt END,
      execution_id = CASE WHEN r.new ? 'execution_id' THEN r.new ->> 'execution_id'
        ELSE t.execution_id END,
      error_code = CASE WHEN r.new ? 'error_code' THEN r.new ->> 'error_code'
        ELSE t.error_code END
    FROM jsonb_to_recordset(rows -> 'transition_patches')
      AS r("plan" text, transition text, new jsonb)
    WHERE t."plan" = r."plan" AND t.transition = r.transition;
    GET DIAGNOSTICS changed = ROW_COUNT;
    IF changed <> jsonb_array_length(rows -> 'transition_patches') THEN
      RAISE EXCEPTION 'a projected transition is missing' USING ERRCODE = 'TH002';
    END IF;
  END IF;

  IF rows ? 'executions' THEN
    INSERT INTO execution
      ("plan", execution_id, transition, attempt, status, hold, actual, write_prefix,
       envelope, receipt, trace, started_at, ended_at)
    SELECT r."plan", r.execution_id, r.transition, r.attempt, r.status, r.hold, r.actual,
      r.write_prefix, r.envelope, r.receipt, r.trace, r.started_at, r.ended_at
    FROM jsonb_to_recordset(rows -> 'executions') AS r(
      "plan" text, execution_id text, transition text, attempt bigint, status text, hold json,
      actual json, write_prefix text, envelope text, receipt text, trace text, started_at text,
      ended_at text
    )
    ON CONFLICT ("plan", execution_id) DO UPDATE SET
      transition = excluded.transition, attempt = excluded.attempt, status = excluded.status,
      hold = excluded.hold, actual = excluded.actual, write_prefix = excluded.write_prefix,
      envelope = excluded.envelope, receipt = excluded.receipt, trace = excluded.trace,
      started_at = excluded.started_at, ended_at = excluded.ended_at;
  END IF;

  IF rows ? 'execution_patches' THEN
    UPDATE execution AS x SET
      transition = CASE WHEN r.new ? 'transition' THEN r.new ->> 'transition'
        ELSE x.transition END,
      attempt = CASE WHEN r.new ? 'attempt' THEN (r.new ->> 'attempt')::bigint
        ELSE x.attempt END,
      status = CASE WHEN r.new ? 'status' THEN r.new ->> 'status' ELSE x.status END,
      hold = CASE WHEN r.new ? 'hold' THEN (r.new -> 'hold')::json ELSE x.hold END,
      actual = CASE WHEN r.new ? 'actual' THEN nullif(r.new -> 'actual', 'null')::json
        ELSE x.actual END,
      write_prefix = CASE WHEN r.new ? 'write_prefix' THEN r.new ->> 'write_prefix'
        ELSE x.write_prefix END,
      envelope = CASE WHEN r.new ? 'envelope' THEN r.new ->> 'envelope' ELSE x.envelope END,
      receipt = CASE WHEN r.new ? 'receipt' THEN r.new ->> 'receipt' ELSE x.receipt END,
      trace = CASE WHEN r.new ? 'trace' THEN r.new ->> 'trace' ELSE x.trace END,
      started_at = CASE WHEN r.new ? 'started_at' THEN r.new ->> 'started_at'
        ELSE x.started_at END,
      ended_at = CASE WHEN r.new ? 'ended_at' THEN r.new ->> 'ended_at' ELSE x.ended_at END
    FROM jsonb_to_recordset(rows -> 'execution_patches')
      AS r("plan" text, execution_id text, new jsonb)
    WHERE x."plan" = r."plan" AND x.execution_id = r.execution_id;
    GET DIAGNOSTICS changed = ROW_COUNT;
    IF changed <> jsonb_array_length(rows -> 'execution_patches') THEN
      RAISE EXCEPTION 'a projected execution is missing' USING ERRCODE = 'TH002';
    END IF;
  END IF;

  IF rows ? 'artifacts' THEN
    INSERT INTO artifact ("plan", path, cid, size_bytes, mime, execution_id, seq)
    SELECT r."plan", r.path, r.cid, r.size_bytes, r.mime, r.execution_id, r.seq
    FROM jsonb_to_recordset(rows -> 'artifacts') AS r(
      "plan" text, path text, cid text, size_bytes bigint, mime text, execution_id text, seq bigint
    )
    ON CONFLICT ("plan", path) DO UPDATE SET
      cid = excluded.cid, size_bytes = excluded.size_bytes, mime = excluded.mime,
      execution_id = excluded.execution_id, seq = excluded.seq;
  END IF;

  IF rows ? 'erased' THEN
    DELETE FROM artifact AS a
    USING jsonb_to_recordset(rows -> 'erased') AS r("plan" text, path text)
    WHERE a."plan" = r."plan" AND a.path = r.path;
  END IF;
END $$
"""

APPEND = """
CREATE FUNCTION theory_append(
  of_shard text, of_epoch bigint,
  plans text[], seqs bigint[], kinds text[], ats text[], hashes bytea[], bodies bytea[],
  heads jsonb, projected jsonb
) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  changed bigint;
BEGIN
  PERFORM FROM shard WHERE id = of_shard AND epoch = of_epoch AND owner IS NOT NULL FOR SHARE;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'another process has become the writer' USING ERRCODE = 'TH001';
  END IF;

  IF heads ? 'new' THEN
    INSERT INTO "plan" ("plan", shard, tenant, status, lane, created_at, updated_at, head_seq,
      head_hash, registry_snapshot, document, transitions, error_code)
    SELECT r."plan", of_shard, r.tenant, r.status, r.lane, r.created_at, r.updated_at,
      r.head_seq, decode(r.head_hash, 'hex'), r.registry_snapshot, r.document, r.transitions,
      r.error_code
    FROM jsonb_to_recordset(heads -> 'new') AS r(
      "plan" text, tenant text, status text, lane text, created_at text, updated_at text,
      head_seq bigint, head_hash text, registry_snapshot text, document text,
      transitions bigint, error_code text
    );
  END IF;

  IF heads ? 'moved' THEN
    UPDATE "plan" AS p SET
      head_seq = r.head_seq,
      head_hash = decode(r.head_hash, 'hex'),
      updated_at = coalesce(r.new ->> 'updated_at', p.updated_at),
      status = coalesce(r.new ->> 'status', p.status),
      error_code = CASE WHEN r.new ? 'error_code' THEN r.new ->> 'error_code'
        ELSE p.error_code END,
      tenant = coalesce(r.new ->> 'tenant', p.tenant),
      lane = coalesce(r.new ->> 'lane', p.lane),
      created_at = coalesce(r.new ->> 'created_at', p.created_at),
      registry_snapshot = coalesce(r.new ->> 'registry_snapshot', p.registry_snapshot),
      document = coalesce(r.new ->> 'document', p.document),
      transitions = coalesce((r.new ->> 'transitions')::bigint, p.transitions)
    FROM jsonb_to_recordset(heads -> 'moved') AS r(
      "plan" text, expected bigint, head_seq bigint, head_hash text, new jsonb
    )
    WHERE p."plan" = r."plan" AND p.shard = of_shard AND p.head_seq = r.expected;
    GET DIAGNOSTICS changed = ROW_COUNT;
    IF changed <> jsonb_array_length(heads -> 'moved') THEN
      RAISE EXCEPTION 'a plan''s head is not the expected one' USING ERRCODE = 'TH002';
    END IF;
  END IF;

  INSERT INTO ledger_event ("plan", seq, kind, at, hash, body)
  SELECT * FROM unnest(plans, seqs, kinds, ats, hashes, bodies);

  PERFORM theory_project(projected);

  IF heads ? 'requests' THEN
    INSERT INTO idempotency (scope, key, body, answer)
    SELECT r.scope, r.key, r.body, decode(r.answer, 'base64')
    FROM jsonb_to_recordset(heads -> 'requests')
      AS r(scope text, key text, body text, answer text);
  END IF;
END $$
"""

SIGNATURE = "text, bigint, text[], bigint[], text[], text[], bytea[], bytea[], jsonb, jsonb"


def upgrade() -> None:
    op.create_table(
        "shard_lease",
        sa.Column("shard", BYTEWISE, nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("owner", BYTEWISE, nullable=False),
        sa.Column("backend", sa.BigInteger(), nullable=False),
        sa.Column("renewed_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("shard", name=op.f("pk_shard_lease")),
        sa.ForeignKeyConstraint(["shard"], ["shard.id"], name=op.f("fk_shard_lease_shard_shard")),
    )
    if op.get_context().dialect.name == "postgresql":
        for statement in (*FOLLOW_EACH_BATCH, PROJECT, APPEND):
            op.execute(statement)


def downgrade() -> None:
    if op.get_context().dialect.name == "postgresql":
        op.execute(f"DROP FUNCTION theory_append({SIGNATURE})")
        op.execute("DROP FUNCTION theory_project(jsonb)")
        op.execute("DROP TRIGGER ledger_event_follows ON ledger_event")
        op.execute("DROP FUNCTION ledger_event_follow()")
        for statement in FOLLOW_EACH_ROW:
            op.execute(statement)
    op.drop_table("shard_lease")
