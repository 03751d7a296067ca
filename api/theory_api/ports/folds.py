"""Folds of plans, kept so that a start reads a tail instead of a whole ledger."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Fold:
    """A plan's state as of one event. It is a cache: the ledger alone is the truth."""

    plan: str
    seq: int
    """The last event that was folded."""
    hash: str
    """`b3:` digest of that event: in another ledger the fold means nothing."""
    at: str
    """Time of that event."""
    version: str
    """Which program can read `body`; every other one ignores it."""
    body: bytes


class FoldStore(Protocol):
    """At most one fold a plan.

    Law: all of it may vanish or be lost at any time, and nothing but time is lost with it. Nobody
    waits for it: what it cannot do, it says by `TheoryError` `ERR_UNAVAILABLE` or `ERR_STORAGE`.
    """

    async def put(self, folds: Sequence[Fold]) -> None:
        """Keep folds, each in the place of an older one of its plan; a plan occurs once."""

    async def newest(self, plans: Sequence[str]) -> Mapping[str, Fold]:
        """The folds of these plans, as far as there are any."""

    async def drop(self, plans: Sequence[str]) -> None:
        """Forget the folds of these plans; idempotent."""
