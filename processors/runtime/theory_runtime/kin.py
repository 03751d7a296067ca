"""The end of a process with all of its kin: its group, and every descendant that left the group."""

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

PAUSE_S: Final = 0.01
_PROC: Final = Path("/proc")


def signal_group(leader: int, number: signal.Signals) -> None:
    """Send a signal to a process group; one that is gone needs none."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, number)


def children(parent: int) -> Iterator[int]:
    """Pids of a process's children, dead ones that nobody waited for included."""
    for folder in _PROC.glob("[0-9]*"):
        if _parent(int(folder.name)) == parent:
            yield int(folder.name)


def _parent(pid: int) -> int | None:
    """The parent of a process, or None if there is none of that number."""
    try:
        stat = (_PROC / str(pid) / "stat").read_bytes()
    except OSError:
        return None
    # The name in brackets may hold anything; state and parent follow its last bracket.
    return int(stat.rpartition(b")")[2].split()[1])


class Brood:
    """The workers of this process. Law: every other child is an orphan that one of them left."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.workers: dict[int, subprocess.Popen[bytes]] = {}

    def start(self, spawn: Callable[[], "subprocess.Popen[bytes]"]) -> "subprocess.Popen[bytes]":
        """Start a worker; nobody takes it for an orphan before it is known."""
        with self._lock:
            process = spawn()
            self.workers[process.pid] = process
            return process

    def forget(self, pid: int) -> None:
        """A worker was waited for: its number may mean another process from now on."""
        with self._lock:
            self.workers.pop(pid, None)

    def end(self, leader: int, *, until: float) -> bool:
        """Kill a worker's group and all orphans, and wait until they are gone.

        The worker is dead but not yet waited for, so that its number still means it. False if
        something is still there at `until` (monotonic seconds).
        """
        while True:
            signal_group(leader, signal.SIGKILL)
            if not self._reap_orphans() and _is_alone(leader):
                return True
            if time.monotonic() >= until:
                return False
            time.sleep(PAUSE_S)

    def _reap_orphans(self) -> bool:
        """Kill and wait for every child that is no worker; whether one was there."""
        found = False
        for pid in children(os.getpid()):
            # The walk takes its time; who starts a worker waits for one look at most.
            with self._lock:
                if pid in self.workers or _parent(pid) != os.getpid():
                    continue
                found = True
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(pid, os.WNOHANG)
        return found


def _is_alone(leader: int) -> bool:
    """Whether nothing but the dead leader is left of its group."""
    for folder in _PROC.glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_bytes().rpartition(b")")[2].split()
        except OSError:
            continue
        state, _, group = fields[0], fields[1], int(fields[2])
        if group == leader and int(folder.name) != leader and state not in {b"Z", b"X"}:
            return False
    return True
