"""Where each blob of a pack lies: a sorted file beside the pack, which can be made anew from it.

Entries of 44 bytes, sorted: digest, place of the bytes in the pack, how many. Behind them the mark
`tpi1`, the number of entries, the size of the pack, and the BLAKE3 of everything else.
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from typing import Final

from theory_api.adapters.files.record import Read
from theory_core import Hasher

ENTRY: Final = struct.Struct("<32sQI")
_TRAILER: Final = struct.Struct("<4sQQ32s")
_MARK: Final = b"tpi1"
_STRIDE: Final = 128
"""Entries that a search reads at once; the first digest of so many is kept in memory."""

_PIECE: Final = ENTRY.size * _STRIDE * 128


def entry(cid: str, place: int, size: int) -> bytes:
    """An entry for the bytes of `cid`."""
    return ENTRY.pack(key(cid), place, size)


def key(cid: str) -> bytes:
    """The 32 bytes of a cid, which must be one."""
    return bytes.fromhex(cid[3:])


def encode(entries: Iterable[bytes], pack_size: int) -> bytes:
    """A whole index of unsorted entries; of several of one digest the first."""
    found: dict[bytes, bytes] = {}
    for item in entries:
        found.setdefault(item[:32], item)
    body = b"".join(sorted(found.values()))
    hasher = Hasher()
    hasher.update(body)
    return body + trailer(hasher, len(found), pack_size)


def trailer(hasher: Hasher, count: int, pack_size: int) -> bytes:
    """The end of an index whose entries, sorted, `hasher` was given; it is used up."""
    head = _TRAILER.pack(_MARK, count, pack_size, bytes(32))[:-32]
    hasher.update(head)
    return head + key(hasher.digest())


class Index:
    """A sound index, searched where it lies. Every method blocks and raises `OSError`."""

    def __init__(self, read: Read, count: int, firsts: list[bytes]) -> None:
        """Made by `load`; `firsts` are the digests of every 128th entry."""
        self._read = read
        self.count = count
        self._firsts = firsts

    @classmethod
    def load(cls, read: Read, size: int, pack_size: int) -> Index | None:
        """The index in a file of `size` bytes; None unless it is whole and its pack's."""
        body = size - _TRAILER.size
        if body < 0 or body % ENTRY.size:
            return None
        end = read(_TRAILER.size, body)
        mark, count, told_size, seal = _TRAILER.unpack(end)
        if (mark, count * ENTRY.size, told_size) != (_MARK, body, pack_size):
            return None
        hasher, firsts = Hasher(), list[bytes]()
        for place in range(0, body, _PIECE):
            piece = read(min(_PIECE, body - place), place)
            hasher.update(piece)
            step = ENTRY.size * _STRIDE
            firsts += [piece[at : at + 32] for at in range(0, len(piece), step)]
        hasher.update(end[:-32])
        return cls(read, count, firsts) if key(hasher.digest()) == seal else None

    def find(self, digest: bytes) -> tuple[int, int] | None:
        """Place and size of the bytes with this digest."""
        block = bisect_right(self._firsts, digest) - 1
        if block < 0:
            return None
        begin = block * _STRIDE
        size = ENTRY.size * min(_STRIDE, self.count - begin)
        piece = self._read(size, begin * ENTRY.size)
        at = piece.find(digest)
        while at % ENTRY.size:  # Also where there is none: -1 is no multiple.
            if at < 0:
                return None
            at = piece.find(digest, at + 1)
        _, place, found = ENTRY.unpack_from(piece, at)
        return place, found

    def entries(self) -> Iterator[bytes]:
        """All entries, in their order."""
        body = self.count * ENTRY.size
        for place in range(0, body, _PIECE):
            piece = self._read(min(_PIECE, body - place), place)
            for at in range(0, len(piece), ENTRY.size):
                yield piece[at : at + ENTRY.size]
