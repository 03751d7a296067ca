"""A server that can be killed, and a client that keeps everything that it was told."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import signal
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import asyncpg
import httpx
import psutil
from websockets.asyncio.client import connect
from websockets.exceptions import WebSocketException

from theory_core import loads_strict

ROOT: Final = Path(__file__).resolve().parents[3]
SERVER: Final = Path(__file__).with_name("doomed_server.py")
HOSTILE: Final = Path(__file__).parent / "hostile"
BACK_S: Final = 120.0
"""How long a server may take to be back: the lease of the one before it, and its own start."""

SHARDS: Final = 2
"""Of a PostgreSQL: one server owns them all, each with an engine of its own."""

ENDINGS: Final = frozenset({"plan.completed", "plan.failed", "plan.cancelled"})
STEPS: Final = {"a": (), "b": ("a",), "c": ("a",), "d": ("b", "c"), "e": (), "f": ("d", "e")}


def places(base: Path) -> dict[str, str]:
    """The environment of a server: the shipped registry with one processor of the tests."""
    shutil.copytree(ROOT / "registry", base / "registry")
    spec = base / "registry" / "processors" / "test" / "hostile"
    spec.mkdir(parents=True)
    shutil.copy(HOSTILE / "spec.yaml", spec / "1.yaml")
    home = base / "processors" / "test" / "hostile" / "1"
    home.mkdir(parents=True)
    for name in ("main.py", "provider.py"):
        shutil.copy(HOSTILE / name, home / name)
    return {
        "LANG": "C.UTF-8",
        "THEORY_LOG": "error",
        "THEORY_SHARDS": str(SHARDS),
        "THEORY_REGISTRY": str(base / "registry"),
        "THEORY_PROCESSORS": str(base / "processors"),
    }


def document(name: str, *, seconds: float = 0.0) -> dict[str, Any]:
    """A plan of six steps, three deep."""
    step = {"processor_ref": "test/hostile@1", "mode": "mock"}
    inputs = {"how": "fine", "seconds": seconds}
    last = {"transition": "f", "path": "outputs/fine.txt"}
    return {
        "schema": "theory.plan.v1",
        "plan": name,
        "lane": "build",
        "budget": {"cpu_ms": 2_000_000, "latency_ms": 2_000_000},
        "goal": [{"name": "artifact.exists@1", "params": last}],
        "transitions": {
            step_name: {**step, "inputs": inputs, "depends_on": list(before)}
            for step_name, before in STEPS.items()
        },
    }


@dataclass
class Told:
    """What a client was told of one plan: acknowledged for good."""

    name: str
    answer: tuple[int, bytes] | None = None
    frames: list[bytes] = field(default_factory=list)
    """Export lines as the stream gave them, from seq 1 on."""

    @property
    def plan(self) -> str:
        return f"/world/local/{self.name}"

    @property
    def ended(self) -> bool:
        if not self.frames:
            return False
        return loads_strict(self.frames[-1])["event"]["kind"] in ENDINGS


@dataclass
class Server:
    """One home, one database, and at most one process over them."""

    home: Path
    database: str
    """`-`, or the address by which the server reaches it."""
    place: str
    environment: dict[str, str]
    admin: str = ""
    """The address by which the test reaches a PostgreSQL."""
    url: str = ""
    owner: str = ""
    """Under which name the last one owned shards of a PostgreSQL."""
    process: asyncio.subprocess.Process | None = None
    below: list[psutil.Process] = field(default_factory=list)

    async def start(self, *, at_once: bool = True) -> None:
        """Start, and wait until it owns all there is, once the lease of a dead owner has run out.

        `at_once` lets it run out without waiting.
        """
        if at_once and self.admin:
            await expire(self.admin)
        until = asyncio.get_running_loop().time() + BACK_S
        while not await self._started():
            assert asyncio.get_running_loop().time() < until, self._log.read_text()[-4000:]
            await asyncio.sleep(0.3)
        while self.admin and not await self._owns():
            assert asyncio.get_running_loop().time() < until, self._log.read_text()[-4000:]
            await asyncio.sleep(0.05)

    async def _owns(self) -> bool:
        owners = await fresh_owners(self.admin)
        if len(owners) < SHARDS or len(set(owners)) > 1 or owners[0] == self.owner:
            return False
        self.owner = owners[0]
        return True

    async def _started(self) -> bool:
        command = [sys.executable, str(SERVER), str(self.home), self.database, self.place]
        with self._log.open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                *command,
                env=self.environment,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
            )
        self.url = (await self._line()).strip()
        if self.url:
            return True
        await self.process.wait()
        assert "ERR_NOT_WRITER" in self._log.read_text(), self._log.read_text()[-4000:]
        return False

    @property
    def _log(self) -> Path:
        return self.home.with_name(self.home.name + ".log")

    @property
    def key(self) -> str:
        return (self.home / "api-key").read_text().strip()

    @property
    def running(self) -> asyncio.subprocess.Process:
        assert self.process is not None
        return self.process

    async def _line(self) -> str:
        """What it says; `TimeoutError` is kept for plans that do not end."""
        assert self.running.stdout is not None
        reading = asyncio.ensure_future(self.running.stdout.readline())
        await asyncio.wait({reading}, timeout=BACK_S)
        assert reading.done(), f"it says nothing for {BACK_S} s: {self._log.read_text()[-4000:]}"
        return reading.result().decode()

    async def arm(self, window: str, left: int) -> None:
        """Have it kill itself at the `left`-th arrival at a window from now on."""
        assert self.running.stdin is not None
        self.running.stdin.write(f"{window} {left}\n".encode())
        await self.running.stdin.drain()
        assert await self._line() == "armed\n"

    def kill(self) -> None:
        """SIGKILL, now."""
        with contextlib.suppress(ProcessLookupError):
            self.running.send_signal(signal.SIGKILL)

    async def died(self, *, within_s: float) -> bool:
        """Whether it ended by SIGKILL in time; what it had started is remembered."""
        until = asyncio.get_running_loop().time() + within_s
        with contextlib.suppress(psutil.NoSuchProcess):
            watched = psutil.Process(self.running.pid)
            while self.running.returncode is None:
                with contextlib.suppress(psutil.NoSuchProcess):
                    self.below = watched.children(recursive=True) or self.below
                if asyncio.get_running_loop().time() > until:
                    return False
                await asyncio.sleep(0.01)
        return await self.running.wait() == -signal.SIGKILL

    async def survivors(self, *, within_s: float) -> list[str]:
        """Command lines of processes that outlived the server by more than this."""
        below, self.below = self.below, []
        _, alive = await asyncio.to_thread(psutil.wait_procs, below, timeout=within_s)
        return [" ".join(one.cmdline()) for one in alive if one.is_running()]

    async def stop(self) -> None:
        """End it in order, or by force."""
        if self.process is None or self.process.returncode is not None:
            return
        self.process.terminate()
        try:
            await asyncio.wait_for(self.process.wait(), 30)
        except TimeoutError:
            self.process.kill()
            await self.process.wait()

    # -- the client -------------------------------------------------------------------------

    async def post(self, told: Told, **fields: Any) -> None:  # noqa: ANN401 - of the document
        """Create the plan under its key; the answer is kept, a lost one is none.

        A client tries again while it is told to; the first answer is the only one.
        """
        headers = {"Authorization": f"Bearer {self.key}", "Idempotency-Key": f"key-{told.name}"}
        body = {"document": document(told.name, **fields)}
        async with httpx.AsyncClient(base_url=self.url, headers=headers, timeout=30) as client:
            while True:
                try:
                    got = await client.post("/v1/plans", json=body)
                except httpx.TransportError:
                    return
                if got.status_code not in {409, 429, 503}:
                    break
                await asyncio.sleep(0.05)
        answer = (got.status_code, got.content)
        assert got.status_code == 201, answer
        assert told.answer in {None, answer}, "another answer to the same key"
        told.answer = answer

    async def follow(self, told: Told) -> None:
        """Read the plan's events from the first that was not read, until it ends or the server."""
        address = self.url.replace("http", "ws", 1) + f"/v1/plans/local/{told.name}/events"
        headers = {"Authorization": f"Bearer {self.key}"}
        try:
            async with connect(
                f"{address}?after={len(told.frames)}", additional_headers=headers
            ) as stream:
                async for frame in stream:
                    told.frames.append(str(frame).encode() + b"\n")
        except (OSError, WebSocketException, TimeoutError):
            return


async def expire(admin: str) -> None:
    """Let the lease of a dead owner run out, which takes seconds, at once."""
    connection = await asyncpg.connect(admin)
    try:
        for table in ("shard_lease", "replica"):
            if await connection.fetchval("SELECT to_regclass($1) IS NOT NULL", table):
                await connection.execute(f"UPDATE {table} SET renewed_at = 'epoch'")  # noqa: S608
    finally:
        await connection.close()


async def fresh_owners(admin: str) -> list[str]:
    """Who owns a shard by a lease that is fresh: a name for each such shard."""
    asked = "SELECT owner FROM shard_lease WHERE renewed_at > clock_timestamp() - interval '3 s'"
    connection = await asyncpg.connect(admin)
    try:
        return [row[0] for row in await connection.fetch(asked)]
    finally:
        await connection.close()
