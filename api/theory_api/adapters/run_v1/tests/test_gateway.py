"""The door of one execution: what it takes, what it gives, and that it does nothing else."""

from __future__ import annotations

import asyncio
import json
import shutil
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from structlog.testing import capture_logs

from theory_api.adapters.memory.artifacts import MemoryArtifacts
from theory_api.adapters.memory.intakes import MemoryIntakes
from theory_api.adapters.run_v1.gateway import Gateway, GatewayServer
from theory_api.ports.intake import InputArtifact
from theory_core import digest

PLAN = "/world/acme/p1"
PREFIX = "/artifacts/outputs/test-deeds-v1/x1/"
INPUT = b"input" * 100_000


class Door:
    """A gateway that serves, its client, and what is behind it."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "io.sock"
        self.artifacts = MemoryArtifacts()
        self.intakes = MemoryIntakes(self.artifacts)
        self.client = httpx.AsyncClient(
            transport=httpx.AsyncHTTPTransport(uds=str(self.path)), base_url="http://localhost"
        )
        self.server: GatewayServer
        self.gateway: Gateway
        self.now = 0.0

    async def open(self) -> None:
        blob = await self.artifacts.put(INPUT)
        declared = InputArtifact("/artifacts/in", blob.cid, blob.size_bytes, "text/plain")
        await self.intakes.open(
            "x1", plan=PLAN, write_prefix=PREFIX, inputs=(declared,), max_bytes=10_000_000
        )
        self.gateway = Gateway(
            "x1", self.intakes, expires_in_s=60, max_bytes=1_000_000_000, clock=lambda: self.now
        )
        self.server = await GatewayServer.open(self.path, self.gateway)

    def received(self) -> list[str]:
        return [one.relpath for one in self.intakes.received("x1")]


@pytest.fixture
async def door() -> AsyncIterator[Door]:
    folder = Path(tempfile.mkdtemp(prefix="th-", dir="/tmp"))
    made = Door(folder)
    await made.open()
    yield made
    await made.client.aclose()
    await made.server.close()
    await made.server.close()
    assert not made.path.exists()
    shutil.rmtree(folder)


def code(answer: httpx.Response) -> str:
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["status"] == answer.status_code
    return str(problem["code"])


@pytest.mark.scenario(62)
async def test_an_object_is_put_once_and_confirmed_by_its_digest(door: Door) -> None:
    for _ in range(2):
        headers = {"content-type": "text/plain"}
        answer = await door.client.put("/objects/outputs/a.txt", content=b"a", headers=headers)
        assert answer.status_code == 201
        assert answer.json() == {"cid": digest(b"a"), "size_bytes": 1}
    (received,) = door.intakes.received("x1")
    assert (received.relpath, received.mime) == ("outputs/a.txt", "text/plain")
    other = await door.client.put("/objects/outputs/a.txt", content=b"b")
    assert code(other) == "ERR_OUTPUT_DUPLICATE"


@pytest.mark.scenario(51)
async def test_an_escaped_path_is_decoded_once(door: Door) -> None:
    answer = await door.client.put("/objects/outputs/%C3%9C%20x", content=b"a")
    assert answer.status_code == 201
    assert door.received() == ["outputs/ü x"]
    assert code(await door.client.put("/objects/outputs/a%252fb", content=b"")) == (
        "ERR_OUTPUT_PREFIX"
    )


@pytest.mark.scenario(51)
@pytest.mark.parametrize(
    "path",
    [
        "/objects/outputs/%2e%2e/x",
        "/objects/outputs/a%2fb",
        "/objects/elsewhere",
        "/objects/",
        "/objects/outputs/",
        "/objects//outputs/x",
        "/objects/outputs/%00",
    ],
)
async def test_a_path_outside_is_refused(door: Door, path: str) -> None:
    assert code(await door.client.put(path, content=b"x")) == "ERR_OUTPUT_PREFIX"
    assert door.received() == []


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/"),
        ("GET", "/objects/outputs/a"),
        ("DELETE", "/objects/outputs/a"),
        ("POST", "/objects/outputs/a"),
        ("PUT", "/inputs/x"),
        ("PUT", "/objects/outputs/a?x=1"),
        ("GET", "/inputs/"),
        ("GET", "/inputs/b3:00"),
        ("GET", "/healthz"),
    ],
)
async def test_there_is_nothing_else_here(door: Door, method: str, path: str) -> None:
    assert code(await door.client.request(method, path, content=b"x")) == "ERR_NOT_FOUND"
    assert door.received() == []


async def test_declared_inputs_are_read_whole(door: Door) -> None:
    answer = await door.client.get(f"/inputs/{digest(INPUT)}")
    assert answer.status_code == 200
    assert answer.content == INPUT
    other = await door.artifacts.put(b"not declared")
    assert code(await door.client.get(f"/inputs/{other.cid}")) == "ERR_NOT_FOUND"


@pytest.mark.scenario(61)
async def test_an_input_that_rotted_is_never_whole(door: Door) -> None:
    door.artifacts.blobs[digest(INPUT)] = b"other" * 100_000
    try:
        answer = await door.client.get(f"/inputs/{digest(INPUT)}")
    except httpx.RemoteProtocolError:
        return
    assert code(answer) == "ERR_ARTIFACT_DIGEST"


async def test_a_refusal_reaches_a_sender_that_is_still_sending(door: Door) -> None:
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(300):
            yield b"x" * 65_536

    answer = await door.client.put("/objects/outputs/big", content=endless())
    assert code(answer) == "ERR_TOO_LARGE"
    assert door.received() == []


async def test_a_sender_that_leaves_delivers_nothing(door: Door) -> None:
    _, writer = await asyncio.open_unix_connection(str(door.path))
    writer.write(b"PUT /objects/outputs/a HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhalf")
    await writer.drain()
    writer.close()
    await writer.wait_closed()
    await asyncio.sleep(0.1)
    assert door.received() == []
    assert (await door.client.put("/objects/outputs/a", content=b"all")).status_code == 201


async def test_after_the_intake_nothing_arrives(door: Door) -> None:
    await door.intakes.close("x1")
    assert code(await door.client.put("/objects/outputs/a", content=b"a")) == "ERR_UPLOAD"
    assert code(await door.client.get(f"/inputs/{digest(INPUT)}")) == "ERR_NOT_FOUND"


@pytest.mark.scenario(63)
async def test_after_its_time_nothing_arrives(door: Door) -> None:
    door.now = 59.9
    assert (await door.client.put("/objects/outputs/a", content=b"a")).status_code == 201
    door.now = 60.0
    assert code(await door.client.put("/objects/outputs/b", content=b"b")) == "ERR_UPLOAD"
    assert code(await door.client.get(f"/inputs/{digest(INPUT)}")) == "ERR_NOT_FOUND"
    assert door.received() == ["outputs/a"]


async def test_after_a_cancel_only_the_receipt_arrives(door: Door) -> None:
    door.gateway.shut()
    for name in ("outputs/a", "outputs.json", "outputs/receipt.json"):
        assert code(await door.client.put(f"/objects/{name}", content=b"{}")) == "ERR_UPLOAD"
    assert code(await door.client.get(f"/inputs/{digest(INPUT)}")) == "ERR_NOT_FOUND"
    assert (await door.client.put("/objects/receipt.json", content=b"{}")).status_code == 201
    assert door.received() == ["receipt.json"]
    door.now = 60.0
    assert code(await door.client.put("/objects/receipt.json", content=b"{}")) == "ERR_UPLOAD"


@pytest.mark.parametrize("late", ["cancelled", "expired"])
async def test_what_is_on_its_way_when_the_door_shuts_is_refused(door: Door, late: str) -> None:
    async def body() -> AsyncIterator[bytes]:
        yield b"x" * 1000
        await asyncio.sleep(0.05)
        if late == "cancelled":
            door.gateway.shut()
        else:
            door.now = 61.0
        yield b"x" * 1000

    assert code(await door.client.put("/objects/outputs/a", content=body())) == "ERR_UPLOAD"
    assert door.received() == []


async def test_after_the_index_only_the_receipt_arrives(door: Door) -> None:
    for name in ("outputs/a", "outputs.json", "receipt.json"):
        assert (await door.client.put(f"/objects/{name}", content=b"{}")).status_code == 201
    assert code(await door.client.put("/objects/outputs/b", content=b"{}")) == "ERR_UPLOAD"
    assert code(await door.client.put("/objects/outputs.json", content=b"[]")) == (
        "ERR_OUTPUT_DUPLICATE"
    )


async def raw(door: Door, request: bytes) -> bytes:
    """What the door answers to these bytes, up to the end or a second of silence."""
    reader, writer = await asyncio.open_unix_connection(str(door.path))
    writer.write(request)
    await writer.drain()
    said = b""
    try:
        async with asyncio.timeout(1):
            while piece := await reader.read(65536):
                said += piece
    except TimeoutError:
        pass
    writer.close()
    await writer.wait_closed()
    return said


PUT = b"PUT /objects/outputs/a HTTP/1.1\r\nHost: x\r\n"


@pytest.mark.scenario(99)
@pytest.mark.parametrize(
    "head",
    [
        b"Content-Length: -1\r\n",
        b"Content-Length: 1e3\r\n",
        b"Content-Length: 1\r\nContent-Length: 2\r\n",
        b"Content-Length: 99999999999999999999999999\r\n",
        b"Transfer-Encoding: gzip, chunked\r\n",
        b"X: " + b"x" * 70_000 + b"\r\n",
    ],
)
async def test_a_head_that_lies_about_its_body_is_refused(door: Door, head: bytes) -> None:
    said = await raw(door, PUT + head + b"\r\nx")
    assert said.split(b" ")[1][:1] in {b"4", b"5"}
    assert door.received() == []


async def test_a_length_over_the_allowance_is_refused_before_its_body_is_stored(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(door.intakes, "put", None)
    gateway: Any = Gateway("x1", door.intakes, max_bytes=10)
    transport = httpx.ASGITransport(gateway)
    async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
        answer = await client.put("/objects/outputs/a", content=b"x" * 11)
    assert code(answer) == "ERR_TOO_LARGE"


async def test_more_than_was_announced_is_no_part_of_the_object(door: Door) -> None:
    said = await raw(door, PUT + b"Content-Length: 3\r\n\r\nabcdef")
    assert said.startswith(b"HTTP/1.1 201 ")
    (received,) = door.intakes.received("x1")
    assert (received.cid, received.size_bytes) == (digest(b"abc"), 3)


async def test_a_body_in_chunks_is_taken_whole_or_not_at_all(door: Door) -> None:
    chunked = PUT + b"Transfer-Encoding: chunked\r\n\r\n"
    assert b" 201 " not in await raw(door, chunked + b"3\r\nabc\r\n")
    assert b" 201 " not in await raw(door, chunked + b"3\r\nabcd\r\n0\r\n\r\n")
    assert door.received() == []
    assert b" 201 " in await raw(door, chunked + b"3\r\nabc\r\n0\r\n\r\n")
    assert [one.cid for one in door.intakes.received("x1")] == [digest(b"abc")]


async def test_a_problem_holds_the_catalogues_words_alone(door: Door) -> None:
    answer = await door.client.put("/objects/elsewhere/canary", content=b"canary")
    assert "canary" not in answer.text
    assert set(json.loads(answer.content)) == {"type", "title", "status", "code"}


async def test_closing_cuts_what_is_still_open(door: Door) -> None:
    reader, writer = await asyncio.open_unix_connection(str(door.path))
    writer.write(b"PUT /objects/outputs/a HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhalf")
    await writer.drain()
    await asyncio.sleep(0.05)
    await asyncio.wait_for(door.server.close(), 5)
    assert b"201" not in await reader.read()
    writer.close()
    assert door.received() == []


@pytest.mark.scenario(80)
async def test_a_folder_in_place_of_its_socket_stays_for_whoever_removes_the_rest(
    door: Door,
) -> None:
    """Where a container may write, it may take the socket away and put anything there."""
    door.path.unlink()
    (door.path / "more").mkdir(parents=True)
    for _ in range(2):
        with capture_logs() as lines:
            await door.server.close()
        assert [line["event"] for line in lines] == ["run.door.blocked"]
    assert (door.path / "more").is_dir()
    shutil.rmtree(door.path)
