"""Processes that must not outlive another one: what each does when the other is gone."""

import contextlib
import ctypes
import os
import signal
import sys
from typing import Final

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_DUMPABLE: Final = 4
_PR_SET_CHILD_SUBREAPER: Final = 36
_DESCRIPTORS: Final = 4096
"""More than a process has that just began."""


def _prctl(option: int, value: int) -> bool:
    """Whether the kernel took it; there is no such call but on Linux."""
    if not sys.platform.startswith("linux"):
        return False
    answer: int = ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)
    return answer == 0


def signal_at_parents_death(number: signal.Signals) -> bool:
    """Have the kernel send this process a signal when its parent dies."""
    return _prctl(_PR_SET_PDEATHSIG, int(number))


def conceal() -> bool:
    """Keep processes of the same user from this one's memory, descriptors and environment.

    It holds for what is forked, and ends where a program is executed.
    """
    return _prctl(_PR_SET_DUMPABLE, 0)


def adopt_orphans() -> bool:
    """Become the parent of every descendant whose own parent dies, so that none is lost."""
    return _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def stand_guard(lifeline: int) -> None:
    """Leave a process behind that kills this process group when the lifeline's other end is gone.

    It is a process, not a thread, so that a provider that never lets go of the interpreter lock
    cannot keep it from acting. It is not of the group, so that a group that is paused is killed all
    the same; it ends with the caller as an orphan, or at the latest with the lifeline. The caller
    has one thread and leads its group.
    """
    group = os.getpgrp()
    if os.fork() != 0:
        os.close(lifeline)
        return
    os.setpgid(0, 0)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.closerange(0, lifeline)
    os.closerange(lifeline + 1, _DESCRIPTORS)
    while os.read(lifeline, 1):
        pass
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)
    os._exit(0)
