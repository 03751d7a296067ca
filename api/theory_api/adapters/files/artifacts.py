"""Content-addressed files: bytes whose name is their digest."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final

from theory_api.adapters.files.blocking import in_thread
from theory_api.adapters.files.disk import Disk, part_name, storage, swept, translated
from theory_api.ports.artifacts import Blob
from theory_core import Hasher, TheoryError

CID: Final = re.compile(r"b3:[0-9a-f]{64}")
_PIECE: Final = 1024 * 1024
_MAX_GET: Final = 8 * 1024 * 1024


class FileArtifacts:
    """Implements `theory_api.ports.artifacts.ArtifactStore` in one folder.

    The bytes of `b3:abcdef…` lie in `b3/ab/cdef…`. Unfinished files lie in `parts/`; those
    that a dead process left there are removed by `sweep`.
    """

    def __init__(self, root: Path, *, disk: Disk | None = None) -> None:
        self._root = root
        self._parts = root / "parts"
        self._disk = disk or Disk()

    async def sweep(self) -> int:
        """Remove what was left unfinished a day ago or longer; how many files."""
        return await in_thread(partial(swept, self._parts))

    async def put(self, data: bytes) -> Blob:
        """Store `data`, durable on return."""
        return await in_thread(partial(self._put, data))

    async def put_stream(self, chunks: AsyncIterator[bytes], *, max_bytes: int) -> Blob:
        """Store a stream; nothing is visible unless all of it arrived."""
        part = _Part(self._disk, self._parts)
        try:
            await in_thread(partial(part.begin, self._root))
            waiting = bytearray()
            async for chunk in chunks:
                waiting += chunk
                if part.size + len(waiting) > max_bytes:
                    message = f"more than the {max_bytes} bytes that are allowed"
                    raise TheoryError("ERR_TOO_LARGE", message, {"max_bytes": max_bytes})
                if len(waiting) >= _PIECE:
                    await in_thread(partial(part.write, bytes(waiting)))
                    waiting.clear()
            await in_thread(partial(part.write, bytes(waiting)))
            return await in_thread(partial(self._finish, part))
        finally:
            await in_thread(part.drop)

    async def get(self, cid: str, *, max_bytes: int = _MAX_GET) -> bytes:
        """All bytes, verified."""
        return await in_thread(partial(self._get, cid, max_bytes))

    async def stream(
        self, cid: str, *, offset: int = 0, length: int | None = None
    ) -> AsyncGenerator[bytes, None]:
        """Bytes in pieces; a whole read is verified before its last piece is handed out."""
        if offset < 0 or (length is not None and length < 0):
            raise TheoryError("ERR_INPUTS", "a range has no negative numbers", {"reason": "range"})
        handles: list[int] = []
        try:
            size = await in_thread(partial(self._open_into, handles, cid))
            end = size if length is None else min(size, offset + length)
            whole = offset == 0 and end == size
            hasher = Hasher()
            if whole and size == 0 and hasher.digest() != cid:
                raise rotten(cid)
            while offset < end:
                take = min(_PIECE, end - offset)
                piece = await in_thread(partial(_read, handles[0], take, offset))
                offset += len(piece)
                if whole:
                    hasher.update(piece)
                    if len(piece) < take or (offset == end and hasher.digest() != cid):
                        raise rotten(cid)
                elif not piece:
                    raise rotten(cid)
                yield piece
        finally:
            for handle in handles:
                self._disk.close(handle)

    async def stat(self, cid: str) -> Blob | None:
        """Size of a stored blob, or None."""
        return await in_thread(partial(self._stat, cid))

    async def copy_to(self, cid: str, target: str) -> None:
        """Write the verified bytes to a file of the caller, atomically; its folder is made."""
        await in_thread(partial(self._copy, cid, Path(target)))

    async def free_bytes(self) -> int:
        """What the file system of the folder says."""
        return await in_thread(self._free)

    # Below: blocking, in a thread.

    def held(self, cid: str) -> bool:
        """Whether there is a file for it, whatever its bytes are; it blocks."""
        return self._stat(cid) is not None

    def write_out(self, target: Path, pieces: Iterable[bytes]) -> None:
        """Write bytes to a file of a caller, atomically; its folder is made. It blocks."""
        if target.is_dir():
            raise TheoryError(
                "ERR_STORAGE", "the target of a copy is a folder", {"reason": "EISDIR"}
            )
        with translated():
            target.parent.mkdir(parents=True, exist_ok=True)
        part = _Part(self._disk, target.parent, mode=0o666)
        try:
            part.begin(target.parent)
            for piece in pieces:
                part.write(piece)
            with translated():
                part.sync()
                part.name(target)
        finally:
            part.drop()

    def _free(self) -> int:
        with translated():
            return self._disk.free(self._root)

    def _put(self, data: bytes) -> Blob:
        part = _Part(self._disk, self._parts)
        try:
            part.begin(self._root)
            part.write(data)
            return self._finish(part)
        finally:
            part.drop()

    def _finish(self, part: _Part) -> Blob:
        """Give a part its name, unless its bytes are there already.

        What is there under that name but does not match it is replaced: the part is the truth.
        """
        cid = part.hasher.digest()
        path = self._path(cid)
        with translated():
            part.sync()
            self._disk.make_folder(path.parent, self._root)
            if self._sound(cid, part.size):
                self._disk.sync_folder(path.parent)
            else:
                part.name(path)
        return Blob(cid, part.size)

    def _sound(self, cid: str, size: int) -> bool:
        try:
            handle, found = self._open(cid)
        except TheoryError as error:
            if error.code in {"ERR_NOT_FOUND", "ERR_ARTIFACT_DIGEST"}:
                return False
            raise
        try:
            return found == size and all(True for _ in _verified(handle, cid))
        except TheoryError:
            return False
        finally:
            self._disk.close(handle)

    def _get(self, cid: str, max_bytes: int) -> bytes:
        handle, size = self._open(cid)
        try:
            if size > max_bytes:
                message = f"the artifact has {size} bytes, more than the {max_bytes} asked for"
                raise TheoryError("ERR_TOO_LARGE", message, {"size_bytes": size})
            return b"".join(_verified(handle, cid))
        finally:
            self._disk.close(handle)

    def _stat(self, cid: str) -> Blob | None:
        try:
            handle, size = self._open(cid)
        except TheoryError as error:
            if error.code == "ERR_NOT_FOUND":
                return None
            raise
        self._disk.close(handle)
        return Blob(cid, size)

    def _copy(self, cid: str, target: Path) -> None:
        handle, _ = self._open(cid)
        try:
            self.write_out(target, _verified(handle, cid))
        finally:
            self._disk.close(handle)

    def _open(self, cid: str) -> tuple[int, int]:
        """A handle and the size; `ERR_NOT_FOUND`, `ERR_ARTIFACT_DIGEST` for what is no file."""
        path = self._path(cid)
        try:
            handle = self._disk.open(path)
        except FileNotFoundError as error:
            raise _unknown(cid) from error
        except OSError as error:
            if path.is_symlink():
                raise rotten(cid) from error
            raise storage(error) from error
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            self._disk.close(handle)
            raise rotten(cid)
        return handle, status.st_size

    def _open_into(self, handles: list[int], cid: str) -> int:
        """The size; the handle is the caller's to close, also when the caller is cancelled."""
        handle, size = self._open(cid)
        handles.append(handle)
        return size

    def _path(self, cid: str) -> Path:
        """Law: a file name is made of a checked digest alone."""
        if not CID.fullmatch(cid):
            raise _unknown(cid)
        return self._root / "b3" / cid[3:5] / cid[5:]


