"""The numbered frames of one run, the newest of them kept for whoever attaches or reads slowly."""

import asyncio
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from theory_core import encode_frame
from theory_runtime.spill import Spill

KEPT_FRAMES: Final = 2048
KEPT_BYTES: Final = 1024 * 1024
"""What stays in memory; what leaves it goes to the spill."""


@dataclass(frozen=True, slots=True)
class Numbered:
    """A frame as it is sent."""

    seq: int
    text: bytes
    final: bool


class Record:
    """Law: nobody who reads holds up a run; what a reader missed is gone, and announced.

    Frames are numbered from 1. The last one, the result, stays in memory and is never dropped.
    Without a `spill`, what leaves memory is gone.
    """

    def __init__(
        self,
        spill: Spill | None = None,
        *,
        frames: int = KEPT_FRAMES,
        size_bytes: int = KEPT_BYTES,
    ) -> None:
        self.last = 0
        self.done = False
        self._most_frames = frames
        self._most_bytes = size_bytes
        self._kept: deque[Numbered] = deque()
        self._spill = spill
        self._size = 0
        self._news = asyncio.Event()

    def add(self, kind: str, content: Mapping[str, Any]) -> None:
        """Number and keep a frame; raises `TheoryError` for content that does not fit its kind."""
        self._keep(encode_frame(kind, content, seq=self.last + 1), final=False)

    def finish(self, envelope: Mapping[str, Any]) -> None:
        """Law: exactly one terminal frame, and nothing after it."""
        if not self.done:
            self._keep(encode_frame("RunResult", envelope, seq=self.last + 1), final=True)
            self.done = True

    def after(self, seq: int) -> Numbered | None:
        """The first frame kept after a number, or None if there is none yet."""
        if not self._kept or self._kept[-1].seq <= seq:
            return None
        due = seq + 1 - self._kept[0].seq
        if due < 0 and self._spill is not None:
            found = self._spill.after(seq)
            if found is not None:
                return Numbered(*found, final=False)
        return self._kept[max(0, due)]

    async def news(self, seq: int) -> Numbered:
        """As `after`, once there is one."""
        while (frame := self.after(seq)) is None:
            await self._news.wait()
        return frame

    def close(self) -> None:
        """Let go of what is on disk."""
        if self._spill is not None:
            self._spill.close()

    def _keep(self, text: bytes, *, final: bool) -> None:
        if self.done:
            return
        self.last += 1
        self._kept.append(Numbered(self.last, text, final))
        self._size += len(text)
        while len(self._kept) > 1 and (
            len(self._kept) > self._most_frames or self._size > self._most_bytes
        ):
            gone = self._kept.popleft()
            self._size -= len(gone.text)
            if self._spill is not None:
                self._spill.push(gone.seq, gone.text)
        news, self._news = self._news, asyncio.Event()
        news.set()
