"""The statements of the append transaction, written once per dialect: one a table and batch.

Everything that databases spell differently is in this module.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import (
    Table,
    bindparam,
    case,
    delete,
    insert,
    literal_column,
    null,
    or_,
    select,
    update,
)
from sqlalchemy.dialects import sqlite
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.engine import Dialect
from sqlalchemy.sql.elements import ClauseElement, ColumnElement

from theory_api.adapters.sql import models
from theory_api.domain.values import TERMINAL_PLAN

_ZERO: Final[ColumnElement[int]] = literal_column("0")
_ONE: Final[ColumnElement[int]] = literal_column("1")
_PLAN_FIXED: Final = frozenset({"plan", "shard", "head_seq", "head_hash"})

FOLDS: Final = 64
"""Plans whose folds are read by one statement."""

BEGIN: Final = "BEGIN IMMEDIATE"
COMMIT: Final = "COMMIT"
ROLLBACK: Final = "ROLLBACK"

SESSION: Final = (
    "PRAGMA busy_timeout = 10000",
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",
    "PRAGMA foreign_keys = ON",
    "PRAGMA wal_autocheckpoint = 1000",
    "PRAGMA journal_size_limit = 67108864",
    "PRAGMA trusted_schema = OFF",
)
"""What makes a connection the writer's: durable commits, checkpoints, enforced references."""

READER_SESSION: Final = (
    "PRAGMA busy_timeout = 10000",
    "PRAGMA query_only = ON",
    "PRAGMA trusted_schema = OFF",
)


@dataclass(frozen=True, slots=True)
class Statements:
    """SQL texts with named parameters.

    A `patch_*` statement leaves a column alone unless its `has_<column>` parameter is true; the
    parameters that find its row are `old_<column>`. Rows are mappings by column name otherwise.
    """

    read_shard: str
    put_shard: str
    free_shard: str
    read_head: str
    read_last: str
    read_events: str
    read_open_plans: str
    read_idempotency: str
    insert_event: str
    insert_plan: str
    patch_plan: str
    insert_idempotency: str
    put_limit: str
    open_balance: str
    move_balance: str
    put_transition: str
    patch_transition: str
    put_execution: str
    patch_execution: str
    put_artifact: str
    drop_artifact: str
    put_fold: str
    read_folds: str
    """Of the plans `plan_0` … `plan_<FOLDS - 1>`, which may repeat."""
    drop_fold: str
    clear: tuple[str, ...]
    """Empty a plan's projections, its own row apart; parameter `plan`."""


def sqlite_statements() -> Statements:
    """The statements as SQLite and its driver take them."""
    return _statements(sqlite.dialect(paramstyle="named"), _sqlite_upsert)


def columns(table: type[models.Base]) -> tuple[str, ...]:
    """Names of a table's columns, in order."""
    return tuple(column.name for column in table.__table__.columns)


def _sqlite_upsert(table: Table, change: Iterable[str] | None) -> ClauseElement:
    """Insert, or else set the columns named; None changes all, none at all changes nothing."""
    statement = sqlite_insert(table).values(_values(table))
    names = _free(table) if change is None else tuple(change)
    if not names:
        return statement.on_conflict_do_nothing()
    return statement.on_conflict_do_update(
        index_elements=list(table.primary_key.columns),
        set_={name: statement.excluded[name] for name in names},
    )


