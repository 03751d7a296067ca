"""Which shard a plan lives on, and how many of them one scheduler should own."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from theory_core import digest

ONE: Final = ("main",)
"""The shards of a ledger that only one process at a time can write."""

_PREFIX: Final = len("b3:")
_DIGITS: Final = 16


@dataclass(frozen=True, slots=True)
class Served:
    """What this process serves, and what it could not."""

    shards: tuple[str, ...]
    faults: Mapping[str, str] = field(default_factory=dict)
    """Shard -> code of what last kept this process from serving it."""
    aside: int = 0
    """Plans of these shards that are refused, as their ledgers are not what was written."""
    verified_age_s: float | None = None
    """Since all ledgers of these shards were verified from their first bytes; None before."""


def shards(count: int) -> tuple[str, ...]:
    """The names of so many shards; they are the ledger's for good."""
    return ONE if count == 1 else tuple(f"s{number}" for number in range(count))


def shard_of(plan: str, names: Sequence[str]) -> str:
    """The shard of a plan: the first 64 bits of its path's digest, modulo their number."""
    return names[_number(plan) % len(names)]


def share(count: int, owner: str, members: Collection[str], *, resident: bool) -> int:
    """How many of `count` shards an owner should have, seen who else is alive.

    Law: the shares of all residents cover every shard. A process that is there for one command
    only takes none that residents can take.
    """
    residents = len({*members, owner} if resident else members)
    if not resident:
        return 0 if residents else count
    return -(-count // residents)


def preference(names: Sequence[str], owner: str) -> list[str]:
    """The shards in an order of the owner's own, so that two owners seldom ask for one at once."""
    return sorted(names, key=lambda name: digest(f"{owner} {name}".encode()))


def jitter(owner: str, turn: int) -> float:
    """A number from 0.75 to 1.25 that differs between owners and turns."""
    return 0.75 + _number(f"{owner} {turn}") % 1000 / 2000


def _number(text: str) -> int:
    return int(digest(text.encode())[_PREFIX : _PREFIX + _DIGITS], 16)
