"""Every process of an execution, found by the mark in its environment, whoever its parent is."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import psutil

RUN_DIR: Final = "THEORY_RUN_DIR"
"""Environment name that holds the folder of the execution (spec: processors, environment)."""

_PAUSE_S: Final = 0.02


def find(folder: Path) -> Iterator[psutil.Process]:
    """Living processes that carry the folder in their environment, and their descendants."""
    mark = str(folder)
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.environ().get(RUN_DIR) == mark:
                yield process
                yield from process.children(recursive=True)


def folders() -> frozenset[str]:
    """Folders of all executions that have a living process on this machine."""
    found = set()
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            found.add(process.environ().get(RUN_DIR, ""))
    return frozenset(found)


def kill(folder: Path, *, within_s: float) -> bool:
    """Kill all of them, again and again until none is left; whether that came about in time."""
    until = time.monotonic() + within_s
    while True:
        left = {process for process in find(folder) if _lives(process)}
        if not left:
            return True
        for process in left:
            with contextlib.suppress(psutil.Error):
                process.kill()
        if time.monotonic() >= until:
            return False
        time.sleep(_PAUSE_S)


def _lives(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
