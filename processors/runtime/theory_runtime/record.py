"""The numbered frames of one run, the newest of them kept for whoever attaches or reads slowly."""

import asyncio
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from theory_core import encode_frame

KEPT_FRAMES: Final = 8192
KEPT_BYTES: Final = 32 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Numbered:
    """A frame as it is sent."""

    seq: int
    text: bytes
    final: bool


class Record:
    """Law: nobody who reads holds up a run; what a reader missed is gone, and announced.

    Frames are numbered from 1. The last one, the result, is never dropped.
    """

    def __init__(self, *, frames: int = KEPT_FRAMES, size_bytes: int = KEPT_BYTES) -> None:
        self.last = 0
        self.done = False
        self._most_frames = frames
        self._most_bytes = size_bytes
        self._kept: deque[Numbered] = deque()
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
        return self._kept[max(0, seq + 1 - self._kept[0].seq)]

    async def news(self, seq: int) -> Numbered:
        """As `after`, once there is one."""
        while (frame := self.after(seq)) is None:
            await self._news.wait()
        return frame

    def _keep(self, text: bytes, *, final: bool) -> None:
        if self.done:
            return
        self.last += 1
        self._kept.append(Numbered(self.last, text, final))
        self._size += len(text)
        while len(self._kept) > 1 and (
            len(self._kept) > self._most_frames or self._size > self._most_bytes
        ):
            self._size -= len(self._kept.popleft().text)
        news, self._news = self._news, asyncio.Event()
        news.set()