class _Part:
    """A file in the making; every method blocks.

    Law: `drop` leaves no trace unless it was named.
    """

    def __init__(self, disk: Disk, folder: Path, *, mode: int = 0o600) -> None:
        self._disk = disk
        self._folder = folder
        self._mode = mode
        self._path: Path | None = None
        self._handle: int | None = None
        self.hasher = Hasher()
        self.size = 0

    def begin(self, root: Path) -> None:
        """Make the file, and its folder below `root`."""
        with translated():
            self._disk.make_folder(self._folder, root)
            path = self._folder / part_name()
            self._handle = self._disk.create(path, self._mode)
            self._path = path

    def write(self, data: bytes) -> None:
        """Append `data`."""
        if self._handle is not None and data:
            with translated():
                self._disk.write(self._handle, data)
            self.hasher.update(data)
            self.size += len(data)

    def sync(self) -> None:
        """Make all of it durable and close it; nothing can be written any more."""
        handle, self._handle = self._handle, None
        if handle is not None:
            try:
                self._disk.sync(handle)
            finally:
                self._disk.close(handle)

    def name(self, path: Path) -> None:
        """Put it in its place."""
        if self._path is not None:
            self._disk.replace(self._path, path)
            self._path = None

    def drop(self) -> None:
        """Close and remove what was not named; a part that stays is swept later."""
        handle, self._handle = self._handle, None
        if handle is not None:
            self._disk.close(handle)
        path, self._path = self._path, None
        if path is not None:
            with suppress(OSError):
                path.unlink()


def _read(handle: int, size: int, offset: int) -> bytes:
    with translated():
        return os.pread(handle, size, offset)


def _verified(handle: int, cid: str) -> Iterator[bytes]:
    """All pieces of an open file; raises `ERR_ARTIFACT_DIGEST` before the last one if need be."""
    hasher = Hasher()
    offset = 0
    last = b""
    while piece := _read(handle, _PIECE, offset):
        if last:
            yield last
        hasher.update(piece)
        offset += len(piece)
        last = piece
    if hasher.digest() != cid:
        raise rotten(cid)
    if last:
        yield last


def _unknown(cid: str) -> TheoryError:
    return TheoryError("ERR_NOT_FOUND", "no artifact has this digest", {"cid": cid[:80]})


def rotten(cid: str) -> TheoryError:
    """`ERR_ARTIFACT_DIGEST` for bytes that have changed where they lay."""
    message = "the stored bytes of an artifact no longer match its digest"
    return TheoryError("ERR_ARTIFACT_DIGEST", message, {"cid": cid})