def _statements(
    dialect: Dialect, upsert: Callable[[Table, Iterable[str] | None], ClauseElement]
) -> Statements:
    shard, event, plan = _table(models.Shard), _table(models.LedgerEvent), _table(models.Plan)
    balance, transition = _table(models.Balance), _table(models.Transition)
    execution, artifact = _table(models.Execution), _table(models.Artifact)
    request, kept = _table(models.Idempotency), _table(models.Fold)
    texts: dict[str, ClauseElement] = {
        "read_shard": select(shard.c.epoch, shard.c.owner).where(_is(shard, "id")),
        "put_shard": upsert(shard, None),
        "free_shard": update(shard)
        .values(owner=null())
        .where(_is(shard, "id"), shard.c.epoch == bindparam("old_epoch")),
        "read_head": select(plan.c.head_seq, plan.c.head_hash).where(_is(plan, "plan")),
        "read_last": select(event.c.seq, event.c.hash, event.c.at)
        .where(_is(event, "plan"))
        .order_by(event.c.seq.desc())
        .limit(_ONE)
        .offset(_ZERO),
        "read_events": select(event)
        .where(_is(event, "plan"), event.c.seq > bindparam("after"))
        .order_by(event.c.seq)
        .limit(bindparam("most"))
        .offset(_ZERO),
        "read_open_plans": select(plan.c.plan)
        .where(
            _is(plan, "shard"),
            *(plan.c.status != literal_column(f"'{name}'") for name in sorted(TERMINAL_PLAN)),
        )
        .order_by(plan.c.created_at, plan.c.plan),
        "read_idempotency": select(request).where(_is(request, "scope"), _is(request, "key")),
        "insert_event": insert(event).values(_values(event)),
        "insert_plan": insert(plan).values(_values(plan)),
        "patch_plan": update(plan)
        .values(
            _patches(plan, _PLAN_FIXED)
            | {"head_seq": bindparam("head_seq"), "head_hash": bindparam("head_hash")}
        )
        .where(_is(plan, "plan"), _is(plan, "shard"), _is(plan, "head_seq")),
        "insert_idempotency": insert(request).values(_values(request)),
        "put_limit": upsert(balance, ["limit"]),
        "open_balance": upsert(balance, ()),
        "move_balance": _move(balance),
        "put_transition": upsert(transition, None),
        "patch_transition": _patch(transition),
        "put_execution": upsert(execution, None),
        "patch_execution": _patch(execution),
        "put_artifact": upsert(artifact, None),
        "drop_artifact": delete(artifact).where(_is(artifact, "plan"), _is(artifact, "path")),
        "put_fold": upsert(kept, None),
        "read_folds": select(kept).where(
            kept.c.plan.in_([bindparam(f"plan_{place}") for place in range(FOLDS)])
        ),
        "drop_fold": delete(kept).where(_is(kept, "plan")),
    }
    clear = tuple(
        _text(delete(table).where(_is(table, "plan")), dialect)
        for table in (balance, transition, execution, artifact)
    )
    return Statements(
        clear=clear, **{name: _text(statement, dialect) for name, statement in texts.items()}
    )


def _move(balance: Table) -> ClauseElement:
    """Law: `reserved >= 0`, `spent >= 0`; a guarded move also keeps `spent + reserved <= limit`."""
    reserved = balance.c.reserved + bindparam("reserved_by", type_=balance.c.reserved.type)
    spent = balance.c.spent + bindparam("spent_by", type_=balance.c.spent.type)
    return (
        update(balance)
        .values(reserved=reserved, spent=spent)
        .where(
            _is(balance, "plan"),
            _is(balance, "dimension"),
            reserved >= _ZERO,
            spent >= _ZERO,
            or_(
                bindparam("guarded", type_=balance.c.limit.type) == _ZERO,
                balance.c.limit.is_(None),
                spent + reserved <= balance.c.limit,
            ),
        )
    )


def _patch(table: Table) -> ClauseElement:
    keys = [column.name for column in table.primary_key.columns]
    where = [_is(table, name) for name in keys]
    return update(table).values(_patches(table, frozenset(keys))).where(*where)


def _patches(table: Table, fixed: frozenset[str]) -> dict[str, ColumnElement[Any]]:
    return {
        column.name: case(
            (bindparam(f"has_{column.name}") == _ONE, bindparam(f"new_{column.name}")), else_=column
        )
        for column in table.columns
        if column.name not in fixed
    }


def _values(table: Table) -> dict[str, ColumnElement[Any]]:
    return {column.name: bindparam(column.name) for column in table.columns}


def _free(table: Table) -> tuple[str, ...]:
    return tuple(column.name for column in table.columns if not column.primary_key)


def _is(table: Table, name: str) -> ColumnElement[bool]:
    column: ColumnElement[Any] = table.c[name]
    return column == bindparam(f"old_{name}")


def _table(model: type[models.Base]) -> Table:
    table = model.__table__
    if not isinstance(table, Table):
        raise TypeError(model)
    return table


def _text(statement: ClauseElement, dialect: Dialect) -> str:
    return str(statement.compile(dialect=dialect))
