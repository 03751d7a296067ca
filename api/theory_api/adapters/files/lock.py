"""One writer at a time: a lock on a file that dies with the process that holds it."""

from __future__ import annotations

import fcntl
import os
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from theory_core import TheoryError

_HOLDER: Final = re.compile(rb"pid ([0-9]{1,10}) since ([0-9TZ:.-]{1,32})\n")


class WriterLock:
    """The exclusive right to write to one or more folders, e.g. a home and its database's folder.

    The text in a lock file tells people who holds it; only the lock itself counts. The files stay
    when the lock goes.
    """

    def __init__(self, *files: Path) -> None:
        self._files = tuple(sorted(set(files)))
        self._handles: list[int] = []

    def acquire(self) -> None:
        """Take every file, or none.

        Raises `TheoryError` `ERR_NOT_WRITER`, naming the holder's pid, while another owner has one;
        also when this lock itself has them. `ERR_STORAGE` where files cannot be locked.
        """
        if self._handles:
            raise TheoryError("ERR_NOT_WRITER", "this process writes here already")
        try:
            for file in self._files:
                self._handles.append(_take(file))
        except BaseException:
            self.release()
            raise

    def release(self) -> None:
        """Let go; idempotent."""
        while self._handles:
            handle = self._handles.pop()
            try:
                os.ftruncate(handle, 0)
            finally:
                os.close(handle)


def _take(file: Path) -> int:
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        handle = os.open(file, flags, 0o600)
    except OSError as error:
        message = f"the lock file {file.name} cannot be opened"
        raise TheoryError("ERR_STORAGE", message, {"errno": error.errno}) from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.ftruncate(handle, 0)
        started = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        os.pwrite(handle, f"pid {os.getpid()} since {started}\n".encode(), 0)
    except BlockingIOError as error:
        taken = _taken(handle, file)
        os.close(handle)
        raise taken from error
    except OSError as error:
        os.close(handle)
        message = f"the lock file {file.name} cannot be locked"
        raise TheoryError("ERR_STORAGE", message, {"errno": error.errno}) from error
    return handle


def _taken(handle: int, file: Path) -> TheoryError:
    holder = _HOLDER.fullmatch(os.pread(handle, 64, 0))
    advice = "wait until it ends, stop it, or use another --home"
    if holder is None:
        message = f"another process writes to {file.parent}; {advice}"
        return TheoryError("ERR_NOT_WRITER", message)
    pid, since = int(holder[1]), holder[2].decode()
    message = f"process {pid} writes to {file.parent} since {since}; {advice}"
    return TheoryError("ERR_NOT_WRITER", message, {"pid": pid, "since": since})
