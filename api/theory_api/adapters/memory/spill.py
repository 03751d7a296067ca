"""Frames that left memory, in files without a name: the newest of them, up to a cap."""

from __future__ import annotations

import os
import tempfile
import threading
from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO, Final

SPILL_BYTES: Final = 16 * 1024 * 1024
PAGE_BYTES: Final = 256 * 1024
"""What one reading takes, unless a single frame is larger."""

Numbered = tuple[int, bytes]
"""Number and text of a frame."""


class _Segment:
    """One file of frames in order."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.numbers = array("Q")
        self.ends = array("Q")

    @property
    def size(self) -> int:
        return self.ends[-1] if self.ends else 0

    def write(self, frames: Sequence[Numbered]) -> None:
        at = self.size
        data = b"".join(text for _, text in frames)
        if os.pwrite(self.file.fileno(), data, at) != len(data):
            raise OSError
        for number, text in frames:
            at += len(text)
            self.numbers.append(number)
            self.ends.append(at)

    def read(self, after: int) -> list[Numbered]:
        first = _first_above(self.numbers, after)
        begin = at = self.ends[first - 1] if first else 0
        last = first
        while last < len(self.ends) and (last == first or self.ends[last] - begin <= PAGE_BYTES):
            last += 1
        data = os.pread(self.file.fileno(), self.ends[last - 1] - begin, begin)
        found = []
        for place in range(first, last):
            end = self.ends[place]
            found.append((self.numbers[place], data[at - begin : end - begin]))
            at = end
        return found


class Spill:
    """Keeps at least the newest half of its cap; every call may block, and any thread may call.

    Two files take turns; the older is dropped when the newer is full. A disk that fails loses
    frames, never more: what cannot be read back is gone like what was dropped.
    """

    def __init__(self, folder: Path, *, size_bytes: int = SPILL_BYTES) -> None:
        self._folder = folder
        self._most_bytes = size_bytes // 2
        self._lock = threading.Lock()
        self._segments: list[_Segment] = []
        self._closed = False

    def write(self, frames: Sequence[Numbered]) -> None:
        """Take frames that follow those written before."""
        with self._lock:
            try:
                if not self._closed:
                    self._room(sum(len(text) for _, text in frames)).write(frames)
            except OSError:
                self._forget()

    def read(self, after: int) -> list[Numbered]:
        """The first frames above a number, as many as one page holds; none if there are none."""
        with self._lock:
            for segment in self._segments:
                if segment.numbers and segment.numbers[-1] > after:
                    try:
                        return segment.read(after)
                    except OSError:
                        self._forget()
                        break
        return []

    def close(self) -> None:
        """Forget everything, for good."""
        with self._lock:
            self._closed = True
            self._forget()

    def _forget(self) -> None:
        while self._segments:
            self._segments.pop().file.close()

    def _room(self, size: int) -> _Segment:
        newest = self._segments[-1] if self._segments else None
        if newest is None or (newest.ends and newest.size + size > self._most_bytes):
            file = tempfile.TemporaryFile(dir=self._folder, buffering=0)  # noqa: SIM115 - kept
            newest = _Segment(file)
            self._segments.append(newest)
        while len(self._segments) > 2:  # noqa: PLR2004 - two take turns
            self._segments.pop(0).file.close()
        return newest


def _first_above(numbers: Sequence[int], after: int) -> int:
    """Place of the first number above another, in a sorted sequence."""
    low, high = 0, len(numbers)
    while low < high:
        middle = (low + high) // 2
        if numbers[middle] > after:
            high = middle
        else:
            low = middle + 1
    return low
