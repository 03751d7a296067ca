"""Locks on files that die with their holder, and work in threads whose result nobody may lose."""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

Result = TypeVar("Result")


def take(file: Path, *, make: bool = False) -> int | None:
    """The lock of a file as a descriptor to close, or None if somebody has it or it is not there.

    Law: a file that was removed meanwhile locks nothing.
    """
    flags = os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT if make else 0)
    try:
        lock = os.open(file, flags, 0o600)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(lock).st_ino == file.stat().st_ino:
            return lock
    except (BlockingIOError, FileNotFoundError):
        pass
    except BaseException:
        os.close(lock)
        raise
    os.close(lock)
    return None


async def finished(work: Awaitable[Result], undo: Callable[[Result], object]) -> Result:
    """The result of work in a thread; `undo` takes what a caller that went away cannot take."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        task.add_done_callback(lambda done: done.exception() is None and undo(done.result()))
        raise
