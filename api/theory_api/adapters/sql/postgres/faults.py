"""What PostgreSQL and its driver say, as the project's errors: certain, or in doubt."""

from __future__ import annotations

from typing import Final

import asyncpg

from theory_api.adapters.sql.faults import taken
from theory_core import TheoryError

_GONE: Final = ("08", "57P")
"""Classes of errors after which the session is over: what it had begun may have been committed."""

_AGAIN: Final = frozenset({"40001", "40P01"})
"""Serialization failure, deadlock: the same transaction may pass a moment later."""

_MEANING: Final = {
    "28000": "no such role, or it may not connect from here",
    "28P01": "wrong password",
    "3D000": "no such database",
    "42501": "the role lacks a right on the schema",
    "53300": "too many connections",
    "57P03": "the server is starting or stopping",
    "ConnectionRefusedError": "nobody listens at this address",
    "TimeoutError": "no answer in time",
    "gaierror": "no such host",
}
"""What people who set up a server can put right, in words; PostgreSQL's appendix A names all."""

Unanswered = (
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    OSError,
    EOFError,
    TimeoutError,
)
"""Everything that a connection may raise."""


class DoubtfulError(Exception):
    """The server did not say how it ended: the connection must go, the truth be read."""


def certain(error: BaseException) -> bool:
    """Whether the server itself answered that nothing was done."""
    state = getattr(error, "sqlstate", None)
    return (
        isinstance(error, asyncpg.PostgresError)
        and state is not None
        and not state.startswith(_GONE)
    )


def passing(error: BaseException) -> bool:
    """Whether the same transaction may simply be tried again."""
    return getattr(error, "sqlstate", None) in _AGAIN


def unavailable(error: BaseException) -> TheoryError:
    """`ERR_UNAVAILABLE` with the name of the fault, e.g. `57P01` or `TimeoutError`.

    The name is `reason`; the message has words for it too where there are some.
    """
    name = getattr(error, "sqlstate", None) or type(error).__name__
    meaning = _MEANING.get(name)
    told = name if meaning is None else f"{name}, {meaning}"
    return TheoryError(
        "ERR_UNAVAILABLE", f"the database is not available: {told}", {"reason": name}
    )


def refused(error: BaseException) -> TheoryError:
    """An answer that nothing was done, in the words of the port.

    `ERR_BUDGET_EXCEEDED` for a balance, `ERR_NOT_WRITER` for the fence,
    `ERR_IDEMPOTENCY_IN_FLIGHT` for a key that another commit took, `ERR_CONFLICT` for rows that are
    not those that the writer believes in, `ERR_UNAVAILABLE` for everything else.
    """
    state = str(getattr(error, "sqlstate", ""))
    constraint = str(getattr(error, "constraint_name", "") or "")
    if state == "TH001":
        return TheoryError("ERR_NOT_WRITER", "another process has become the writer")
    if state == "TH003" or constraint.startswith("ck_balance_"):
        message = "budget exceeded: the database refused to move a balance; nothing was written"
        return TheoryError("ERR_BUDGET_EXCEEDED", message)
    if constraint == "pk_idempotency":
        return taken()
    if state == "TH002" or state.startswith("23"):
        message = "the database holds other rows than the writer believes"
        return TheoryError("ERR_CONFLICT", message, {"reason": constraint or state})
    return unavailable(error)
