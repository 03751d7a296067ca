"""The frames of running executions, for any number of those who watch."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from typing import Any, Protocol


class StreamBus(Protocol):
    """Hands the frames of a run on to its watchers; no part of truth.

    Law: nobody who watches holds up whoever publishes, and the last frame of a stream is never
    lost. What else a watcher missed is announced to it by a `Gap` (spec: run.v1). May: forget
    frames beyond a bound, and streams some time after their end.
    """

    def open(self, execution_id: str) -> None:
        """Begin a stream; one of the same name that has not ended is ended with `drop`."""

    def publish(self, execution_id: str, frame: Mapping[str, Any]) -> None:
        """Hand on a server frame of the run; never waits.

        Frames come with growing numbers; a hole among them becomes a `Gap`. What belongs to a
        connection (`Ack`, `Gap`), the run's own `RunResult`, and what comes without a stream or
        after its end is passed over.
        """

    def finish(self, execution_id: str, envelope: bytes) -> None:
        """End a stream. Law: its last frame is a `RunResult` of these bytes, as they are stored.

        Idempotent: the first envelope counts. A stream that was not opened has that frame alone.
        """

    def drop(self, execution_id: str) -> None:
        """Forget a stream; who watches it hears `ERR_UNAVAILABLE`. Idempotent."""

    def watch(self, execution_id: str, *, after: int = 0) -> AsyncGenerator[bytes]:
        """Texts of the frames with a number above `after`, up to the last one.

        Raises `TheoryError`: `ERR_NOT_FOUND` (no such stream, or no longer), `ERR_INPUTS` (`after`
        is beyond the last frame), `ERR_UNAVAILABLE` (dropped while it was watched).
        """

    async def close(self) -> None:
        """Drop all streams."""
