"""Small writes of many executions made durable together: one append, one sync for all of them."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import secrets
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final

import structlog

from theory_api.adapters.files.blocking import in_thread
from theory_api.adapters.files.disk import Disk, storage, translated
from theory_api.adapters.files.record import Record, scan
from theory_core import TheoryError

log = structlog.get_logger(__name__)

SUFFIX: Final = ".journal"

Landed = Callable[[Record, Path, int], None]
"""Hears of a record that is durable, in which file it is, and where it ends there."""


class Journal:
    """The journal files of one process in one folder, which must exist.

    Law: what `write` was given is in a file, whole and durable, when it returns. A file whose sync
    failed is never written to again; one in which nothing landed goes, and none is made before.
    """

    def __init__(self, folder: Path, *, landed: Landed, disk: Disk | None = None) -> None:
        """`landed` hears of every record."""
        self._folder = folder
        self._landed = landed
        self._disk = disk or Disk()
        self.file: Path | None = None
        """Where the next record goes, once there was one."""
        self.size = 0
        """Bytes in that file."""
        self.since = 0.0
        """When it was begun, on the monotonic clock."""
        self._handle: int | None = None
        self._locks: dict[Path, int] = {}
        self._refused: Path | None = None
        """A file in which nothing landed, while the disk does not let it go."""
        self._theirs: set[Path] = set()
        """Adopted files that are read as those of others: what they hold lies nowhere else yet."""
        self._queue: list[tuple[Record, asyncio.Future[None] | None]] = []
        self._flushing: asyncio.Task[None] | None = None

    async def write(self, record: Record, *, before: Sequence[Record] = ()) -> None:
        """Append a record, durable on return; raises `TheoryError` `ERR_STORAGE`.

        `before` are records that go ahead of it in the same write. Law: where it is found, so are
        they. `landed` is told before anybody can rotate; a caller that leaves changes nothing.
        """
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queue += [*((first, None) for first in before), (record, future)]
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

    def release(self, file: Path) -> None:
        """Let go of a file that has another name by now."""
        handle = self._locks.pop(file, None)
        if handle is not None:
            self._disk.close(handle)

    async def adopt(self, *, older_s: float = 0.0) -> list[tuple[Path, list[Record]]]:
        """The files of processes that are gone, for this process to bring elsewhere and remove.

        A living process locks its file right after it made it, so one that lives on asks only for
        files older than that takes.
        """
        return await in_thread(partial(self._adopt, older_s))

    def owns(self, file: Path) -> bool:
        """Whether what a file holds is in the memory of this process, or elsewhere by now."""
        return file in self._locks and file not in self._theirs

    async def _flush(self) -> None:
        while self._queue:
            batch, self._queue = self._queue, []
            fault: TheoryError | None = TheoryError("ERR_STORAGE", "the journal was not written")
            try:
                encoded = [record.encode() for record, _ in batch]
                file, end = await in_thread(partial(self._append, b"".join(encoded)))
                fault = None
            except TheoryError as error:
                log.warning("storage.error", code=error.code, records=len(batch))
                fault = error
            finally:
                for number, (record, future) in enumerate(batch):
                    if fault is None:
                        end += len(encoded[number])
                        self._landed(record, file, end)
                    if future is not None and not future.done():
                        _answer(future, fault)

    # Below: blocking, in a thread.

    def _append(self, data: bytes) -> tuple[Path, int]:
        """The file, and where the data begin in it."""
        try:
            handle, file = self._opened()
            self._disk.write(handle, data)
            self._disk.sync(handle)
        except OSError as error:
            self._refuse()
            raise storage(error) from error
        begin, self.size = self.size, self.size + len(data)
        return file, begin

    def _opened(self) -> tuple[int, Path]:
        if self._handle is None or self.file is None:
            self._clear()
            # Names sort by age: what was written last counts.
            file = self._folder / f"{time.time_ns():020d}-{secrets.token_hex(8)}{SUFFIX}"
            handle = self._disk.create(file)
            self._locks[file] = self._handle = handle
            self.file, self.size, self.since = file, 0, time.monotonic()
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._disk.sync_folder(self._folder)
        return self._handle, self.file

    def _shut(self) -> None:
        """Write no more to the present file; its lock stays until it is removed."""
        self._handle = self.file = None

    def _refuse(self) -> None:
        """Write no more to the present file, and be rid of it if nothing landed there."""
        if self.file is not None and self.size == 0:
            self._refused = self.file
        self._shut()
        # The first fault is the one to tell; the next write tries again, and tells this one.
        with suppress(OSError):
            self._clear()

    def _clear(self) -> None:
        if self._refused is not None:
            with suppress(FileNotFoundError):
                self._disk.remove(self._refused)
            self.release(self._refused)
            self._refused = None

    def _remove(self, file: Path) -> None:
        try:
            self._disk.remove(file)
        except FileNotFoundError:
            log.warning("journal.gone", file=file.name)
        except OSError as error:
            raise storage(error) from error
        self._theirs.discard(file)
        self.release(file)

    def _adopt(self, older_s: float) -> list[tuple[Path, list[Record]]]:
        """Law: all of them or, where one cannot be read, none; those are there to be asked for."""
        newest = f"{time.time_ns() - int(older_s * 1e9):020d}~"
        found: dict[Path, list[Record]] = {}
        try:
            with translated():
                for file in sorted(self._folder.glob(f"*{SUFFIX}")):
                    if file in self._locks or file.name > newest:
                        continue
                    if (handle := self._inherited(file)) is not None:
                        self._theirs.add(file)
                        self._locks[file] = handle
                        found[file] = []
                        end = os.fstat(handle).st_size
                        held = scan(partial(self._disk.read, handle), 0, end)
                        found[file] += (record for record, _ in held)
        except BaseException:
            for file in found:
                self._theirs.discard(file)
                self.release(file)
            raise
        return list(found.items())

    def _inherited(self, file: Path) -> int | None:
        """The locked file; None while its owner lives, and once it has another name."""
        try:
            handle = self._disk.open(file)
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if file.stat().st_ino == os.fstat(handle).st_ino:
                return handle
        except FileNotFoundError:
            pass
        except OSError as error:
            if error.errno not in {errno.EAGAIN, errno.EACCES}:
                self._disk.close(handle)
                raise
        self._disk.close(handle)
        return None

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
