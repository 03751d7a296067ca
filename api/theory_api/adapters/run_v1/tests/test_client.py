"""The client against servers that keep the rules, break them, or go away."""

from __future__ import annotations

import asyncio
import json
import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
from structlog.testing import capture_logs
from websockets.asyncio.server import ServerConnection, unix_serve
from websockets.typing import Subprotocol

from theory_api.adapters.run_v1 import client as client_module
from theory_api.adapters.run_v1.client import RunClient, dial_socket, send_control
from theory_api.adapters.run_v1.health import HealthPace, await_healthy
from theory_core import RUN_SUBPROTOCOL, RunProtocol, TheoryError, digest, encode_frame

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


async def run(path: str, heard: list[Mapping[str, Any]] | None = None) -> Mapping[str, Any]:
    async def keep(said: Mapping[str, Any]) -> None:
        if heard is not None:
            heard.append(said)

    return await RunClient(dial_socket(path), "x1").run(PAYLOAD, on_frame=keep, expected_oci=None)


def saying(*messages: str | bytes) -> Handler:
    """A server that says this after the opening, then waits to be closed."""

    async def handler(connection: ServerConnection) -> None:
        await connection.recv()
        for message in messages:
            await connection.send(message)
        await connection.wait_closed()

    return handler


async def test_frames_are_handed_on_in_order_and_the_envelope_returned(
    path: str, serve: Serve
) -> None:
    await serve(saying(ack(), token(1), token(2), result(3)))
    heard: list[Mapping[str, Any]] = []
    envelope = await run(path, heard)
    assert envelope["status"] == "success"
    assert [one["seq"] for one in heard] == [0, 1, 2, 3]


@pytest.mark.scenario(20)
async def test_of_two_results_the_first_counts_and_is_told_once(path: str, serve: Serve) -> None:
    twice = [ack(), result(1), result(2)]
    await serve(saying(*twice))
    heard: list[Mapping[str, Any]] = []
    with capture_logs() as lines:
        envelope = await run(path, heard)
    assert envelope["status"] == "success"
    assert [one["seq"] for one in heard] == [0, 1]
    assert [line["event"] for line in lines].count("ws.run.settle") == 1
    protocol = RunProtocol("client")
    protocol.send("RunOpen", {"role": "client", "execution_id": "x1", "payload": PAYLOAD})
    for message in twice[:2]:
        protocol.receive(message)
    with pytest.raises(TheoryError) as caught:
        protocol.receive(twice[2])
    assert (caught.value.code, caught.value.detail["close"]) == ("ERR_WS_PROTOCOL", 1002)


async def test_a_gap_is_handed_on(path: str, serve: Serve) -> None:
    gap = encode_frame("Gap", {"from": 1, "to": 9}, seq=0).decode()
    await serve(saying(ack(), gap, token(10), result(11)))
    heard: list[Mapping[str, Any]] = []
    await run(path, heard)
    assert [one["kind"] for one in heard] == ["Ack", "Gap", "Token", "RunResult"]


async def test_a_lost_connection_is_opened_again_where_it_broke(path: str, serve: Serve) -> None:
    openings = []

    async def handler(connection: ServerConnection) -> None:
        opening = json.loads(await connection.recv())["content"]
        openings.append(opening.get("resume_from"))
        await connection.send(ack())
        if len(openings) == 1:
            await connection.send(token(1))
            await connection.send(token(2))
            connection.transport.abort()
            return
        await connection.send(token(3))
        await connection.send(result(4))
        await connection.wait_closed()

    await serve(handler)
    heard: list[Mapping[str, Any]] = []
    await run(path, heard)
    assert openings == [None, 2]
    assert [one["seq"] for one in heard if one["seq"]] == [1, 2, 3, 4]


async def test_connections_that_keep_breaking_are_given_up(path: str, serve: Serve) -> None:
    count = 0

    async def handler(connection: ServerConnection) -> None:
        nonlocal count
        count += 1
        connection.transport.abort()

    await serve(handler)
    with pytest.raises(TheoryError) as caught:
        await run(path)
    assert (caught.value.code, count) == ("ERR_WS_CLOSE", 4)


async def test_nobody_there_is_a_closed_connection(path: str) -> None:
    with pytest.raises(TheoryError) as caught:
        await run(path)
    assert caught.value.code == "ERR_WS_CLOSE"


