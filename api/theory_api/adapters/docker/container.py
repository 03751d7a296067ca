"""One container from its creation to its confirmed end: started, waited for, metered, removed."""

from __future__ import annotations

import asyncio
import stat
import time
from pathlib import Path
from typing import Any, Final

import httpx
import structlog

from theory_api.adapters.docker.egress import SOCKET
from theory_api.adapters.docker.engine import Ended, Engine
from theory_api.adapters.docker.meter import Account, Watch
from theory_api.adapters.docker.sandbox import STOP_S
from theory_api.adapters.run_v1.calling import coded
from theory_api.adapters.run_v1.health import HealthPace, Witness, await_healthy
from theory_api.observability.redaction import Redactor
from theory_api.ports.adapter import Measurement
from theory_core import LIMITS, TheoryError

log = structlog.get_logger(__name__)

CONFIRM_S: Final = 30.0
"""After a kill, until a container that is still there counts as lost (spec: run.v1)."""

_POLL_S: Final = 0.5
_SOCKET_S: Final = 0.02
_ENGINE_S: Final = 30.0
_LINES: Final = 50
_THOUSAND: Final = 1000
_CLOSED: Final = 0o755
_SOCKETS: Final = frozenset({"run.sock", "io.sock", SOCKET})
_MOUNTS: Final = frozenset({"work", "secrets"})


