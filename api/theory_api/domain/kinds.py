"""Which event a ledger's line is: the kinds by name, and how stored data is read."""

from __future__ import annotations

from typing import Final

import msgspec

from theory_api.domain import events as ev
from theory_core import TheoryError


def _kinds(base: type[ev.Event]) -> dict[str, type[ev.Event]]:
    found: dict[str, type[ev.Event]] = {}
    for kind in base.__subclasses__():
        found.update(_kinds(kind))
        if kind.KIND:
            found[kind.KIND] = kind
    return found


EVENT_TYPES: Final = _kinds(ev.Event)
"""Kind -> type, for every event that moves a plan."""

OBSERVED: Final = frozenset({"segment.sealed", "checkpoint.published"})
"""Kinds of the ledger that leave a plan's state as it is."""


def from_data(kind: str, data: object) -> ev.Event | None:
    """The event of a stored kind and data; None for a kind that moves no plan.

    Raises `TheoryError` `ERR_CHAIN_BROKEN` for a kind this version does not know, or data that
    does not fit it: an event is refused, never skipped.
    """
    known = EVENT_TYPES.get(kind)
    if known is None:
        if kind in OBSERVED:
            return None
        raise TheoryError("ERR_CHAIN_BROKEN", f"unknown event kind {kind[:64]!r}", {})
    try:
        return msgspec.convert(data, known)
    except msgspec.ValidationError as error:
        message = f"stored data of a {kind} event does not fit its schema"
        raise TheoryError("ERR_CHAIN_BROKEN", message, {"kind": kind}) from error
