"""Content-addressed bytes in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path
from typing import Final

from theory_api.ports.artifacts import Blob
from theory_core import TheoryError, digest

_PIECE: Final = 1024 * 1024
_MAX_GET: Final = 8 * 1024 * 1024


class MemoryArtifacts:
    """Implements `theory_api.ports.artifacts.ArtifactStore`; what it has is open to tests."""

    def __init__(self) -> None:
        self.blobs: dict[str, bytes] = {}
        self.free = 1 << 40

    async def put(self, data: bytes) -> Blob:
        """Store `data`."""
        cid = digest(data)
        self.blobs[cid] = bytes(data)
        return Blob(cid, len(data))

    async def put_stream(self, chunks: AsyncIterator[bytes], *, max_bytes: int) -> Blob:
        """Store a stream; nothing is visible unless all of it arrived."""
        data = bytearray()
        async for chunk in chunks:
            data += chunk
            if len(data) > max_bytes:
                message = f"more than the {max_bytes} bytes that are allowed"
                raise TheoryError("ERR_TOO_LARGE", message, {"max_bytes": max_bytes})
        return await self.put(bytes(data))

    async def get(self, cid: str, *, max_bytes: int = _MAX_GET) -> bytes:
        """All bytes, verified."""
        data = self._data(cid)
        if len(data) > max_bytes:
            message = f"the artifact has {len(data)} bytes, more than the {max_bytes} asked for"
            raise TheoryError("ERR_TOO_LARGE", message, {"size_bytes": len(data)})
        return _verified(cid, data)

    async def stream(
        self, cid: str, *, offset: int = 0, length: int | None = None
    ) -> AsyncGenerator[bytes, None]:
        """Bytes in pieces; a whole read is verified before its last piece is handed out."""
        if offset < 0 or (length is not None and length < 0):
            raise TheoryError("ERR_INPUTS", "a range has no negative numbers", {"reason": "range"})
        data = self._data(cid)
        end = len(data) if length is None else min(len(data), offset + length)
        if offset == 0 and end == len(data):
            _verified(cid, data)
        for start in range(offset, end, _PIECE):
            yield data[start : min(end, start + _PIECE)]

    async def stat(self, cid: str) -> Blob | None:
        """Size of a stored blob, or None."""
        data = self.blobs.get(cid)
        return None if data is None else Blob(cid, len(data))

    async def copy_to(self, cid: str, target: str) -> None:
        """Write the verified bytes to a file of the caller; its folder is made."""
        await asyncio.to_thread(_write, Path(target), _verified(cid, self._data(cid)))

    async def free_bytes(self) -> int:
        """What tests say."""
        return self.free

    def _data(self, cid: str) -> bytes:
        data = self.blobs.get(cid)
        if data is None:
            raise TheoryError("ERR_NOT_FOUND", "no artifact has this digest", {"cid": cid[:80]})
        return data


def _write(path: Path, data: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    except OSError as error:
        raise TheoryError("ERR_STORAGE", "storage unavailable: the copy failed") from error


def _verified(cid: str, data: bytes) -> bytes:
    if digest(data) != cid:
        message = "the stored bytes of an artifact no longer match its digest"
        raise TheoryError("ERR_ARTIFACT_DIGEST", message, {"cid": cid})
    return data
