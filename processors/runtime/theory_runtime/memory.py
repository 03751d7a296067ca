"""Whether the kernel killed something here for lack of memory."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

_CGROUPS: Final = Path("/sys/fs/cgroup")
_OWN: Final = Path("/proc/self/cgroup")
_MACHINE: Final = Path("/proc/vmstat")


def oom_kills() -> int:
    """How often so far: in this control group where it is told, else on this machine.

    A group's own count is the better witness: a machine's also counts what other groups lost.
    """
    for path in (*_own_counters(), _MACHINE):
        count = _count(path)
        if count is not None:
            return count
    return 0


def _own_counters() -> Iterator[Path]:
    """Files of this process's control group that may hold the count, of either version."""
    try:
        lines = _OWN.read_text(encoding="ascii").splitlines()
    except (OSError, UnicodeDecodeError):
        return
    for line in lines:
        _, controllers, group = line.split(":", 2)
        folders: tuple[Path, ...]
        if controllers == "":
            folders, name = (_CGROUPS, _CGROUPS / "unified"), "memory.events"
        elif "memory" in controllers.split(","):
            folders, name = (_CGROUPS / "memory",), "memory.oom_control"
        else:
            continue
        for folder in folders:
            # Inside a container the group's own folder may be mounted as the root.
            yield folder / group.lstrip("/") / name
            yield folder / name


def _count(path: Path) -> int | None:
    try:
        lines = path.read_text(encoding="ascii").splitlines()
    except (OSError, UnicodeDecodeError):
        return None
    for line in lines:
        name, _, value = line.partition(" ")
        if name == "oom_kill" and value.isdigit():
            return int(value)
    return None
