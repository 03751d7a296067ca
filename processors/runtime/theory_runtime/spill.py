"""Frames of a run that left memory, in files without a name: the newest of them, up to a cap."""

import os
import sys
import tempfile
from array import array
from pathlib import Path
from typing import BinaryIO, Final

SPILL_BYTES: Final = 64 * 1024 * 1024
SPILL_FRAMES: Final = 1 << 19
"""Most frames on disk; each costs eight bytes of memory."""


class _Segment:
    """One file of frames that follow each other."""

    def __init__(self, file: BinaryIO, first: int) -> None:
        self.file = file
        self.first = first
        self.ends = array("Q")

    @property
    def size(self) -> int:
        return self.ends[-1] if self.ends else 0

    @property
    def last(self) -> int:
        return self.first + len(self.ends) - 1

    def write(self, text: bytes) -> None:
        end = self.size + len(text)
        # A disk that is full takes a part and says how much: what is there counts, or nothing.
        if os.pwrite(self.file.fileno(), text, self.size) != len(text):
            raise OSError
        self.ends.append(end)

    def read(self, seq: int) -> bytes:
        place = seq - self.first
        begin = self.ends[place - 1] if place else 0
        return os.pread(self.file.fileno(), self.ends[place] - begin, begin)


class Spill:
    """Keeps at least the newest half of its cap.

    Two files take turns, each half the cap; the older is dropped when the newer is full. A disk
    that fails loses frames, never a run: what cannot be read back is gone like what was dropped.
    The files have no name, so that nothing of them outlives this process.
    """

    def __init__(
        self, folder: Path, *, size_bytes: int = SPILL_BYTES, frames: int = SPILL_FRAMES
    ) -> None:
        self._folder = folder
        self._most_bytes = size_bytes // 2
        self._most_frames = frames // 2
        self._segments: list[_Segment] = []
        self._complained = False

    def push(self, seq: int, text: bytes) -> None:
        """Take the frame that follows the last one pushed."""
        try:
            self._room(seq, len(text)).write(text)
        except OSError as error:
            self.close()
            if not self._complained:
                self._complained = True
                sys.stderr.write(f"frames cannot be kept on disk: {error.strerror}\n")

    def after(self, seq: int) -> tuple[int, bytes] | None:
        """Number and text of the first frame kept after a number, or None if there is none."""
        for segment in self._segments:
            if segment.last > seq:
                found = max(seq + 1, segment.first)
                try:
                    return found, segment.read(found)
                except OSError:
                    self.close()
                    return None
        return None

    def close(self) -> None:
        """Forget everything."""
        while self._segments:
            self._segments.pop().file.close()

    def _room(self, seq: int, size: int) -> _Segment:
        newest = self._segments[-1] if self._segments else None
        if newest is not None and newest.last + 1 != seq:
            self.close()
            newest = None
        if newest is None or (
            newest.ends
            and (newest.size + size > self._most_bytes or len(newest.ends) >= self._most_frames)
        ):
            file = tempfile.TemporaryFile(dir=self._folder, buffering=0)  # noqa: SIM115 - kept
            newest = _Segment(file, seq)
            self._segments.append(newest)
        while len(self._segments) > 2:  # noqa: PLR2004 - two take turns
            self._segments.pop(0).file.close()
        return newest
