"""The few system calls that make bytes durable; tests put a failing disk in its place."""

from __future__ import annotations

import errno
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from theory_core import TheoryError

_PART: Final = ".part-"
STALE_S: Final = 24 * 3600
"""An unfinished file that nobody has written to for so many seconds is nobody's."""

_NEW: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Disk:
    """Files by handle. Every method blocks and raises `OSError`; none follows a link at the end.

    Law: a failed `sync` is never tried again on the same handle: the kernel may have dropped the
    pages and would answer that all is well.
    """

    def create(self, path: Path, mode: int = 0o600) -> int:
        """A new file, for writing; it must not exist."""
        return os.open(path, _NEW, mode)

    def open(self, path: Path) -> int:
        """A file, for reading; `ELOOP` for a link."""
        return os.open(path, _READ)

    def read(self, handle: int, size: int, place: int) -> bytes:
        """So many bytes, from a place on.

        Law: fewer than a file was seen to have are a fault of the disk, not its end.
        """
        data = os.pread(handle, size, place)
        if len(data) < size:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return data

    def write(self, handle: int, data: bytes) -> None:
        """All of `data`."""
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(handle, rest) :]

    def sync(self, handle: int) -> None:
        """Wait until what was written is on the disk."""
        os.fsync(handle)

    def close(self, handle: int) -> None:
        """Give the handle back."""
        os.close(handle)

    def replace(self, part: Path, path: Path) -> None:
        """Give a finished file its name, in one step, and make the name durable."""
        part.replace(path)
        self.sync_folder(path.parent)

    def remove(self, path: Path) -> None:
        """Remove a file and make that durable; `FileNotFoundError` if it is not there."""
        path.unlink()
        self.sync_folder(path.parent)

    def sync_folder(self, folder: Path) -> None:
        """Wait until the names in a folder are on the disk."""
        handle = os.open(folder, _FOLDER)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

    def make_folder(self, folder: Path, root: Path) -> None:
        """A folder below `root` with all folders between, their names durable."""
        missing = []
        while folder != root and not folder.is_dir():
            missing.append(folder)
            folder = folder.parent
        for step in reversed(missing):
            step.mkdir(mode=0o700, exist_ok=True)
            self.sync_folder(step.parent)

    def free(self, folder: Path) -> int:
        """Bytes that may still be written where a folder lies, by who is not the superuser."""
        found = os.statvfs(folder)
        return found.f_bavail * found.f_frsize


def part_name() -> str:
    """A name for a file that is not finished yet."""
    return f"{_PART}{secrets.token_hex(16)}"


def swept(folder: Path) -> int:
    """Remove the unfinished files that nobody has written to for a day; how many. It blocks.

    Law: a file that goes meanwhile is that of a living writer, who gave it its name or dropped it.
    """
    count = 0
    with translated():
        for part in folder.glob(f"{_PART}*"):
            with suppress(FileNotFoundError):
                if time.time() - part.lstat().st_mtime > STALE_S:
                    part.unlink()
                    count += 1
    return count


def storage(error: OSError) -> TheoryError:
    """`ERR_STORAGE` with the system's own name of the fault, e.g. `ENOSPC`."""
    name = errno.errorcode.get(error.errno or 0, "EIO")
    return TheoryError("ERR_STORAGE", f"storage unavailable: {name}", {"reason": name})


@contextmanager
def translated() -> Iterator[None]:
    """Has an `OSError` leave as `ERR_STORAGE`."""
    try:
        yield
    except OSError as error:
        raise storage(error) from error
