"""Streams of this process: the newest frames in memory, older ones spilled to files."""

from __future__ import annotations

import asyncio
import itertools
from collections import OrderedDict, deque
from collections.abc import AsyncGenerator, Mapping
from pathlib import Path
from typing import Any, Final

from theory_api.adapters.memory.spill import SPILL_BYTES, Numbered, Spill
from theory_core import TheoryError, encode_frame

KEPT_FRAMES: Final = 2048
KEPT_BYTES: Final = 512 * 1024
"""What of one stream stays in memory; as much again may be on its way to disk."""
BEHIND_FRAMES: Final = 16_384
"""A watcher that had caught up and is further behind than this goes on with what is in memory."""
KEPT_STREAMS: Final = 32
"""Ended streams that can still be watched."""

_HANDED_ON: Final = frozenset({"Token", "Frame", "Log", "Event"})
_TAKEN: Final = 64
"""Frames that a watcher takes at once from memory."""


class _Stream:
    """The frames of one execution, in order; the newest one never leaves memory."""

    def __init__(self, spill: Spill) -> None:
        self.last = 0
        self.ended = False
        self.dropped = False
        self.spill = spill
        self.news = asyncio.Event()
        self.spilling: asyncio.Task[None] | None = None
        self._kept: deque[Numbered] = deque()
        self._size = 0

    def add(self, number: int, text: bytes) -> None:
        """Keep a frame and wake whoever waits for it."""
        self.last = number
        self._kept.append((number, text))
        self._size += len(text)
        # A disk slower than the run: what it could not take in time is gone.
        while self._is_over(2):
            self._drop_oldest()
        if self._is_over(1) and self.spilling is None:
            self.spilling = asyncio.create_task(self._spill_oldest())
        self.wake()

    def wake(self) -> None:
        """Let every watcher look again."""
        news, self.news = self.news, asyncio.Event()
        news.set()

    @property
    def first(self) -> int:
        """Number of the oldest frame in memory, or of the one to come."""
        return self._kept[0][0] if self._kept else self.last + 1

    def after(self, number: int) -> list[Numbered]:
        """The first frames in memory above a number, a few at once."""
        place = max(0, number + 1 - self.first)
        # Numbers may have holes, so that the frame may lie before its place, never behind.
        place = min(place, len(self._kept))
        while place and self._kept[place - 1][0] > number:
            place -= 1
        last = min(place + _TAKEN, len(self._kept))
        return [self._kept[index] for index in range(place, last)]

    async def _spill_oldest(self) -> None:
        """Write what is too much for memory; it leaves memory once it can be read from disk."""
        while self._is_over(1):
            batch = list(itertools.islice(self._kept, max(1, len(self._kept) // 4)))
            await asyncio.to_thread(self.spill.write, batch)
            while self.first <= batch[-1][0] and len(self._kept) > 1:
                self._drop_oldest()
        self.spilling = None

    def _is_over(self, times: int) -> bool:
        many = len(self._kept) > times * KEPT_FRAMES or self._size > times * KEPT_BYTES
        return many and len(self._kept) > 1

    def _drop_oldest(self) -> None:
        self._size -= len(self._kept.popleft()[1])


class MemoryStreams:
    """Implements `theory_api.ports.stream_bus.StreamBus` within one event loop.

    Files without a name in `folder` take what memory does not keep, `spill_bytes` a stream.
    """

    def __init__(self, folder: Path, *, spill_bytes: int = SPILL_BYTES) -> None:
        self._folder = folder
        self._spill_bytes = spill_bytes
        self._streams: dict[str, _Stream] = {}
        self._ended: OrderedDict[str, None] = OrderedDict()

    def open(self, execution_id: str) -> None:
        """Begin a stream, in the place of one that is there."""
        self.drop(execution_id)
        spill = Spill(self._folder, size_bytes=self._spill_bytes)
        self._streams[execution_id] = _Stream(spill)

    def publish(self, execution_id: str, frame: Mapping[str, Any]) -> None:
        """Hand on a frame; one that nobody can watch is passed over."""
        stream, number = self._streams.get(execution_id), frame["seq"]
        if stream is None or stream.ended or frame["kind"] not in _HANDED_ON:
            return
        if number > stream.last:
            stream.add(number, encode_frame(frame["kind"], frame["content"], seq=number))

    def finish(self, execution_id: str, envelope: bytes) -> None:
        """End a stream with the envelope as it is stored."""
        if execution_id not in self._streams:
            self.open(execution_id)
        stream = self._streams[execution_id]
        if stream.ended:
            return
        number = stream.last + 1
        stream.ended = True
        stream.add(number, _result(envelope, number))
        self._ended[execution_id] = None
        while len(self._ended) > KEPT_STREAMS:
            oldest, _ = self._ended.popitem(last=False)
            self._streams.pop(oldest).spill.close()

    def drop(self, execution_id: str) -> None:
        """Forget a stream; whoever watches it is told."""
        self._ended.pop(execution_id, None)
        stream = self._streams.pop(execution_id, None)
        if stream is not None:
            stream.dropped = True
            stream.spill.close()
            stream.wake()

    async def watch(self, execution_id: str, *, after: int = 0) -> AsyncGenerator[bytes]:
        """The frames above `after` to the last one, every hole announced."""
        stream = self._streams.get(execution_id)
        if stream is None:
            raise TheoryError("ERR_NOT_FOUND", "no frames of this execution are kept", {})
        if after > stream.last:
            detail = {"reason": "resume_from", "last": stream.last}
            raise TheoryError("ERR_INPUTS", "the stream has no frame of that number yet", detail)
        seen, caught_up = after, False
        while not stream.dropped:
            if seen >= stream.last:
                if stream.ended:
                    return
                caught_up = True
                await stream.news.wait()
                continue
            if caught_up and stream.last - seen > BEHIND_FRAMES:
                frames = stream.after(seen)
            else:
                frames = await _oldest(stream, seen)
            for number, text in frames:
                if number > seen + 1:
                    yield encode_frame("Gap", {"from": seen + 1, "to": number - 1}, seq=0)
                yield text
                seen = number
        raise TheoryError("ERR_UNAVAILABLE", "the stream ended without a result", {})

    async def close(self) -> None:
        """Drop all streams and wait for what is being written."""
        spilling = [one.spilling for one in self._streams.values() if one.spilling is not None]
        for execution_id in list(self._streams):
            self.drop(execution_id)
        await asyncio.gather(*spilling)


async def _oldest(stream: _Stream, seen: int) -> list[Numbered]:
    """The first frames above a number that are kept anywhere."""
    while seen + 1 < (first := stream.first):
        found = await asyncio.to_thread(stream.spill.read, seen)
        # What left memory in the meantime is on disk by now: that is looked at once more.
        if found or stream.first == first:
            return found or stream.after(seen)
    return stream.after(seen)


def _result(envelope: bytes, number: int) -> bytes:
    """A canonical `RunResult` that holds the stored bytes themselves."""
    return b'{"content":' + envelope + b',"kind":"RunResult","seq":%d}' % number
