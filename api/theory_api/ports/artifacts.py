"""Content-addressed bytes: what is stored under a cid never changes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Blob:
    """Stored bytes, named by their digest."""

    cid: str
    """`b3:` + 64 hex of the bytes."""
    size_bytes: int


class ArtifactStore(Protocol):
    """Keeps bytes by cid.

    Law: a cid that `put` returned is readable, with exactly its bytes, after a crash.
    No text of a user ever becomes a file name. Raises `TheoryError`: `ERR_STORAGE` (disk full, IO),
    `ERR_ARTIFACT_DIGEST` (stored bytes no longer match their cid), `ERR_NOT_FOUND`,
    `ERR_TOO_LARGE`.
    """

    async def put(self, data: bytes) -> Blob:
        """Store `data`, durable on return; storing it again is a no-op with the same answer."""

    async def put_stream(self, chunks: AsyncIterator[bytes], *, max_bytes: int) -> Blob:
        """Store a stream; nothing is visible unless all of it arrived."""

    async def get(self, cid: str, *, max_bytes: int = 8 * 1024 * 1024) -> bytes:
        """All bytes, verified; `ERR_TOO_LARGE` above `max_bytes`."""

    def stream(
        self, cid: str, *, offset: int = 0, length: int | None = None
    ) -> AsyncIterator[bytes]:
        """Bytes in pieces; a whole read is verified before its last piece is handed out."""

    async def stat(self, cid: str) -> Blob | None:
        """Size of a stored blob, or None."""

    async def copy_to(self, cid: str, target: str) -> None:
        """Write the verified bytes to a file of the caller, atomically."""

    async def free_bytes(self) -> int:
        """How many bytes may still be kept, as it is now: no promise that they can be."""