async def test_a_handshake_that_is_never_answered_is_given_up(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "_OPEN_S", 0.05)
    ended = asyncio.Event()
    handled: list[asyncio.Task[Any]] = []

    async def silent(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        handled.append(task)
        await ended.wait()
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_unix_server(silent, path)
    with pytest.raises(TheoryError) as caught:
        await run(path)
    assert caught.value.code == "ERR_WS_TIMEOUT"
    ended.set()
    server.close()
    await asyncio.sleep(0.05)
    await asyncio.wait(handled)


@pytest.mark.parametrize(
    ("messages", "close"),
    [
        ((token(1),), 1002),
        ((ack(), ack()), 1002),
        ((ack("x2"),), 1008),
        ((ack(), token(2)), 1002),
        ((ack(), token(1), token(1)), 1002),
        ((ack(), result(1, "x2")), 1008),
        ((ack(), '{"kind":"RunResult","seq":1,"content":{}}'), 1008),
        ((ack(), "no json"), 1008),
        ((ack(), b"binary"), 1003),
    ],
)
async def test_a_server_that_breaks_the_rules_is_left_with_the_close_code(
    path: str, serve: Serve, messages: tuple[str | bytes, ...], close: int
) -> None:
    closed: list[int | None] = []
    inner = saying(*messages)

    async def handler(connection: ServerConnection) -> None:
        await inner(connection)
        closed.append(connection.close_code)

    await serve(handler)
    with pytest.raises(TheoryError) as caught:
        await run(path)
    assert caught.value.code in {"ERR_WS_PROTOCOL", "ERR_ADAPTER_INVOCATION"}
    await asyncio.sleep(0.05)
    assert closed == [close]


@pytest.mark.parametrize("code", [1002, 1003, 1008, 1009])
async def test_a_server_that_refuses_us_is_not_asked_again(
    path: str, serve: Serve, code: int
) -> None:
    count = 0

    async def handler(connection: ServerConnection) -> None:
        nonlocal count
        count += 1
        await connection.close(code)

    await serve(handler)
    with pytest.raises(TheoryError) as caught:
        await run(path)
    assert (caught.value.code, count) == ("ERR_WS_PROTOCOL", 1)
    assert caught.value.detail["close"] == code


async def test_another_subprotocol_is_a_violation(path: str, serve: Serve) -> None:
    await serve(saying(ack()), subprotocol="chat")
    with pytest.raises(TheoryError) as caught:
        await run(path)
    assert caught.value.code == "ERR_WS_PROTOCOL"


@pytest.mark.scenario(55)
async def test_an_envelope_for_another_prefix_is_refused(path: str, serve: Serve) -> None:
    await serve(saying(ack(), result(1, prefix="/artifacts/outputs/test-deeds-v1/x10/")))
    with pytest.raises(TheoryError) as caught:
        await run(path)
    assert caught.value.code == "ERR_ADAPTER_INVOCATION"
    assert caught.value.message == "adapter invocation failed: invalid index_path root"


async def test_control_has_a_connection_of_its_own(path: str, serve: Serve) -> None:
    said: list[dict[str, Any]] = []

    async def handler(connection: ServerConnection) -> None:
        said.append(json.loads(await connection.recv()))
        await connection.send(ack())
        said.append(json.loads(await connection.recv()))

    await serve(handler)
    await send_control(path, "x1", "set_budget", {"tokens": 5})
    await asyncio.sleep(0.05)
    assert said == [
        {"kind": "RunOpen", "content": {"role": "controller", "execution_id": "x1"}},
        {"kind": "Control", "content": {"op": "set_budget", "budget": {"tokens": 5}}},
    ]


def answering(*answers: httpx.Response | None) -> httpx.MockTransport:
    """A server whose first answers are these; the last is repeated, None is silence."""
    left = list(answers)

    def answer(_request: httpx.Request) -> httpx.Response:
        said = left.pop(0) if len(left) > 1 else left[0]
        if said is None:
            message = "nobody there"
            raise httpx.ConnectError(message)
        return said

    return httpx.MockTransport(answer)


HEALTHY = httpx.Response(200, content=b'{"ok":true}')
QUICK = HealthPace(budget_s=0.1, first_s=0.01, longest_s=0.02)


async def test_health_is_asked_until_it_is_there() -> None:
    never: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    early = [None, httpx.Response(503), httpx.Response(200, content=b'{"ok": true}')]
    await await_healthy(answering(*early, HEALTHY), ended=asyncio.shield(never), pace=QUICK)


@pytest.mark.parametrize("answer", [None, httpx.Response(200, content=b"ok")])
async def test_health_has_a_budget(answer: httpx.Response | None) -> None:
    never: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    with pytest.raises(TheoryError) as caught:
        await await_healthy(answering(answer), ended=asyncio.shield(never), pace=QUICK)
    assert (caught.value.code, caught.value.detail["reason"]) == ("ERR_HEALTH", "budget")


async def test_health_is_not_asked_of_the_dead() -> None:
    ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    ended.set_result(None)
    with pytest.raises(TheoryError) as caught:
        await await_healthy(answering(HEALTHY), ended=asyncio.shield(ended), pace=QUICK)
    assert caught.value.detail["reason"] == "ended"
