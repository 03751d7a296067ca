"""The database's errors as the project's: the one place where they are translated."""

from __future__ import annotations

import sqlite3

from theory_core import TheoryError


def unavailable(error: BaseException) -> TheoryError:
    """`ERR_UNAVAILABLE` with the database's own name of the fault, e.g. `SQLITE_FULL`, `57P01`."""
    own = getattr(error, "sqlite_errorname", None) or getattr(error, "sqlstate", None)
    name = own or type(error).__name__
    return TheoryError("ERR_UNAVAILABLE", f"the database refused: {name}", {"reason": name})


def refused(error: sqlite3.IntegrityError) -> TheoryError:
    """A row that the database would not take.

    `ERR_BUDGET_EXCEEDED` for a balance, `ERR_IDEMPOTENCY_IN_FLIGHT` for a key that another commit
    took, `ERR_CONFLICT` for everything else: the rows are not those that the writer believes in.
    """
    if "ck_balance_" in str(error):
        return TheoryError("ERR_BUDGET_EXCEEDED", "budget exceeded: a balance would be negative")
    if "idempotency.key" in str(error):
        return taken()
    name = getattr(error, "sqlite_errorname", None) or "constraint"
    message = "the database holds other rows than the writer believes"
    return TheoryError("ERR_CONFLICT", message, {"reason": name})


def taken() -> TheoryError:
    """`ERR_IDEMPOTENCY_IN_FLIGHT`: nothing was written, and the key's first answer can be read."""
    message = "another request with this idempotency key was first"
    return TheoryError("ERR_IDEMPOTENCY_IN_FLIGHT", message, {})
