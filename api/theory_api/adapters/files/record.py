"""The records that journals and packs are made of.

A record is a header and a body. The header is the mark `tjr1`, a kind (`b` blob, `n` note, `x` note
dropped), the sizes of name and body, and the BLAKE3 of everything else; so a record counts exactly
if all of it is there.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Final

from theory_core import digest

BLOB: Final = b"b"
NOTE: Final = b"n"
DROP: Final = b"x"

MARK: Final = b"tjr1"
_HEADER: Final = struct.Struct("<4scHI32s")
_WINDOW: Final = 1024 * 1024

Read = Callable[[int, int], bytes]
"""So many bytes, from a place on."""


@dataclass(frozen=True, slots=True)
class Record:
    """One entry: a blob is named by its cid, a note by its execution."""

    kind: bytes
    name: str
    body: bytes = b""

    def encode(self) -> bytes:
        """Header, name and body."""
        name = self.name.encode()
        head = _HEADER.pack(MARK, self.kind, len(name), len(self.body), bytes(32))
        seal = bytes.fromhex(digest(head + name + self.body)[3:])
        return head[:-32] + seal + name + self.body


def scan(read: Read, place: int, end: int) -> Iterator[tuple[Record, int]]:
    """The records between two places, each with the place of its end, up to one that is not whole.

    The rest of a journal was never answered, or is being written.
    """
    while place + _HEADER.size <= end:
        head = read(_HEADER.size, place)
        mark, kind, named, sized, seal = _HEADER.unpack(head)
        place += _HEADER.size
        if mark != MARK or place + named + sized > end:
            return
        rest = read(named + sized, place)
        if digest(head[:-32] + bytes(32) + rest) != f"b3:{seal.hex()}":
            return
        place += len(rest)
        yield Record(kind, rest[:named].decode(), rest[named:]), place


def records(data: bytes) -> Iterator[Record]:
    """The records in `data` up to the first that is not whole."""
    read = partial(sliced, data)
    return (record for record, _ in scan(read, 0, len(data)))


def salvaged(read: Read, end: int) -> Iterator[tuple[Record, int]]:
    """As `scan` from the beginning, and the whole records behind each one that is not.

    A finished file has no torn end: what is not whole was damaged, and what follows it was not.
    """
    place = 0
    while place < end:
        for found in scan(read, place, end):
            yield found
            place = found[1]
        place = _next_mark(read, place + 1, end)


def sliced(data: bytes, size: int, place: int) -> bytes:
    """Reads bytes in memory."""
    return data[place : place + size]


def _next_mark(read: Read, place: int, end: int) -> int:
    while place < end:
        window = read(min(_WINDOW, end - place), place)
        found = window.find(MARK)
        if found >= 0:
            return place + found
        place += max(len(window) - len(MARK) + 1, 1)
    return end
