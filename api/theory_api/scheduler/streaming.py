"""The streams of a run, digested while their frames are handed on, and sealed when it ends."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from theory_api.domain.naming import names_stream
from theory_api.domain.values import StreamSeal
from theory_core import ERROR_CODES, Hasher, TheoryError

MOST: Final = 256
"""Streams of one run: each is an event of the decision that ends it."""


@dataclass(slots=True)
class _Stream:
    """One stream as it came in so far."""

    hasher: Hasher = field(default_factory=Hasher)
    count: int = 0
    size: int = 0
    broken: bool = False
    """A frame is missing, came twice, was numbered otherwise, or was masked."""
    doubtful: bool = False
    """Frames are gone since its last one; whether any of them were its own says its next one."""


class Streaming:
    """Collects the `Frame`s of one run.

    Law: a stream is sealed if every frame of it came in, numbered from 0 in its order; of one with
    a hole nothing is claimed (spec: run.v1, conduct).
    """

    def __init__(self) -> None:
        self._streams: dict[str, _Stream] = {}

    def frame(self, content: Mapping[str, Any], plan: str) -> None:
        """Take in the content of a `Frame` of a run of `plan`.

        Data in which something was masked is no base64 any more. Raises `TheoryError`:
        `ERR_WS_PROTOCOL` (it names no stream of the plan), `ERR_TOO_LARGE` (one stream too many).
        """
        stream = self._streams.get(content["stream"]) or self._open(content["stream"], plan)
        if stream.broken or content["index"] != stream.count:
            stream.broken = True
            return
        try:
            data = base64.b64decode(content["data"], validate=True)
        except ValueError:
            stream.broken = True
            return
        stream.hasher.update(data)
        stream.count += 1
        stream.size += len(data)
        stream.doubtful = False

    def _open(self, name: str, plan: str) -> _Stream:
        if not names_stream(name, plan):
            raise _refused("ERR_WS_PROTOCOL", "a frame of no stream of its plan")
        if len(self._streams) == MOST:
            raise _refused("ERR_TOO_LARGE", f"more than {MOST} streams")
        stream = self._streams[name] = _Stream()
        return stream

    def gap(self) -> None:
        """Frames of the run are gone, of whatever stream."""
        for stream in self._streams.values():
            stream.doubtful = True

    def sealed(self) -> tuple[StreamSeal, ...]:
        """What is claimed of the streams, ordered by path (bytewise)."""
        return tuple(
            StreamSeal(
                path=path, digest=stream.hasher.digest(), count=stream.count, bytes=stream.size
            )
            for path, stream in sorted(self._streams.items(), key=lambda item: item[0].encode())
            if not (stream.broken or stream.doubtful)
        )

    def unsealed(self) -> int:
        """How many streams nothing is claimed of."""
        return len(self._streams) - len(self.sealed())


def _refused(code: str, reason: str) -> TheoryError:
    return TheoryError(code, f"{ERROR_CODES[code].summary}: {reason}", {})
