"""Cursors of plan lists: opaque to callers, and refused when they are none of ours."""

from __future__ import annotations

import base64
import binascii

from theory_core import TheoryError, WorldPath


def encode(plan: str) -> str:
    """The cursor that continues after `plan`."""
    return base64.urlsafe_b64encode(plan.encode()).decode().rstrip("=")


def decode(cursor: str, *, tenant: str | None) -> str:
    """The plan that a cursor continues after.

    Raises `TheoryError`: `ERR_INPUTS` for a text that is no cursor, `ERR_NOT_FOUND` for one of
    another tenant's list.
    """
    try:
        padded = cursor.encode("ascii") + b"=" * (-len(cursor) % 4)
        plan = base64.b64decode(padded, altchars=b"-_", validate=True).decode()
        path = WorldPath(f"{plan}/plan")
    except (UnicodeError, binascii.Error, TheoryError) as error:
        raise _unknown() from error
    if plan != path.root or encode(plan) != cursor:
        raise _unknown()
    if tenant is not None and path.tenant != tenant:
        raise TheoryError("ERR_NOT_FOUND", "this cursor belongs to another list", {})
    return plan


def _unknown() -> TheoryError:
    message = "after is the next of an earlier page"
    return TheoryError("ERR_INPUTS", message, {"reason": "cursor"})
