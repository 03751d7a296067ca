"""Reads an event stream, piece by piece, within bounds."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final

from theory_api.adapters.run_v1.calling import coded
from theory_core import LIMITS

ROOM_BYTES: Final = 1024
"""What an event needs around its data."""


@dataclass(frozen=True, slots=True)
class Told:
    """One event of a stream."""

    name: str
    number: str
    """Its id; empty without one."""
    data: bytes


class EventReader:
    """Takes bytes as they come and gives the events that are whole.

    Lines end in LF, CRLF or CR; comments and unknown fields are left out. Law: what is kept of an
    event never passes a frame's largest size.
    """

    def __init__(self, *, size_bytes: int = LIMITS["frame_bytes"] + ROOM_BYTES) -> None:
        self._most = size_bytes
        self._line: list[bytes] = []
        self._line_size = 0
        self._name = ""
        self._number = ""
        self._data: list[bytes] = []
        self._size = 0
        self._after_cr = False

    def feed(self, piece: bytes) -> list[Told]:
        """The events that the piece completes.

        Raises `TheoryError`: `ERR_TOO_LARGE`, `ERR_ADAPTER_INVOCATION` for text that is no UTF-8.
        """
        if self._after_cr and piece:
            # The rest of a CRLF that was cut in two.
            piece = piece.removeprefix(b"\n")
            self._after_cr = False
        self._after_cr = piece.endswith(b"\r")
        *whole, rest = piece.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        if whole:
            # Law: bytes are looked at once, and joined once; a long line costs what it weighs.
            whole[0] = b"".join((*self._line, whole[0]))
            self._line, self._line_size = [], 0
        self._line.append(rest)
        self._line_size += len(rest)
        found = [told for line in whole if (told := self._take(line)) is not None]
        if self._line_size + self._size > self._most:
            raise coded("ERR_TOO_LARGE", "event")
        return found

    def _take(self, line: bytes) -> Told | None:
        if line:
            self._field(line)
            return None
        if not self._data and not self._name:
            return None
        told = Told(self._name or "message", self._number, b"\n".join(self._data))
        self._name, self._number, self._data, self._size = "", "", [], 0
        return told

    def _field(self, line: bytes) -> None:
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            self._data.append(value)
            self._size += len(value)
            if self._size > self._most:
                raise coded("ERR_TOO_LARGE", "event")
        elif name in {b"event", b"id"}:
            try:
                text = value[:ROOM_BYTES].decode("ascii")
            except UnicodeDecodeError as error:
                raise coded("ERR_ADAPTER_INVOCATION", "event") from error
            if name == b"event":
                self._name = text
            else:
                self._number = text


async def events(pieces: AsyncIterator[bytes]) -> AsyncIterator[Told]:
    """All events of a stream; one that is cut off is left out."""
    reader = EventReader()
    async for piece in pieces:
        for told in reader.feed(piece):
            yield told