class Container:
    """A container that was created; `exited` is done once it runs no more.

    `folder` is what it sees as `/run/theory`.
    """

    def __init__(self, engine: Engine, ident: str, folder: Path) -> None:
        self.id = ident
        self.folder = folder
        self.exited: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._engine = engine
        self._account: Account | None = None
        self._watch: Watch | None = None
        self._looking: asyncio.Task[None] | None = None
        self._began = time.monotonic()
        self._ended: float | None = None
        self._before_ms = 0
        self._cpu_ms: int | None = None

    @property
    def run_socket(self) -> str:
        """Where the processor listens."""
        return str(self.folder / "run.sock")

    async def start(self) -> None:
        """Start it; raises `TheoryError` `ERR_DOCKER`."""
        log.info("adapter.container.start", container=self.id[:12])
        await self._engine.start(self.id)
        await self.attend()

    async def attend(self, pid: int = 0) -> None:
        """Meter it and hear its end from now on; `pid`, if still right, spares a question."""
        self._account = Account.of(self.id, pid) if pid else None
        if self._account is None:
            state = await self._engine.state(self.id)
            if state is None or not state.running:
                self._exit()
                return
            pid = state.pid
            self._account = Account.of(self.id, pid)
        if self._account is not None:
            try:
                self._watch = Watch(pid, self._exit)
            except OSError:
                self._account = None
        if self._watch is None:
            self._looking = asyncio.create_task(self._look())

    async def healthy(self, pace: HealthPace, *, expected: str | None) -> None:
        """Wait until it answers; nobody can put anything into its folder after that.

        Law: nothing is connected to but a socket that it made itself in its own folder. Raises
        `TheoryError`: `ERR_HEALTH`; `ERR_REGISTRY_MISMATCH` if it says that it is another image.
        """
        until = time.monotonic() + pace.budget_s
        socket = Path(self.run_socket)
        while not await asyncio.to_thread(_is_socket, socket):
            if self.exited.done() or time.monotonic() > until:
                raise coded("ERR_HEALTH", "ended" if self.exited.done() else "budget")
            await asyncio.wait({self.exited}, timeout=_SOCKET_S)
        await asyncio.to_thread(self._shut)
        transport = Witness(httpx.AsyncHTTPTransport(uds=self.run_socket))
        fast = HealthPace(max(1.0, until - time.monotonic()), _SOCKET_S, pace.longest_s)
        await await_healthy(transport, ended=asyncio.shield(self.exited), pace=fast)
        if expected is not None and transport.image_digest != expected:
            raise coded("ERR_REGISTRY_MISMATCH", "image_digest")

    def _shut(self) -> None:
        """Close the folder to it. Law: nothing stays in it that it could write to, only sockets.

        A folder that its user made stays open to it; what the engine mounted belongs to others.
        """
        try:
            self.folder.chmod(_CLOSED)
            user = Path(self.run_socket).lstat().st_uid
            for entry in self.folder.iterdir():
                facts = entry.lstat()
                socket = entry.name in _SOCKETS and stat.S_ISSOCK(facts.st_mode)
                mount = entry.name in _MOUNTS and stat.S_ISDIR(facts.st_mode)
                if not socket and not (mount and facts.st_uid != user):
                    raise coded("ERR_HEALTH", "folder")
            if not _is_socket(Path(self.run_socket)):
                raise coded("ERR_HEALTH", "socket")
        except OSError as error:
            raise coded("ERR_HEALTH", "folder") from error

    def begin(self) -> None:
        """What is measured counts from here: another execution begins in it."""
        self._began, self._ended, self._cpu_ms = time.monotonic(), None, None
        self._before_ms = self._read() or 0

    def measured(self) -> Measurement:
        """Processor time of everything in it, and time, since the execution began."""
        self._sample()
        until = time.monotonic() if self._ended is None else self._ended
        usage = {"latency_ms": int((until - self._began) * _THOUSAND)}
        if self._cpu_ms is not None:
            usage["cpu_ms"] = self._cpu_ms
        return Measurement(usage)

    def finish(self) -> None:
        """The execution ended: what is measured changes no more."""
        if self._ended is None:
            self._sample()
            self._ended = time.monotonic()

    def _read(self) -> int | None:
        return None if self._account is None else self._account.cpu_ms()

    def _sample(self) -> None:
        """It never counts backwards, and a container that is gone keeps what it had."""
        found = self._read() if self._ended is None else None
        if found is not None:
            self._cpu_ms = max(self._cpu_ms or 0, found - self._before_ms)

    async def _look(self) -> None:
        """Ask the engine, where the container's processes are not on this machine."""
        while not self.exited.done():
            try:
                state = await self._engine.state(self.id)
                if state is None or not state.running:
                    self._exit()
                    return
                found = await self._engine.cpu_ms(self.id)
                if found is not None and self._ended is None:
                    self._cpu_ms = max(self._cpu_ms or 0, found - self._before_ms)
            except TheoryError as error:
                log.warning("adapter.container.unseen", code=error.code, reason=error.message)
            await asyncio.wait({self.exited}, timeout=_POLL_S)

    def _exit(self) -> None:
        self.finish()
        if not self.exited.done():
            self.exited.set_result(None)

    async def state(self) -> Ended | None:
        """How it stands, by the engine, which learns of an end after the kernel knows."""
        until = time.monotonic() + _ENGINE_S
        while True:
            state = await self._engine.state(self.id)
            late = state is not None and state.running and self.exited.done()
            if not late or time.monotonic() > until:
                return state
            await asyncio.sleep(_SOCKET_S)

    async def stop(self) -> bool:
        """Ask it to end, kill it after the grace; whether its end is confirmed."""
        return await self._confirmed(self._engine.stop(self.id, grace_s=STOP_S))

    async def remove(self) -> bool:
        """Kill and remove it with everything that it holds; whether it is gone."""
        self._sample()
        gone = await self._confirmed(self._engine.remove(self.id))
        self.close()
        return gone

    async def _confirmed(self, ending: Any) -> bool:  # noqa: ANN401 - a coroutine of the engine
        try:
            await ending
            state = await self._engine.state(self.id)
        except TheoryError as error:
            log.warning("adapter.container.unstopped", code=error.code, reason=error.message)
            return False
        if state is not None and state.running:
            return False
        self._exit()
        return True

    def close(self) -> None:
        """Stop watching it."""
        if self._watch is not None:
            self._watch.close()
        if self._looking is not None:
            self._looking.cancel()

    async def tail(self, hidden: tuple[str, ...]) -> str:
        """The end of what it wrote, at most 2 KiB, redacted; empty where nobody can say."""
        try:
            # The engine has all of it once it knows of the end.
            await self.state()
        except TheoryError:
            return ""
        said = await self._engine.tail(self.id, lines=_LINES)
        text = Redactor(hidden).text(said.decode("utf-8", "replace")).strip()
        kept = "".join(char for char in text if char.isprintable() or char == "\n")
        return kept.encode()[-LIMITS["stderr_tail_bytes"] :].decode("utf-8", "ignore")


def _is_socket(path: Path) -> bool:
    try:
        return stat.S_ISSOCK(path.lstat().st_mode)
    except OSError:
        return False
