"""Errors of a run: a catalogued code, its catalogued sentence, and a validated reason."""

import re
from typing import Any, Final

from theory_core import ERROR_CODES, TheoryError

PROVIDER_CODES: Final = frozenset({"ERR_INPUTS", "ERR_PROVIDER", "ERR_MISSING_SECRET"})
"""What a provider may say of itself; everything else that it raises is `ERR_INTERNAL`."""

_REASON: Final = re.compile(r"[A-Za-z0-9_.:-]{1,120}")


def fault(code: str, reason: str | None = None, **facts: object) -> TheoryError:
    """An error whose message is the catalogue's sentence and, after a colon, the reason."""
    summary = ERROR_CODES[code].summary
    detail: dict[str, Any] = dict(facts) if reason is None else {"reason": reason, **facts}
    return TheoryError(code, summary if reason is None else f"{summary}: {reason}", detail)


def reason_of(error: TheoryError) -> str | None:
    """What an envelope may say beyond the code: a word that cannot carry anybody's data.

    Law: an envelope's message is never the text of an exception (spec: envelope).
    """
    for name in ("reason", "name", "problem", "fact"):
        value = error.detail.get(name)
        if isinstance(value, str) and _REASON.fullmatch(value):
            return value
    return None


def from_provider(error: TheoryError) -> TheoryError:
    """What an error that a provider raised counts as.

    Codes of JSON and paths are faults of its inputs; codes that are not a provider's are internal.
    """
    reason = reason_of(error)
    if error.code in PROVIDER_CODES:
        return fault(error.code, reason)
    if error.code.startswith("ERR_JSON_"):
        return fault("ERR_INPUTS", error.code)
    return fault("ERR_INTERNAL", reason)
