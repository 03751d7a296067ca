"""Where the bytes of one execution come in and go out, confined to what it declared."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class InputArtifact:
    """An artifact that an execution declared as input."""

    path: str
    """Plan-relative canonical WorldPath."""
    cid: str
    size_bytes: int
    mime: str


@dataclass(frozen=True, slots=True)
class Received:
    """An object that arrived: stored, re-read and digested by the orchestrator."""

    relpath: str
    """Below the write prefix, canonical: `outputs/…`, `outputs.json` or `receipt.json`."""
    cid: str
    size_bytes: int
    mime: str


class Intakes(Protocol):
    """The doors of executions, opened by the runner and used by gateways.

    Law: after `close` nothing more arrives. An object once received never changes.
    """

    async def open(
        self,
        execution_id: str,
        *,
        plan: str,
        write_prefix: str,
        inputs: Sequence[InputArtifact],
        max_bytes: int,
    ) -> None:
        """Begin; drops what an earlier, unfinished opening of the same id received."""

    async def put(
        self, execution_id: str, relpath: str, chunks: AsyncIterator[bytes], *, mime: str
    ) -> Received:
        """Store one object under the write prefix, put-if-absent.

        The same bytes again answer the same. Raises `TheoryError`: `ERR_OUTPUT_PREFIX` (outside
        the prefix, bad relpath), `ERR_OUTPUT_DUPLICATE` (same canonical path, other bytes, or
        one path above the other), `ERR_TOO_LARGE`, `ERR_UPLOAD` (closed, unknown execution, or
        after `outputs.json`; only `receipt.json` may follow the index), `ERR_STORAGE`.
        """

    def read_input(self, execution_id: str, cid: str) -> AsyncIterator[bytes]:
        """Stream a declared input, verified; `ERR_NOT_FOUND` for anything not declared."""

    def received(self, execution_id: str) -> tuple[Received, ...]:
        """All objects so far, sorted by relpath."""

    async def close(self, execution_id: str) -> tuple[Received, ...]:
        """End the intake and return what it holds; idempotent."""
