"""Which packs become one, and how: there are few of them, and each byte is copied seldom."""

from __future__ import annotations

import heapq
import secrets
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Final, Protocol, TypeVar

from theory_api.adapters.files.index import ENTRY, Index
from theory_api.adapters.files.making import Making
from theory_core import digest

FAN: Final = 8
"""So many packs of about one size become one."""

LARGEST: Final = 128 * 1024 * 1024
"""A pack of so many bytes is not merged any more: a merge makes at most eight times as much."""

_SMALLEST: Final = 64 * 1024
_BITS: Final = 3
"""Sizes are alike within a factor of two to the power of this."""


class Source(Protocol):
    """A pack, for reading."""

    path: Path
    size: int
    index: Index

    def read(self, size: int, place: int) -> bytes:
        """Bytes as they lie there."""


P = TypeVar("P", bound=Source)


class Damaged(Exception):  # noqa: N818 - never leaves this room: a pack stays as it is
    """No pack of those to be merged has the bytes of a digest as they should be."""

    def __init__(self, pack: str, cid: str | None, why: str) -> None:
        """`pack` is the name of one that should have them; None where its index is unreadable."""
        super().__init__(pack, cid, why)
        self.pack = pack
        self.cid = cid
        self.why = why


def chosen(packs: Iterable[P]) -> list[P]:
    """The packs to merge next, the oldest of the smallest that are many, or none.

    `packs` come newest first.
    """
    alike: dict[int, list[P]] = {}
    for pack in packs:
        if pack.size < LARGEST:
            rank = (pack.size // _SMALLEST).bit_length() // _BITS
            alike.setdefault(rank, []).append(pack)
    for _, group in sorted(alike.items()):
        if len(group) >= FAN:
            return group[-FAN:]
    return []


def successor(packs: Sequence[Source]) -> Path:
    """A new name in the place of the newest of these packs, which come newest first."""
    newest = packs[0].path
    age = newest.stem.partition("-")[0]
    return newest.with_name(f"{age}-{secrets.token_hex(8)}{newest.suffix}")


def merging(packs: Sequence[Source], made: Making) -> Iterator[None]:
    """Copy each blob once, in steps; raises `Damaged`, and `OSError` of `made`. It blocks."""
    entries = heapq.merge(*(_numbered(pack, number) for number, pack in enumerate(packs)))
    for wanted, copies in groupby(entries, key=_digest_of):
        cid = f"b3:{wanted.hex()}"
        for item, number in copies:
            data, why = _read(packs[number], item)
            if data is not None and digest(data) == cid:
                if made.add(cid, data):
                    yield
                break
        else:
            raise Damaged(packs[number].path.name, cid, why)


def _numbered(pack: Source, number: int) -> Iterator[tuple[bytes, int]]:
    try:
        for item in pack.index.entries():
            yield item, number
    except OSError as error:
        raise Damaged(pack.path.name, None, str(error)) from error


def _read(pack: Source, item: bytes) -> tuple[bytes | None, str]:
    """What lies where an entry says, or None, and what is wrong with it then or otherwise."""
    _, place, size = ENTRY.unpack(item)
    try:
        return pack.read(size, place), "the bytes do not match"
    except OSError as error:
        return None, str(error)


def _digest_of(found: tuple[bytes, int]) -> bytes:
    return found[0][:32]
