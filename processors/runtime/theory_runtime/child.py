"""A worker as its supervisor holds it: started, listened to, stopped, confirmed dead."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from theory_runtime import kin
from theory_runtime.channel import LINE_BYTES
from theory_runtime.kin import Brood
from theory_runtime.tail import Tail

GRACE_S: Final = 5.0
"""Between the request to stop and the kill."""
CONFIRM_S: Final = 30.0
"""After the kill, until a worker that is still there counts as lost."""
RUN_DIR: Final = "THEORY_RUN_DIR"
"""Environment name that each process of a run carries, so that its kin can always be found."""

_READ_BYTES: Final = 1 << 16


class Child:
    """One worker process, leader of a session and group of its own."""

    def __init__(self, process: "subprocess.Popen[bytes]", brood: Brood, lifeline: int) -> None:
        self.pid = process.pid
        self.tail = Tail()
        self.lines: asyncio.StreamReader
        self.exited: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._process = process
        self._brood = brood
        self._lifeline = lifeline
        self._listening: asyncio.Task[None]
        self._writer: asyncio.StreamWriter
        self._errors: asyncio.ReadTransport

    @classmethod
    async def start(
        cls, main_file: Path, *, run_dir: Path, brood: Brood, way_out: Mapping[str, str]
    ) -> "Child":
        """Start a worker, which waits for its job; it inherits nothing of this environment.

        `way_out` is what its own says besides, of a proxy that it has to use.
        """
        ours, theirs = socket.socketpair()
        guarded, lifeline = os.pipe()
        errors, stderr = os.pipe()
        arguments = [str(theirs.fileno()), str(guarded)]
        try:
            # Forking stops the loop for a millisecond: less than a thread would cost.
            process = brood.start(
                lambda: subprocess.Popen(  # noqa: S603 - this interpreter, this processor
                    [sys.executable, "-u", str(main_file), "--worker", *arguments],
                    stdin=subprocess.DEVNULL,
                    stdout=stderr,
                    stderr=stderr,
                    pass_fds=(theirs.fileno(), guarded),
                    cwd="/",
                    env={**environment(run_dir), **way_out},
                    start_new_session=True,
                )
            )
        except OSError:
            os.close(lifeline)
            os.close(errors)
            ours.close()
            raise
        finally:
            theirs.close()
            os.close(guarded)
            os.close(stderr)
        child = cls(process, brood, lifeline)
        await child._attach(ours, errors)
        return child

    def begin(self, job: bytes) -> None:
        """Hand it its job, a line as `channel.encode` makes it."""
        self._writer.write(job)

    async def _attach(self, ours: socket.socket, errors: int) -> None:
        """Listen to its lines, to its stderr, and for its end."""
        loop = asyncio.get_running_loop()
        self.lines, self._writer = await asyncio.open_connection(sock=ours, limit=LINE_BYTES)
        stream = asyncio.StreamReader(limit=_READ_BYTES)
        self._errors, _ = await loop.connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(stream), os.fdopen(errors, "rb", buffering=0)
        )
        self._listening = asyncio.create_task(self._listen(stream))
        threading.Thread(target=self._await_death, args=(loop,), daemon=True).start()

    async def _listen(self, stream: asyncio.StreamReader) -> None:
        while data := await stream.read(_READ_BYTES):
            self.tail.feed(data)

    def _await_death(self, loop: asyncio.AbstractEventLoop) -> None:
        """Wait without reaping: its number must keep meaning it until its group is dead."""
        if sys.platform == "linux":
            os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)
        else:
            self._process.wait()
        loop.call_soon_threadsafe(self._died)

    def _died(self) -> None:
        if not self.exited.done():
            self.exited.set_result(None)

    def signal(self, number: signal.Signals) -> None:
        """Signal the whole group, as long as its number is certainly its own."""
        if self._process.returncode is None:
            kin.signal_group(self.pid, number)

    async def stop(self, *, grace_s: float = GRACE_S, confirm_s: float = CONFIRM_S) -> bool:
        """End it: asked first, then killed; whether its death was confirmed."""
        if grace_s > 0 and not self.exited.done():
            self.signal(signal.SIGTERM)
            # One that was paused has to wake to hear it.
            self.signal(signal.SIGCONT)
            await asyncio.wait({self.exited}, timeout=grace_s)
        self.signal(signal.SIGKILL)
        await asyncio.wait({self.exited}, timeout=confirm_s)
        return self.exited.done()

    async def bury(self, *, confirm_s: float) -> bool:
        """After its death: end all of its kin; whether that was confirmed."""
        until = time.monotonic() + confirm_s
        gone = await asyncio.to_thread(self._brood.end, self.pid, until=until)
        if gone:
            self._process.wait()
            self._brood.forget(self.pid)
            await asyncio.wait({self._listening}, timeout=1)
        return gone

    @property
    def code(self) -> int | None:
        """Its exit code, negative for a signal; known once it was buried."""
        return self._process.returncode

    async def close(self) -> None:
        """Let go of it; its guard ends whatever may be left."""
        os.close(self._lifeline)
        self._listening.cancel()
        self._errors.close()
        self._writer.close()
        await asyncio.wait({self._listening})


def environment(run_dir: Path) -> dict[str, str]:
    """All that a worker's environment holds: the same on every machine, but for its folder.

    `HOME` and `TMPDIR` come with its job, and names of a way out where it has one.
    """
    return {
        RUN_DIR: str(run_dir),
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "LANG": "C.UTF-8",
        "LC_ALL": "C.UTF-8",
        "TZ": "UTC",
        "PYTHONHASHSEED": "0",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONNOUSERSITE": "1",
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
    }
