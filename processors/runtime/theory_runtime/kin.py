"""The end of a process with all of its kin: its group, and every descendant that left the group."""

import contextlib
import os
import signal
import time
from collections.abc import Callable, Collection, Iterator
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
        try:
            stat = (folder / "stat").read_bytes()
        except OSError:
            continue
        # The name in brackets may hold anything; state and parent follow its last bracket.
        if int(stat.rpartition(b")")[2].split()[1]) == parent:
            yield int(folder.name)


def end_group(leader: int, *, spared: Callable[[], Collection[int]], until: float) -> bool:
    """Kill a group and all orphans that this process inherited, and wait until they are gone.

    `leader` is dead but not yet waited for, so that its number still means it. `spared` are
    children of this process that live on. False if something is still there at `until` (monotonic
    seconds).
    """
    while True:
        signal_group(leader, signal.SIGKILL)
        left = _reap_orphans({leader, *spared()})
        if not left and _is_alone(leader):
            return True
        if time.monotonic() >= until:
            return False
        time.sleep(PAUSE_S)


def _reap_orphans(spared: Collection[int]) -> bool:
    """Kill and wait for every child that is not spared; whether one was there."""
    found = False
    for pid in children(os.getpid()):
        if pid in spared:
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
