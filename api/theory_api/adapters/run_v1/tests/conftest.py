"""Servers that say what they are told, and a client that listens."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection, unix_serve
from websockets.typing import Subprotocol

from theory_api.adapters.run_v1 import client as client_module
from theory_api.adapters.run_v1.client import Dial, RunClient, dial_socket
from theory_core import RUN_SUBPROTOCOL, digest, encode_frame

PREFIX = "/artifacts/outputs/test-deeds-v1/x1/"
PRINT = "cpu:1;memory:1Gi;platform:amd64;runtime:python3"
PAYLOAD = {
    "schema": "v1",
    "ref": "test/deeds@1",
    "mode": "mock",
    "inputs": {"schema": "v1", "params": {}},
    "write_prefix": PREFIX,
    "upload": {
        "url": "http://localhost/objects/",
        "headers": {},
        "expires_at": "2030-01-01T00:00:00.000000Z",
        "max_bytes": 1,
    },
    "env_fingerprint": PRINT,
    "registry_snapshot": digest(b""),
    "timeout_s": 5,
    "secrets": [],
}
Handler = Callable[[ServerConnection], Awaitable[None]]
Serve = Callable[..., Awaitable[None]]


def frame(kind: str, seq: int, **content: object) -> str:
    return encode_frame(kind, content, seq=seq).decode()


def ack(name: str = "x1") -> str:
    return frame("Ack", 0, execution_id=name, state="running")


def token(seq: int) -> str:
    return frame("Token", seq, text=str(seq))


def result(seq: int, name: str = "x1", prefix: str = PREFIX) -> str:
    return frame(
        "RunResult",
        seq,
        status="success",
        execution_id=name,
        outputs=[],
        index_path=f"{prefix}outputs.json",
        meta={"env_fingerprint": PRINT},
    )


@pytest.fixture
def path() -> Iterator[str]:
    folder = Path(tempfile.mkdtemp(prefix="th-", dir="/tmp"))
    yield str(folder / "run.sock")
    shutil.rmtree(folder)


@pytest.fixture
async def serve(path: str) -> AsyncIterator[Serve]:
    servers = []

    async def start(handler: Handler, *, subprotocol: str = RUN_SUBPROTOCOL) -> None:
        server = await unix_serve(
            handler,
            path,
            subprotocols=[Subprotocol(subprotocol)],
            select_subprotocol=lambda _connection, offered: (
                Subprotocol(subprotocol) if subprotocol in offered else None
            ),
            close_timeout=0.5,
        )
        servers.append(server)

    yield start
    for server in servers:
        server.close()
        await server.wait_closed()


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "REATTACH_S", (0.01, 0.01, 0.01))


async def run(to: str | Dial, heard: list[Mapping[str, Any]] | None = None) -> Mapping[str, Any]:
    async def keep(said: Mapping[str, Any]) -> None:
        if heard is not None:
            heard.append(said)

    dial = dial_socket(to) if isinstance(to, str) else to
    return await RunClient(dial, "x1").run(PAYLOAD, on_frame=keep, expected_oci=None)


def saying(*messages: str | bytes) -> Handler:
    """A server that says this after the opening, then waits to be closed."""

    async def handler(connection: ServerConnection) -> None:
        await connection.recv()
        for message in messages:
            await connection.send(message)
        await connection.wait_closed()

    return handler
