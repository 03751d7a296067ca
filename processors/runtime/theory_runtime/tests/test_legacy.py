"""`POST /run` and `POST /run-stream` from outside: the same runs, the same envelopes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from theory_core import canonicalize
from theory_runtime.tests.conftest import (
    MAIN,
    Kept,
    Service,
    close_of,
    control,
    fingerprint,
    frames,
)


@dataclass
class Answer:
    """An HTTP answer."""

    status: int
    headers: dict[str, str]
    body: bytes

    def document(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self.body)
        return document


async def exchange(service: Service, request: bytes) -> Answer:
    reader, writer = await asyncio.open_unix_connection(str(service.folder / "run.sock"))
    writer.write(request)
    head, _, body = (await asyncio.wait_for(reader.read(), 60)).partition(b"\r\n\r\n")
    writer.close()
    first, *rest = head.decode().split("\r\n")
    headers = {line.partition(": ")[0].lower(): line.partition(": ")[2] for line in rest}
    if headers.get("transfer-encoding") == "chunked":
        body = unchunked(body)
    return Answer(int(first.split(" ")[1]), headers, body)


def unchunked(body: bytes) -> bytes:
    whole = b""
    while True:
        size, _, body = body.partition(b"\r\n")
        if not (count := int(size, 16)):
            return whole
        whole, body = whole + body[:count], body[count + 2 :]


def order(service: Service, deed: str, *, name: str = "x1", **more: Any) -> dict[str, Any]:  # noqa: ANN401
    content: dict[str, Any] = json.loads(service.opening(deed, name=name, **more))["content"]
    return {"execution_id": name, "payload": content["payload"]}


def post(path: str, body: bytes, mime: str = "application/json", more: str = "") -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: {mime}\r\n{more}"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


async def ask(
    service: Service,
    deed: str,
    path: str = "/run",
    name: str = "x1",
    **more: Any,  # noqa: ANN401
) -> Answer:
    body = canonicalize(order(service, deed, name=name, **more))
    return await exchange(service, post(path, body))


def events(answer: Answer) -> list[tuple[str, str | None, dict[str, Any]]]:
    """Name, id and data of every event."""
    found = []
    for block in answer.body.decode().split("\n\n")[:-1]:
        fields = dict(line.split(": ", 1) for line in block.split("\n") if line[0] != ":")
        if fields:
            found.append((fields["event"], fields.get("id"), json.loads(fields["data"])))
    return found


async def result(service: Service, deed: str, name: str, **more: Any) -> dict[str, Any]:  # noqa: ANN401
    async with service.connect() as connection:
        await connection.send(service.opening(deed, name=name, **more))
        content: dict[str, Any] = (await frames(connection))[-1]["content"]
        return content


async def test_a_run_answers_with_the_envelope_that_the_websocket_tells(service: Service) -> None:
    answer = await ask(service, "many", count=3)
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["deprecation"].startswith("@")
    assert answer.body == canonicalize(answer.document())
    assert answer.document() == await result(service, "many", "x1", count=3)
    assert len(answer.document()["outputs"]) == 3


async def test_contractual_errors_are_200_and_crashes_500(service: Service) -> None:
    refused = await ask(service, "refuse", code="ERR_PROVIDER")
    assert (refused.status, refused.document()["error"]["code"]) == (200, "ERR_PROVIDER")
    crashed = await ask(service, "leave", name="x2", code=3)
    assert (crashed.status, crashed.document()["error"]["code"]) == (500, "ERR_INTERNAL")
    assert crashed.document()["status"] == "error"


async def test_a_stream_tells_each_frame_and_the_envelope_last(service: Service) -> None:
    answer = await ask(service, "tokens", "/run-stream", count=2)
    assert answer.status == 200
    assert answer.headers["content-type"] == "text/event-stream"
    assert "deprecation" in answer.headers
    told = events(answer)
    assert [name for name, _, _ in told] == ["progress"] * 5 + ["done"]
    assert [number for _, number, _ in told] == [str(number) for number in range(1, 7)]
    kinds = [data["kind"] for _, _, data in told[:-1]]
    assert kinds == ["Token", "Token", "Frame", "Log", "Event"]
    assert told[-1][2] == await result(service, "tokens", "x1", count=2)


async def test_the_same_run_again_answers_the_same(service: Service) -> None:
    first = await ask(service, "many", count=2)
    again = await ask(service, "many", count=2)
    assert again.body == first.body
    other = await ask(service, "many", count=3)
    assert (other.status, other.document()["code"]) == (400, "ERR_INPUTS")
    assert other.document()["detail"] == "other_payload"


async def test_who_leaves_changes_nothing_and_a_controller_ends_it(service: Service) -> None:
    body = canonicalize(order(service, "sleep"))
    _, writer = await asyncio.open_unix_connection(str(service.folder / "run.sock"))
    writer.write(post("/run", body))
    await writer.drain()
    await asyncio.sleep(0.3)
    writer.close()
    waiting = asyncio.create_task(exchange(service, post("/run-stream", body)))
    async with service.connect() as controller:
        await controller.send(service.opening(role="controller"))
        await controller.send(control("cancel"))
        told = (await frames(controller))[-1]["content"]
    answer = await waiting
    assert events(answer)[-1][2] == told
    assert told["error"]["code"] == "ERR_CANCELLED"


@pytest.mark.scenario(46)
@pytest.mark.parametrize(
    ("request_bytes", "status", "code"),
    [
        (post("/run", b"{}", "text/plain"), 415, "ERR_INPUTS"),
        (post("/run", b"{}", ""), 415, "ERR_INPUTS"),
        (post("/run", b"not json"), 400, "ERR_INPUTS"),
        (post("/run", b'{"execution_id":"x1","execution_id":"x2"}'), 400, "ERR_INPUTS"),
        (post("/run", b"[]"), 400, "ERR_INPUTS"),
        (post("/run", b""), 400, "ERR_INPUTS"),
        (post("/run", b'{"execution_id":"x1"}'), 400, "ERR_INPUTS"),
        (post("/run", b'{"execution_id":"x1","payload":{}}'), 400, "ERR_INPUTS"),
        (post("/run", b'{"execution_id":"x1","payload":{},"role":"king"}'), 400, "ERR_INPUTS"),
        (post("/other", b"{}"), 404, "ERR_NOT_FOUND"),
        (b"POST /run HTTP/1.1\r\nContent-Type: application/json\r\n\r\n", 400, "ERR_INPUTS"),
        (post("/run", b"{}", more="Content-Length: 3\r\n"), 400, "ERR_INPUTS"),
        (post("/run", b"{}", more="Transfer-Encoding: chunked\r\n"), 400, "ERR_INPUTS"),
        (b"POST /run\r\n\r\n", 400, "ERR_INPUTS"),
        (b"POST /run HTTP/1.1\r\nbad header: x\r\n\r\n", 400, "ERR_INPUTS"),
        (b"POST /run HTTP/1.1\r\nA: " + b"x" * 20_000 + b"\r\n\r\n", 413, "ERR_TOO_LARGE"),
        (
            post("/run", b"", more="Content-Length: 8388609\r\n").replace(
                b"Content-Length: 0\r\n", b""
            ),
            413,
            "ERR_TOO_LARGE",
        ),
    ],
)
async def test_a_request_that_is_none_has_its_status(
    service: Service, request_bytes: bytes, status: int, code: str
) -> None:
    answer = await exchange(service, request_bytes)
    assert (answer.status, answer.document()["code"]) == (status, code)
    assert answer.headers["content-type"] == "application/problem+json"
    assert "deprecation" in answer.headers


async def test_a_body_in_pieces_is_read(service: Service) -> None:
    body = canonicalize(order(service, "many", count=1))
    head = "POST /run HTTP/1.1\r\nHost: x\r\nContent-Type: application/json; charset=utf-8\r\n"
    pieces = b"".join(
        b"%x\r\n%s\r\n" % (len(body[at : at + 100]), body[at : at + 100])
        for at in range(0, len(body), 100)
    )
    request = f"{head}Transfer-Encoding: chunked\r\n\r\n".encode() + pieces + b"0\r\n\r\n"
    reader, writer = await asyncio.open_unix_connection(str(service.folder / "run.sock"))
    for at in range(0, len(request), 57):
        writer.write(request[at : at + 57])
        await writer.drain()
    answered = await asyncio.wait_for(reader.read(), 30)
    writer.close()
    assert answered.startswith(b"HTTP/1.1 200 OK\r\n")


async def test_a_single_byte_is_waited_for(service: Service) -> None:
    body = canonicalize(order(service, "many", count=1))
    reader, writer = await asyncio.open_unix_connection(str(service.folder / "run.sock"))
    request = post("/run", body)
    writer.write(request[:2])
    await writer.drain()
    await asyncio.sleep(0.05)
    writer.write(request[2:])
    assert (await reader.read()).startswith(b"HTTP/1.1 200 OK\r\n")
    writer.close()
    _, writer = await asyncio.open_unix_connection(str(service.folder / "run.sock"))
    writer.write(b"P")
    writer.close()
    assert (await ask(service, "many", name="x2", count=1)).status == 200


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


DIGEST = "sha256:" + "a" * 64


@pytest.fixture
async def mock_only(short: Path, gateway: Kept) -> AsyncIterator[tuple[Service, int]]:
    """A server on TCP too that runs mode mock alone."""
    port = free_port()
    held, lifeline = os.pipe()
    command = [sys.executable, str(MAIN), "--serve", str(short), "--lifeline", str(held)]
    command += ["--listen", f"127.0.0.1:{port}", "--only-mode", "mock", "--image-digest", DIGEST]
    process = await asyncio.create_subprocess_exec(*command, pass_fds=(held,))
    os.close(held)
    for _ in range(200):
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.close()
            break
        except OSError:
            await asyncio.sleep(0.05)
    yield Service(short, process, lifeline, gateway), port
    os.close(lifeline)
    await asyncio.wait_for(process.wait(), 10)


async def test_both_doors_open_on_tcp_and_tell_the_image(mock_only: tuple[Service, int]) -> None:
    service, port = mock_only
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(post("/run", canonicalize(order(service, "many", count=1))))
    answered = await reader.read()
    writer.close()
    assert f"Theory-Image-Digest: {DIGEST}".encode() in answered
    assert answered.startswith(b"HTTP/1.1 200 OK\r\n")


async def test_a_server_of_one_mode_refuses_the_other(mock_only: tuple[Service, int]) -> None:
    service, _ = mock_only
    body = order(service, "many", count=1)
    body["payload"]["mode"] = "real"
    answer = await exchange(service, post("/run", canonicalize(body)))
    assert answer.document()["error"]["code"] == "ERR_MODE_INVALID"
    body = order(service, "many", name="x2", count=1)
    declared = f"{fingerprint()};secrets:OPENAI_API_KEY"
    body["payload"] |= {"mode": "real", "secrets": ["OPENAI_API_KEY"], "env_fingerprint": declared}
    answer = await exchange(service, post("/run", canonicalize(body)))
    assert answer.document()["error"] == {
        "code": "ERR_MISSING_SECRET",
        "message": "missing required secret: OPENAI_API_KEY",
    }


@pytest.mark.parametrize("service", [("--concurrency", "1")], indirect=True)
async def test_a_server_that_is_full_answers_429_and_starts_nothing(service: Service) -> None:
    async with service.connect() as connection:
        await connection.send(service.opening("paced", count=1000, pause_s=0.1))
        await connection.recv()
        for path in ("/run", "/run-stream"):
            body = order(service, "many", name="x2", count=1)
            answer = await exchange(service, post(path, canonicalize(body)))
            assert answer.status == 429
            assert answer.document()["code"] == "ERR_RATE_LIMITED"
        async with service.connect() as observer:
            await observer.send(service.opening(name="x2", role="observer"))
            assert await close_of(observer) == 1008


async def test_an_end_answers_who_waits_for_a_result_and_cuts_off_who_says_nothing(
    service: Service,
) -> None:
    body = canonicalize(order(service, "sleep"))
    waiting = asyncio.create_task(exchange(service, post("/run", body)))
    path = str(service.folder / "run.sock")
    silent, quiet = await asyncio.open_unix_connection(path)
    halting, halted = await asyncio.open_unix_connection(path)
    halted.write(b"POST /run HTTP/1.1\r\nContent-Length: 5\r\n\r\n")
    await asyncio.sleep(0.5)
    service.process.terminate()
    answer = await asyncio.wait_for(waiting, 15)
    assert answer.document()["error"]["code"] == "ERR_CANCELLED"
    assert await asyncio.wait_for(service.process.wait(), 10) == 0
    for reader, writer in ((silent, quiet), (halting, halted)):
        with contextlib.suppress(ConnectionError):
            assert await reader.read() == b""
        writer.close()
