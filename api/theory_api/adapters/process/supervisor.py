"""A processor's server as a child of this process: started, metered, ended, its cost known."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import signal
import subprocess
import threading
import time
from pathlib import Path
from typing import Final

import psutil

from theory_api.adapters.process.kin import RUN_DIR
from theory_api.observability.redaction import Redactor
from theory_api.ports.adapter import Measurement
from theory_core import LIMITS

CONFIRM_S: Final = 30.0
"""After a kill, until a process that is still there counts as lost (spec: run.v1)."""

_KEPT_BYTES: Final = 16 * 1024
_READ_BYTES: Final = 4096
_THOUSAND: Final = 1000


class Supervisor:
    """One child. It ends when its lifeline is cut, and so when this process dies."""

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        lifeline: int,
        errors: int,
        hidden: tuple[str, ...] = (),
    ) -> None:
        self.exited: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._process = process
        self._lifeline: int | None = lifeline
        self._began = time.monotonic()
        self._ended: float | None = None
        self._cpu_ms = 0
        self._tail = b""
        self._redactor = Redactor(hidden)
        self._looking: asyncio.Future[int] | None = None
        self._loop = asyncio.get_running_loop()
        threading.Thread(target=self._read, args=(errors,), daemon=True).start()
        threading.Thread(target=self._wait, args=(self._loop,), daemon=True).start()

    @classmethod
    def start(
        cls, python: Path, main_file: Path, folder: Path, *, hidden: tuple[str, ...] = ()
    ) -> Supervisor:
        """Start `main.py --serve folder`; raises `OSError`. Belongs to the event loop's thread.

        `hidden` are values that its tail must never show. The child asks the kernel for a signal at
        the death of the thread that started it.
        """
        held, lifeline = os.pipe()
        errors, stderr = os.pipe()
        command = [str(python), str(main_file), "--serve", str(folder), "--lifeline", str(held)]
        try:
            process = subprocess.Popen(  # noqa: S603 - a source and an interpreter of our own
                command,
                stdin=subprocess.DEVNULL,
                stdout=stderr,
                stderr=stderr,
                pass_fds=(held,),
                cwd=folder,
                env=_environment(folder),
                start_new_session=True,
            )
        except OSError:
            os.close(lifeline)
            os.close(errors)
            raise
        finally:
            os.close(held)
            os.close(stderr)
        return cls(process, lifeline, errors, hidden)

    def measured(self) -> Measurement:
        """Processor time of it and all of its descendants, and time since its start.

        The time is that of the last look; asking has the next look taken.
        """
        self._look()
        until = time.monotonic() if self._ended is None else self._ended
        elapsed = int((until - self._began) * _THOUSAND)
        return Measurement({"cpu_ms": self._cpu_ms, "latency_ms": elapsed})

    def kill(self) -> None:
        """Kill it; its workers' guards end the rest."""
        with contextlib.suppress(ProcessLookupError):
            if not self.exited.done():
                os.kill(self._process.pid, signal.SIGKILL)

    async def end(self, *, grace_s: float) -> bool:
        """Cut its lifeline, wait, kill what does not end by itself; whether it is dead."""
        self._look()
        if self._looking is not None:
            await asyncio.wait({self._looking})
        if self._lifeline is not None:
            os.close(self._lifeline)
            self._lifeline = None
        await asyncio.wait({self.exited}, timeout=grace_s)
        self.kill()
        await asyncio.wait({self.exited}, timeout=CONFIRM_S)
        return self.exited.done()

    @property
    def code(self) -> int | None:
        """Its exit code, negative for a signal; None while it runs."""
        return self._process.returncode

    def tail(self) -> str:
        """The end of what it wrote on stderr, at most 2 KiB, redacted."""
        text = self._redactor.text(self._tail.decode("utf-8", "replace")).strip()
        kept = "".join(char for char in text if char.isprintable() or char == "\n")
        return kept.encode()[-LIMITS["stderr_tail_bytes"] :].decode("utf-8", "ignore")

    def _look(self) -> None:
        """Have what the living tree used added up beside the loop, one look at a time.

        A look walks through all processes of the machine.
        """
        if self.exited.done() or (self._looking is not None and not self._looking.done()):
            return
        self._looking = self._loop.run_in_executor(None, _used_ms, self._process.pid)
        self._looking.add_done_callback(self._saw)

    def _saw(self, looked: asyncio.Future[int]) -> None:
        """Law: what was measured never counts backwards."""
        if not looked.cancelled():
            self._cpu_ms = max(self._cpu_ms, looked.result())

    def _read(self, errors: int) -> None:
        with os.fdopen(errors, "rb", buffering=0) as stream:
            while data := stream.read(_READ_BYTES):
                self._tail = (self._tail + data)[-_KEPT_BYTES:]

    def _wait(self, loop: asyncio.AbstractEventLoop) -> None:
        _, status, usage = os.wait4(self._process.pid, 0)
        self._process.returncode = os.waitstatus_to_exitcode(status)
        with contextlib.suppress(RuntimeError):
            # The loop may be gone: then nobody waits any more.
            loop.call_soon_threadsafe(self._exit, usage)

    def _exit(self, usage: resource.struct_rusage) -> None:
        """Law: the final cost is the kernel's, of it and of all descendants it waited for."""
        total = int((usage.ru_utime + usage.ru_stime) * _THOUSAND)
        self._cpu_ms = max(self._cpu_ms, total)
        self._ended = time.monotonic()
        if not self.exited.done():
            self.exited.set_result(None)


def _used_ms(pid: int) -> int:
    """Processor time of a process and its living descendants."""
    seconds = 0.0
    with contextlib.suppress(psutil.Error):
        root = psutil.Process(pid)
        for process in (root, *root.children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess):
                seconds += sum(process.cpu_times()[:4])
    return int(seconds * _THOUSAND)


def _environment(folder: Path) -> dict[str, str]:
    """All that a processor's server inherits."""
    return {
        RUN_DIR: str(folder),
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "HOME": str(folder),
        "TMPDIR": str(folder),
        "LANG": "C.UTF-8",
        "LC_ALL": "C.UTF-8",
        "TZ": "UTC",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONNOUSERSITE": "1",
        "PYTHONUNBUFFERED": "1",
    }
