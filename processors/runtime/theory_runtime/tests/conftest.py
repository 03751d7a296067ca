"""A served processor, a gateway that keeps what it is sent, and frames by hand."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import socketserver
import sys
import tempfile
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect, unix_connect
from websockets.typing import Subprotocol

from theory_core import RUN_SUBPROTOCOL, digest
from theory_runtime.machine import architecture

MAIN = Path(__file__).parent / "fixtures" / "test" / "deeds" / "1" / "main.py"
PREFIX = "/artifacts/outputs/test-deeds-v1/x1/"


@dataclass
class Kept:
    """What a gateway got and what it is told to answer."""

    objects: dict[str, bytes] = field(default_factory=dict)
    inputs: dict[str, bytes] = field(default_factory=dict)
    refusals: list[tuple[int, bytes]] = field(default_factory=list)
    requests: int = 0


class _Handler(BaseHTTPRequestHandler):
    """PUT and GET over a unix socket."""

    protocol_version = "HTTP/1.1"
    kept: Kept

    def do_PUT(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.kept.requests += 1
        if self.kept.refusals:
            self._answer(*self.kept.refusals.pop(0))
            return
        self.kept.objects[self.path.removeprefix("/objects/")] = body
        self._answer(201, json.dumps({"cid": digest(body), "size_bytes": len(body)}).encode())

    def do_GET(self) -> None:
        body = self.kept.inputs.get(self.path.removeprefix("/inputs/"))
        self._answer(404 if body is None else 200, body or b"")

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_args: object) -> None:
        """Keep quiet."""

    def address_string(self) -> str:
        return "unix"


class _Listener(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True


@dataclass
class Service:
    """A processor under `--serve`."""

    folder: Path
    process: asyncio.subprocess.Process
    lifeline: int
    kept: Kept

    def connect(self, path: str = "/run", subprotocol: str | None = RUN_SUBPROTOCOL) -> connect:
        """A connection to it."""
        return unix_connect(
            str(self.folder / "run.sock"),
            f"ws://localhost{path}",
            subprotocols=None if subprotocol is None else [Subprotocol(subprotocol)],
            compression=None,
            max_size=None,
        )

    def opening(
        self, deed: str | None = None, *, role: str = "client", name: str = "x1", **more: object
    ) -> str:
        """A `RunOpen`, with a payload if there is a deed to do."""
        content: dict[str, Any] = {"role": role, "execution_id": name}
        if "resume_from" in more:
            content["resume_from"] = more.pop("resume_from")
        if deed is not None:
            content["payload"] = {
                "schema": "v1",
                "ref": "test/deeds@1",
                "mode": "mock",
                "inputs": {"schema": "v1", "params": {"do": deed, **more}},
                "write_prefix": PREFIX,
                "upload": {
                    "url": "http://localhost/objects/",
                    "headers": {},
                    "socket": str(self.folder / "io.sock"),
                    "expires_at": "2030-01-01T00:00:00.000000Z",
                    "max_bytes": 1 << 30,
                },
                "env_fingerprint": fingerprint(),
                "registry_snapshot": digest(b""),
                "timeout_s": 60,
                "secrets": [],
            }
        return json.dumps({"kind": "RunOpen", "content": content})


def fingerprint(memory: str = "4Gi") -> str:
    """The declared facts of this machine."""
    return f"cpu:1;memory:{memory};platform:{architecture()};runtime:python3"


async def frames(connection: ClientConnection) -> list[dict[str, Any]]:
    """All frames up to the close."""
    return [json.loads(message) async for message in connection]


async def close_of(connection: ClientConnection) -> int | None:
    await connection.wait_closed()
    return connection.close_code


async def frames_until_quiet(connection: ClientConnection) -> list[dict[str, Any]]:
    heard = []
    try:
        while True:
            heard.append(json.loads(await asyncio.wait_for(connection.recv(), 0.5)))
    except TimeoutError:
        return heard


async def both(client: ClientConnection, controller: ClientConnection) -> list[dict[str, Any]]:
    """What the client hears, while the controller listens too."""
    listening = asyncio.create_task(frames(controller))
    heard = await frames(client)
    await listening
    return heard


def control(op: str, **more: object) -> str:
    """A `Control` frame."""
    return json.dumps({"kind": "Control", "content": {"op": op, **more}})


@pytest.fixture
def short() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="th-", dir="/tmp"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def gateway(short: Path) -> Iterator[Kept]:
    kept = Kept()
    handler = type("Handler", (_Handler,), {"kept": kept})
    with _Listener(str(short / "io.sock"), handler) as listener:
        thread = threading.Thread(target=listener.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        yield kept
        listener.shutdown()
        thread.join()


async def listens(path: Path) -> bool:
    try:
        _, writer = await asyncio.open_unix_connection(str(path))
    except OSError:
        return False
    writer.close()
    await writer.wait_closed()
    return True


@pytest.fixture
async def service(
    short: Path, gateway: Kept, request: pytest.FixtureRequest
) -> AsyncIterator[Service]:
    """The processor that does what it is told, started with what a test adds."""
    async with serving(short, gateway, *getattr(request, "param", ())) as made:
        yield made


@contextlib.asynccontextmanager
async def serving(short: Path, gateway: Kept, *flags: str) -> AsyncIterator[Service]:
    """A processor under `--serve`, and more flags."""
    held, lifeline = os.pipe()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, str(MAIN), "--serve", str(short), "--lifeline", str(held), *flags),
        pass_fds=(held,),
        start_new_session=True,
    )
    os.close(held)
    while not await listens(short / "run.sock"):
        assert process.returncode is None
        await asyncio.sleep(0.02)
    made = Service(short, process, lifeline, gateway)
    yield made
    os.close(made.lifeline)
    await asyncio.wait_for(process.wait(), 10)
