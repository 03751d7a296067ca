"""`/healthz` and `/run` from outside: who may say what, who hears what, and how it closes."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import unix_connect
from websockets.asyncio.server import ServerConnection, unix_serve
from websockets.exceptions import InvalidStatus
from websockets.typing import Subprotocol

from theory_core import RUN_SUBPROTOCOL
from theory_runtime import kin
from theory_runtime.run import Run
from theory_runtime.session import Session
from theory_runtime.tests.conftest import (
    Service,
    close_of,
    control,
    frames,
    frames_until_quiet,
)

IMAGE = "sha256:" + "d" * 64


async def ask(service: Service, request: bytes) -> tuple[bytes, bytes]:
    reader, writer = await asyncio.open_unix_connection(str(service.folder / "run.sock"))
    writer.write(request)
    head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    return head, body


async def test_health_is_exactly_one_object(service: Service) -> None:
    head, body = await ask(service, b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 ")
    assert b"application/json" in head
    assert body == b'{"ok":true}'
    head, _ = await ask(service, b"GET /elsewhere HTTP/1.1\r\nHost: x\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 404 ")


async def test_another_path_is_no_websocket(service: Service) -> None:
    with pytest.raises(InvalidStatus):
        async with service.connect("/other"):
            pass


@pytest.mark.parametrize("subprotocol", [None, "chat"])
async def test_another_subprotocol_is_1002(service: Service, subprotocol: str | None) -> None:
    async with service.connect(subprotocol=subprotocol) as connection:
        assert await close_of(connection) == 1002


def opening(**changes: object) -> str:
    content = {"role": "client", "execution_id": "x1", **changes}
    return json.dumps({"kind": "RunOpen", "content": content})


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (control("cancel"), 1002),
        ('{"kind":"Ack","content":{"execution_id":"x1","state":"running"},"seq":0}', 1008),
        ('{"kind":"Nothing","content":{}}', 1002),
        ("not json", 1008),
        ('{"kind":"RunOpen","kind":"RunOpen","content":{}}', 1008),
        ("[]", 1008),
        (b"binary", 1003),
        (opening(role="king"), 1008),
        (opening(payload={}), 1008),
        (opening(surprise=1), 1008),
        (opening(), 1008),
        (opening(role="observer"), 1008),
    ],
)
async def test_a_bad_beginning_has_its_close_code(
    service: Service, message: str | bytes, expected: int
) -> None:
    async with service.connect() as connection:
        await connection.send(message)
        assert await close_of(connection) == expected
    head, _ = await ask(service, b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
    assert b"200" in head


async def test_a_frame_over_the_limit_is_1009(service: Service) -> None:
    connection = await service.connect()
    await connection.send("x" * (8 * 1024 * 1024 + 1))
    assert await close_of(connection) == 1009


async def test_silence_at_the_beginning_is_1008(service: Service) -> None:
    async with service.connect() as connection:
        assert await asyncio.wait_for(close_of(connection), 15) == 1008


async def test_a_run_ends_with_one_result_and_1000(service: Service) -> None:
    async with service.connect() as connection:
        await connection.send(service.opening("tokens", count=3))
        heard = await frames(connection)
        assert connection.close_code == 1000
    kinds = [frame["kind"] for frame in heard]
    assert kinds == ["Ack", "Token", "Token", "Token", "Frame", "Log", "Event", "RunResult"]
    assert [frame["seq"] for frame in heard] == list(range(8))
    assert heard[0]["content"] == {"execution_id": "x1", "state": "running"}
    assert heard[-1]["content"]["status"] == "success"
    assert sorted(service.kept.objects) == ["outputs.json", "receipt.json"]


@pytest.mark.parametrize(
    ("service", "deed", "writer"),
    [
        (("--image-id", IMAGE), {"deed": "tokens", "count": 1}, "processor"),
        (("--image-id", IMAGE), {"deed": "kill", "signal": 9}, "supervisor"),
    ],
    ids=["processor", "supervisor"],
    indirect=["service"],
)
async def test_a_receipt_names_the_image_that_nobody_pinned(
    service: Service, deed: dict[str, Any], writer: str
) -> None:
    async with service.connect() as connection:
        await connection.send(service.opening(**deed))
        await frames(connection)
    receipt = json.loads(service.kept.objects["receipt.json"])
    assert (receipt["image_id"], receipt["written_by"]) == (IMAGE, writer)
    assert "image_digest" not in receipt


async def test_a_settled_run_answers_again_with_what_was_not_seen(service: Service) -> None:
    message = service.opening("tokens", count=3)
    async with service.connect() as connection:
        await connection.send(message)
        first = await frames(connection)
    for seen, expected in ((0, first[1:]), (5, first[6:]), (6, first[7:])):
        async with service.connect() as connection:
            await connection.send(service.opening("tokens", count=3, resume_from=seen))
            again = await frames(connection)
        assert again[0]["content"]["state"] == "succeeded"
        assert again[1:] == expected
    assert service.kept.requests == 2


async def test_resuming_beyond_the_last_frame_is_1008(service: Service) -> None:
    async with service.connect() as connection:
        await connection.send(service.opening("tokens", count=1))
        last = (await frames(connection))[-1]["seq"]
    async with service.connect() as connection:
        await connection.send(service.opening(role="observer", resume_from=last + 1))
        assert await close_of(connection) == 1008
    async with service.connect() as connection:
        await connection.send(service.opening(role="observer", resume_from=last))
        assert [frame["kind"] for frame in await frames_until_quiet(connection)] == ["Ack"]


async def test_the_same_execution_with_another_payload_is_1008(service: Service) -> None:
    async with service.connect() as connection:
        await connection.send(service.opening("tokens", count=1))
        await frames(connection)
    async with service.connect() as connection:
        await connection.send(service.opening("tokens", count=2))
        assert await close_of(connection) == 1008


@pytest.mark.parametrize(
    "stream", ["preview", "../x", "/streams/../x", "/streams/", "/streams/A", "/artifacts/x"]
)
async def test_a_provider_cannot_send_a_frame_of_what_is_no_stream(
    service: Service, stream: str
) -> None:
    async with service.connect() as connection:
        await connection.send(service.opening("tokens", count=1, stream=stream))
        heard = await frames(connection)
    assert heard[-1]["content"]["error"]["code"] == "ERR_INTERNAL"
    assert heard[-1]["content"]["error"]["message"].endswith("frame_stream")
    assert "Frame" not in [frame["kind"] for frame in heard]


@pytest.mark.parametrize("service", [("--concurrency", "2")], indirect=True)
async def test_beyond_the_runs_that_may_be_at_once_nothing_starts_and_1013_says_so(
    service: Service,
) -> None:
    async with service.connect() as one, service.connect() as other:
        for connection, name in ((one, "x1"), (other, "x2")):
            await connection.send(service.opening("paced", name=name, count=1000, pause_s=0.1))
            assert json.loads(await connection.recv())["kind"] == "Ack"
        async with service.connect() as third:
            await third.send(service.opening("tokens", name="x3", count=1))
            assert await close_of(third) == 1013
            assert third.close_reason == "ERR_RATE_LIMITED: rate limited: concurrency"
        async with service.connect() as watcher:
            await watcher.send(service.opening(name="x2", role="controller"))
            assert json.loads(await watcher.recv())["content"]["state"] == "running"
            assert (await ask(service, b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"))[1]
            await watcher.send(control("cancel"))
            assert (await frames(other))[-1]["content"]["error"]["code"] == "ERR_CANCELLED"
        async with service.connect() as third:
            await third.send(service.opening("tokens", name="x3", count=1))
            assert (await frames(third))[-1]["content"]["status"] == "success"


async def test_a_second_opening_on_one_connection_is_1002_and_the_run_goes_on(
    service: Service,
) -> None:
    async with service.connect() as watcher, service.connect() as connection:
        await watcher.send(service.opening("paced", count=10, pause_s=0.1))
        await watcher.recv()
        await connection.send(service.opening(role="observer"))
        await connection.send(service.opening(role="observer"))
        assert await close_of(connection) == 1002
        assert (await frames(watcher))[-1]["content"]["status"] == "success"


async def test_a_worker_that_is_killed_from_outside_leaves_one_result(service: Service) -> None:
    async with service.connect() as client, service.connect() as observer:
        await client.send(service.opening("sleep"))
        assert [json.loads(await client.recv())["seq"] for _ in range(2)] == [0, 1]
        await observer.send(service.opening(role="observer"))
        assert [json.loads(await observer.recv())["seq"] for _ in range(2)] == [0, 1]
        (worker,) = kin.children(service.process.pid)
        os.kill(worker, signal.SIGKILL)
        heard, seen = await frames(client), await frames(observer)
    assert heard == seen
    assert [frame["kind"] for frame in heard].count("RunResult") == 1
    error = heard[-1]["content"]["error"]
    assert (error["code"], error["message"][-7:]) == ("ERR_INTERNAL", "SIGKILL")
    assert "receipt.json" in service.kept.objects


async def test_who_saw_frames_of_a_lost_run_is_refused_and_nothing_starts(
    service: Service,
) -> None:
    async with service.connect() as connection:
        await connection.send(service.opening("sleep", resume_from=3))
        assert await close_of(connection) == 1008
    assert list(kin.children(service.process.pid)) == []


async def test_a_fault_of_the_server_is_1011(short: Path) -> None:
    def broken(_opening: object) -> Run:
        raise ZeroDivisionError

    async def handle(connection: ServerConnection) -> None:
        await Session(connection, broken).serve()

    path = str(short / "run.sock")
    select = [Subprotocol(RUN_SUBPROTOCOL)]
    quiet = logging.getLogger("quiet")
    quiet.disabled = True
    async with (
        unix_serve(handle, path, subprotocols=select, logger=quiet),
        unix_connect(path, "ws://localhost/run", subprotocols=select) as connection,
    ):
        await connection.send(opening())
        assert await close_of(connection) == 1011
