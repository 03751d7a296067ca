"""A container's processor time and its end, as the kernel of this machine tells them."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_ACCOUNTS: Final = (
    ("cpuacct", Path("/sys/fs/cgroup/cpuacct"), "cpuacct.usage"),
    ("cpuacct", Path("/sys/fs/cgroup/cpu,cpuacct"), "cpuacct.usage"),
    ("", Path("/sys/fs/cgroup"), "cpu.stat"),
)
"""Controller, where its hierarchy may be mounted, and the file that counts (cgroup 1, 1, 2)."""

_USAGE: Final = "usage_usec "


@dataclass(frozen=True, slots=True)
class Account:
    """The file in which the kernel counts a container's processor time."""

    file: Path

    @classmethod
    def of(cls, container: str, pid: int) -> Account | None:
        """The account of a container whose first process is `pid` here.

        None where that process is not on this machine, or not the container's: the engine has to be
        asked then.
        """
        try:
            lines = Path(f"/proc/{pid}/cgroup").read_text(encoding="ascii").splitlines()
        except OSError:
            return None
        for line in lines:
            _, controllers, path = line.split(":", 2)
            if container not in path:
                continue
            for controller, root, name in _ACCOUNTS:
                file = root / path.lstrip("/") / name
                if controller in controllers.split(",") and file.is_file():
                    return cls(file)
        return None

    def cpu_ms(self) -> int | None:
        """Milliseconds so far; None once the container is gone."""
        try:
            text = self.file.read_text(encoding="ascii")
        except OSError:
            return None
        if self.file.name != "cpu.stat":
            return int(text) // 1_000_000
        found = [line for line in text.splitlines() if line.startswith(_USAGE)]
        return int(found[0].removeprefix(_USAGE)) // 1000 if found else None


class Watch:
    """Hears the end of a process that is nobody's child here."""

    def __init__(self, pid: int, ended: Callable[[], None]) -> None:
        """Raises `OSError` where there is no such process, or no such call."""
        self._descriptor: int | None = os.pidfd_open(pid)
        self._loop = asyncio.get_running_loop()
        self._ended = ended
        self._loop.add_reader(self._descriptor, self._hear)

    def _hear(self) -> None:
        self.close()
        self._ended()

    def close(self) -> None:
        """Listen no longer; idempotent."""
        if self._descriptor is not None:
            self._loop.remove_reader(self._descriptor)
            with contextlib.suppress(OSError):
                os.close(self._descriptor)
            self._descriptor = None
