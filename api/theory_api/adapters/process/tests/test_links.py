"""A real run over a link that breaks again and again."""

from __future__ import annotations

import asyncio
import random
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest

from theory_api.adapters.memory.artifacts import MemoryArtifacts
from theory_api.adapters.memory.intakes import MemoryIntakes
from theory_api.adapters.process.supervisor import Supervisor
from theory_api.adapters.process.tests.conftest import FIXTURES, PLAN, PRINT, REF
from theory_api.adapters.run_v1 import client as client_module
from theory_api.adapters.run_v1.client import RunClient, dial_url
from theory_api.adapters.run_v1.gateway import UPLOAD_URL, Gateway, GatewayServer
from theory_api.adapters.run_v1.health import HealthPace, await_healthy
from theory_core import digest

PREFIX = "/artifacts/outputs/test-deeds-v1/x1/"


class Shears:
    """A TCP way to a socket that cuts each connection after so many bytes of its answers."""

    def __init__(self, path: Path, choice: random.Random) -> None:
        self._path = path
        self._choice = choice
        self._writers: list[asyncio.StreamWriter] = []
        self.count = 0

    async def open(self) -> str:
        self._server = await asyncio.start_server(self._pass, "127.0.0.1", 0)
        return f"ws://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/run"

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.count += 1
        inner, there = await asyncio.open_unix_connection(str(self._path))
        self._writers += [writer, there]
        left = self._choice.randint(2_000, 60_000)
        onward = asyncio.create_task(self._onward(reader, there))
        try:
            while left > 0 and (data := await inner.read(min(left, 5_000))):
                left -= len(data)
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        for one in (writer, there):
            one.transport.abort()
        await onward

    @staticmethod
    async def _onward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(5_000):
                writer.write(data)
        except OSError:
            return

    async def close(self) -> None:
        self._server.close()
        for writer in self._writers:
            writer.close()
        await self._server.wait_closed()
        await asyncio.sleep(0.05)


@pytest.mark.parametrize("seed", range(3))
async def test_over_a_link_that_breaks_again_and_again_each_frame_is_heard_once(
    short: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "REATTACH_S", (0.01, 0.01, 0.01))
    intakes = MemoryIntakes(MemoryArtifacts())
    await intakes.open("x1", plan=PLAN, write_prefix=PREFIX, inputs=(), max_bytes=1 << 20)
    door = await GatewayServer.open(short / "io.sock", Gateway("x1", intakes))
    main_file = FIXTURES / "test" / "deeds" / "1" / "main.py"
    supervisor = Supervisor.start(Path(sys.executable), main_file, short)
    shears = Shears(short / "run.sock", random.Random(seed))  # noqa: S311 - no secret
    await await_healthy(
        httpx.AsyncHTTPTransport(uds=str(short / "run.sock")),
        ended=asyncio.shield(supervisor.exited),
        pace=HealthPace(),
    )
    heard: list[int] = []

    async def keep(frame: Mapping[str, Any]) -> None:
        heard.append(frame["seq"])

    payload = {
        "schema": "v1",
        "ref": REF,
        "mode": "mock",
        "inputs": {"schema": "v1", "params": {"do": "flood", "count": 4000, "size": 60}},
        "write_prefix": PREFIX,
        "upload": {
            "url": UPLOAD_URL,
            "headers": {},
            "socket": str(short / "io.sock"),
            "expires_at": "2030-01-01T00:00:00.000000Z",
            "max_bytes": 1 << 20,
        },
        "env_fingerprint": PRINT,
        "registry_snapshot": digest(b""),
        "timeout_s": 60,
        "secrets": [],
    }
    client = RunClient(dial_url(await shears.open(), one_server=True), "x1")
    envelope = await client.run(payload, on_frame=keep, expected_oci=None)
    assert envelope["status"] == "success", seed
    assert shears.count > 3, seed
    assert [seq for seq in heard if seq] == list(range(1, 4002)), seed
    assert sorted(one.relpath for one in intakes.received("x1")) == ["outputs.json", "receipt.json"]
    await supervisor.end(grace_s=5)
    await shears.close()
    await door.close()
