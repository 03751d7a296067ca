"""Small writes of many executions made durable together: one append and one sync for all of them.

A journal is a file that one process appends to while it lives: records, each a header and a body.
The header is the mark `tjr1`, a kind (`b` blob, `n` note, `x` note dropped), the sizes of name and
body, and the BLAKE3 of everything else; so a record counts exactly if all of it is there.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import secrets
import struct
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import structlog

from theory_api.adapters.files.blocking import in_thread
from theory_api.adapters.files.disk import Disk, storage
from theory_core import TheoryError, digest

log = structlog.get_logger(__name__)

BLOB: Final = b"b"
NOTE: Final = b"n"
DROP: Final = b"x"

SUFFIX: Final = ".journal"
_MARK: Final = b"tjr1"
_HEADER: Final = struct.Struct("<4scHI32s")


@dataclass(frozen=True, slots=True)
class Record:
    """One entry: a blob is named by its cid, a note by its execution."""

    kind: bytes
    name: str
    body: bytes = b""

    def encode(self) -> bytes:
        """Header, name and body."""
        name = self.name.encode()
        head = _HEADER.pack(_MARK, self.kind, len(name), len(self.body), bytes(32))
        seal = bytes.fromhex(digest(head + name + self.body)[3:])
        return head[:-32] + seal + name + self.body


def records(data: bytes) -> Iterator[Record]:
    """The records of a journal up to the first that is not whole: the rest was never answered."""
    view, place = memoryview(data), 0
    while place + _HEADER.size <= len(view):
        mark, kind, named, sized, seal = _HEADER.unpack_from(view, place)
        begin = place + _HEADER.size
        end = begin + named + sized
        if mark != _MARK or end > len(view):
            return
        rest = bytes(view[begin:end])
        if digest(bytes(view[place : begin - 32]) + bytes(32) + rest)[3:] != seal.hex():
            return
        yield Record(kind, rest[:named].decode(), rest[named:])
        place = end


class Journal:
    """The journal files of one process in one folder, which must exist.

    Law: what `write` was given is in a file, whole and durable, when it returns. A file whose sync
    failed is never written to again.
    """

    def __init__(
        self, folder: Path, *, landed: Callable[[Record, Path], None], disk: Disk | None = None
    ) -> None:
        """`landed` hears of every record that is durable, and in which file it is."""
        self._folder = folder
        self._landed = landed
        self._disk = disk or Disk()
        self._file: Path | None = None
        self._handle: int | None = None
        self._locks: dict[Path, int] = {}
        self._theirs: set[Path] = set()
        """Adopted files that are read as those of others: what they hold lies nowhere else yet."""
        self._queue: list[tuple[Record, asyncio.Future[None] | None]] = []
        self._flushing: asyncio.Task[None] | None = None

    async def write(self, record: Record) -> None:
        """Append a record, durable on return; raises `TheoryError` `ERR_STORAGE`.

        `landed` is told before anybody can rotate; a caller that leaves changes nothing.
        """
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queue.append((record, future))
        if self._flushing is None or self._flushing.done():
            self._flushing = asyncio.create_task(self._flush())
        await future

    def add(self, record: Record) -> None:
        """Have a record written with the next one that somebody waits for."""
        self._queue.append((record, None))

    async def rotate(self) -> None:
        """Begin another file with the next record."""
        while self._flushing is not None and not self._flushing.done():
            await asyncio.wait({self._flushing})
        self._shut()

    async def remove(self, file: Path) -> None:
        """Remove a file of this process: everything in it is durable elsewhere."""
        await in_thread(partial(self._remove, file))

    async def adopt(self, *, older_s: float = 0.0) -> list[tuple[Path, list[Record]]]:
        """The files of processes that are gone, for this process to bring elsewhere and `take`.

        A living process locks its file right after it made it, so one that lives on asks only for
        files older than that takes.
        """
        return await in_thread(partial(self._adopt, older_s))

    def take(self, file: Path) -> None:
        """Count an adopted file as this process's own: what it holds can be read elsewhere."""
        self._theirs.discard(file)

    async def find(self, kind: bytes, name: str) -> bytes | None:
        """The body of the newest such record in files of other processes; None without one."""
        return await in_thread(partial(self._find, kind, name))

    async def noted(self) -> frozenset[str]:
        """Names of the notes in files of other processes, alive or dead."""
        return await in_thread(self._noted)

    async def _flush(self) -> None:
        while self._queue:
            batch, self._queue = self._queue, []
            fault: TheoryError | None = TheoryError("ERR_STORAGE", "the journal was not written")
            try:
                data = b"".join(record.encode() for record, _ in batch)
                file = await in_thread(partial(self._append, data))
                fault = None
            except TheoryError as error:
                log.warning("storage.error", code=error.code, records=len(batch))
                fault = error
            finally:
                for record, future in batch:
                    if fault is None:
                        self._landed(record, file)
                    if future is not None and not future.done():
                        _answer(future, fault)

    # Below: blocking, in a thread.

    def _append(self, data: bytes) -> Path:
        try:
            handle, file = self._opened()
            self._disk.write(handle, data)
            self._disk.sync(handle)
        except OSError as error:
            self._shut()
            raise storage(error) from error
        return file

    def _opened(self) -> tuple[int, Path]:
        if self._handle is None or self._file is None:
            # Names sort by age: what was written last counts.
            file = self._folder / f"{time.time_ns():020d}-{secrets.token_hex(8)}{SUFFIX}"
            handle = self._disk.create(file)
            self._locks[file] = handle
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._handle, self._file = handle, file
            self._disk.sync_folder(self._folder)
        return self._handle, self._file

    def _shut(self) -> None:
        """Write no more to the present file; its lock stays until it is removed."""
        self._handle = self._file = None

    def _remove(self, file: Path) -> None:
        try:
            self._disk.remove(file)
        except FileNotFoundError:
            log.warning("journal.gone", file=file.name)
        except OSError as error:
            raise storage(error) from error
        self._theirs.discard(file)
        handle = self._locks.pop(file, None)
        if handle is not None:
            self._disk.close(handle)

    def _adopt(self, older_s: float) -> list[tuple[Path, list[Record]]]:
        found = []
        newest = f"{time.time_ns() - int(older_s * 1e9):020d}~"
        for file in sorted(self._folder.glob(f"*{SUFFIX}")):
            if file in self._locks or file.name > newest:
                continue
            try:
                handle = self._disk.open(file)
            except FileNotFoundError:
                continue
            except OSError as error:
                raise storage(error) from error
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                self._disk.close(handle)
                if error.errno not in {errno.EAGAIN, errno.EACCES}:
                    raise storage(error) from error
                continue
            self._theirs.add(file)
            self._locks[file] = handle
            found.append((file, list(records(_read(file)))))
        return found

    def _find(self, kind: bytes, name: str) -> bytes | None:
        found: bytes | None = None
        for record in self._others():
            if record.name == name and record.kind == kind:
                found = record.body
            elif record.name == name and record.kind == DROP and kind == NOTE:
                found = None
        return found

    def _noted(self) -> frozenset[str]:
        found = set[str]()
        for record in self._others():
            if record.kind == NOTE:
                found.add(record.name)
            elif record.kind == DROP:
                found.discard(record.name)
        return frozenset(found)

    def _others(self) -> Iterator[Record]:
        """What files of other processes hold, in the order in which it was written."""
        for file in sorted(self._folder.glob(f"*{SUFFIX}")):
            if file not in self._locks or file in self._theirs:
                yield from records(_read(file))

    def close(self) -> None:
        """Let every file go; those that are left are adopted by whoever comes next."""
        self._shut()
        while self._locks:
            self._disk.close(self._locks.popitem()[1])


def _answer(future: asyncio.Future[None], fault: TheoryError | None) -> None:
    if fault is None:
        future.set_result(None)
    else:
        future.set_exception(fault)
        future.exception()  # A caller that left does not make it an unhandled error.


def _read(file: Path) -> bytes:
    """A journal's bytes; none of one that is gone meanwhile."""
    try:
        handle = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return b""
    except OSError as error:
        raise storage(error) from error
    with os.fdopen(handle, "rb") as opened:
        try:
            return opened.read()
        except OSError as error:
            raise storage(error) from error
