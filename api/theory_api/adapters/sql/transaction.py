"""What one append does to the database, from BEGIN to COMMIT, in the connection's own thread."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence

from theory_api.adapters.sql.faults import refused, unavailable
from theory_api.adapters.sql.rows import Row, Rows
from theory_api.adapters.sql.statements import BEGIN, COMMIT, ROLLBACK, Statements
from theory_core import TheoryError


class DoubtfulError(Exception):
    """The database did not say whether it committed: the connection must go, the truth be read."""


Work = Callable[[sqlite3.Connection], None]
"""What happens between BEGIN and COMMIT; it raises to have all of it undone."""


def transact(connection: sqlite3.Connection, work: Work) -> None:
    """Do `work` in a transaction of its own, all or nothing.

    Raises `TheoryError` as `refused` and `unavailable` say, with nothing written; `DoubtfulError`
    when that is not certain.
    """
    try:
        connection.execute(BEGIN)
    except sqlite3.Error as error:
        _undo(connection, error)
        raise unavailable(error) from error
    try:
        work(connection)
    except sqlite3.IntegrityError as error:
        _undo(connection, error)
        raise refused(error) from error
    except sqlite3.Error as error:
        _undo(connection, error)
        raise unavailable(error) from error
    except BaseException as error:
        _undo(connection, error)
        raise
    try:
        connection.execute(COMMIT)
    except sqlite3.Error as error:
        raise DoubtfulError from error


def _undo(connection: sqlite3.Connection, cause: BaseException) -> None:
    """Some faults have rolled back already; a connection that cannot is of no more use."""
    if not connection.in_transaction:
        return
    try:
        connection.execute(ROLLBACK)
    except sqlite3.Error:
        raise DoubtfulError from cause


def fence(connection: sqlite3.Connection, say: Statements, shard: str, epoch: int) -> None:
    """Refuse a writer whose epoch is over: `ERR_NOT_WRITER`."""
    found = connection.execute(say.read_shard, {"old_id": shard}).fetchone()
    if found is None or found[0] != epoch or found[1] is None:
        message = "another process has become the writer"
        detail = {"shard": shard, "epoch": epoch, "current": None if found is None else found[0]}
        raise TheoryError("ERR_NOT_WRITER", message, detail)


def write(connection: sqlite3.Connection, say: Statements, rows: Rows) -> None:
    """Everything of a batch. Law: a head that is not the expected one undoes the whole batch."""
    _insert(connection, say.insert_plan, rows.new_plans)
    if _count(connection, say.patch_plan, rows.moved_plans) != len(rows.moved_plans):
        raise _moved(connection, say, rows)
    _insert(connection, say.insert_event, rows.events)
    write_projections(connection, say, rows)
    _insert(connection, say.insert_idempotency, rows.requests)


def write_projections(connection: sqlite3.Connection, say: Statements, rows: Rows) -> None:
    """Everything but events, heads and requests."""
    _insert(connection, say.put_limit, rows.limits)
    _insert(connection, say.open_balance, rows.balances)
    if _count(connection, say.move_balance, rows.moves) != len(rows.moves):
        message = "budget exceeded: the database refused to move a balance; nothing was written"
        raise TheoryError("ERR_BUDGET_EXCEEDED", message, {"plans": _plans(rows.moves)})
    _insert(connection, say.put_transition, rows.transitions)
    _all(connection, say.patch_transition, rows.transition_patches)
    _insert(connection, say.put_execution, rows.executions)
    _all(connection, say.patch_execution, rows.execution_patches)
    _insert(connection, say.put_artifact, rows.artifacts)
    _insert(connection, say.drop_artifact, rows.erased)


def _insert(connection: sqlite3.Connection, statement: str, rows: Sequence[Row]) -> None:
    if rows:
        connection.executemany(statement, rows)


def _count(connection: sqlite3.Connection, statement: str, rows: Sequence[Row]) -> int:
    """How many rows the statement changed over all of `rows`."""
    return connection.executemany(statement, rows).rowcount if rows else 0


def _all(connection: sqlite3.Connection, statement: str, rows: Sequence[Row]) -> None:
    if _count(connection, statement, rows) != len(rows):
        message = "a projected row is missing; the projections must be rebuilt from the ledger"
        raise TheoryError("ERR_CONFLICT", message, {"plans": _plans(rows)})


def _moved(connection: sqlite3.Connection, say: Statements, rows: Rows) -> TheoryError:
    """Which head is not the expected one; a head with our hash is one that we just wrote."""
    detail: dict[str, object] = {"plans": _plans(rows.moved_plans)}
    for row in rows.moved_plans:
        found = connection.execute(say.read_head, {"old_plan": row["old_plan"]}).fetchone()
        if found is None or found[1] != row["head_hash"]:
            head = 0 if found is None else found[0]
            detail = {"plan": row["old_plan"], "expected": row["old_head_seq"], "head": head}
            break
    return TheoryError("ERR_CONFLICT", "a plan's head is not the expected one", detail)


def _plans(rows: Sequence[Row]) -> str:
    return ", ".join(sorted({row["old_plan"] for row in rows})[:4])
