"""Legacy HTTP against servers that answer wrongly: each has its code, nothing goes elsewhere."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest

from theory_api.adapters.http.transport import http
from theory_api.adapters.run_v1.endpoint import Endpoint
from theory_api.adapters.run_v1.inflow import FRAMES_PER_S, TURN_S
from theory_api.adapters.run_v1.remote import Call
from theory_core import TheoryError, canonicalize, digest

PREFIX = "/artifacts/outputs/test-deeds-v1/x1/"
PRINT = "cpu:1;memory:1Gi;platform:amd64;runtime:python3"
ENVELOPE = {
    "status": "error",
    "execution_id": "x1",
    "error": {"code": "ERR_PROVIDER", "message": "provider failed"},
    "meta": {"env_fingerprint": PRINT},
}
TOKEN = {"kind": "Token", "seq": 1, "content": {"text": "a"}}
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"


def event(name: str, data: object) -> bytes:
    return f"event: {name}\ndata: {canonicalize(data).decode()}\n\n".encode()


@contextlib.asynccontextmanager
async def answering(
    answer: bytes, *, hang: bool = False
) -> AsyncIterator[tuple[Endpoint, list[bytes]]]:
    heard: list[bytes] = []

    ending = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        heard.append(head)
        writer.write(answer)
        await writer.drain()
        if hang:
            await ending.wait()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        yield Endpoint.at(f"http://127.0.0.1:{port}", {"Modal-Key": "wk"}), heard
    finally:
        ending.set()
        server.close()
        await asyncio.sleep(0)


async def ask(endpoint: Endpoint, frames: list[Mapping[str, Any]], **facts: Any) -> Any:  # noqa: ANN401
    async def keep(frame: Mapping[str, Any]) -> None:
        frames.append(frame)

    request = {
        "schema": "v1",
        "ref": "test/deeds@1",
        "mode": "mock",
        "inputs": {"schema": "v1", "params": {}},
        "write_prefix": PREFIX,
        "upload": {
            "url": "http://127.0.0.1:1/objects/",
            "headers": {},
            "expires_at": "2030-01-01T00:00:00.000000Z",
            "max_bytes": 1,
        },
        "env_fingerprint": PRINT,
        "registry_snapshot": digest(b""),
        "timeout_s": 60,
        "secrets": [],
    }
    call = Call(endpoint, "x1", request, None, keep, read_s=facts.pop("read_s", 30.0))
    return await http(**facts)(call)


async def test_frames_are_handed_on_and_the_envelope_ends_the_stream() -> None:
    frames: list[Mapping[str, Any]] = []
    stream = HEAD + event("progress", TOKEN) + b": still\n\n" + event("done", ENVELOPE)
    async with answering(stream) as (endpoint, heard):
        assert await ask(endpoint, frames) == ENVELOPE
    assert [frame["kind"] for frame in frames] == ["Ack", "Token", "RunResult"]
    assert heard[0].startswith(b"POST /run-stream HTTP/1.1\r\n")
    assert b"modal-key: wk" in heard[0].lower()


@pytest.mark.parametrize("chunked", [False, True])
async def test_others_have_their_turn_while_a_server_floods(*, chunked: bool) -> None:
    said = [event("progress", {**TOKEN, "seq": seq}) for seq in range(1, 2_001)]
    said += [b": nothing\n" for _ in range(2_000)] + [event("done", ENVELOPE)]
    head = HEAD.removesuffix(b"\r\n") + b"Transfer-Encoding: chunked\r\n\r\n" if chunked else HEAD
    if chunked:
        said = [b"%x\r\n%s\r\n" % (len(one), one) for one in said] + [b"0\r\n\r\n"]
    frames: list[Mapping[str, Any]] = []
    longest = 0

    async def other() -> None:
        nonlocal longest
        while True:
            before = len(frames)
            await asyncio.sleep(0)
            longest = max(longest, len(frames) - before)

    async with answering(head + b"".join(said)) as (endpoint, _):
        beside = asyncio.create_task(other())
        assert await ask(endpoint, frames) == ENVELOPE
        beside.cancel()
    assert len(frames) == 2_002
    assert 0 < longest <= TURN_S * FRAMES_PER_S


async def test_the_image_that_the_answer_names_is_in_the_greeting_and_is_judged_there() -> None:
    image, head = "sha256:" + "ab" * 32, HEAD.removesuffix(b"\r\n")
    named = head + f"Theory-Image-Digest: {image}\r\n\r\n".encode()
    frames: list[Mapping[str, Any]] = []
    async with answering(named + event("done", ENVELOPE)) as (endpoint, _):
        await ask(endpoint, frames)
    assert frames[0]["content"]["image_digest"] == image
    nonsense = head + b"Theory-Image-Digest: latest\r\n\r\n"
    async with answering(nonsense + event("done", ENVELOPE)) as (endpoint, _):
        with pytest.raises(TheoryError, match="frame"):
            await ask(endpoint, [])


@pytest.mark.parametrize(
    ("answer", "fragment"),
    [
        (b"HTTP/1.1 303 See Other\r\nLocation: http://127.0.0.1:1/\r\n\r\n", "status 303"),
        (b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 0\r\n\r\n", "status 200"),
        (b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n", "status 500"),
        (b"HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n", "status 401"),
        (b"nonsense\r\n\r\n", "RemoteProtocolError"),
        (HEAD, "without a result"),
        (HEAD + event("progress", TOKEN), "without a result"),
        (HEAD + event("progress", {**TOKEN, "seq": 2}), "frame ERR_WS_PROTOCOL"),
        (HEAD + event("progress", {"kind": "Shout", "seq": 1, "content": {}}), "frame"),
        (HEAD + b"event: progress\ndata: {\n\n", "frame"),
    ],
)
async def test_an_answer_that_is_none_has_the_transports_code(answer: bytes, fragment: str) -> None:
    for fault in ("ERR_ADAPTER_INVOCATION", "ERR_MODAL_INVOCATION"):
        async with answering(answer) as (endpoint, heard):
            with pytest.raises(TheoryError) as refused:
                await ask(endpoint, [], fault=fault)
        assert refused.value.code == fault
        assert fragment in refused.value.message
        assert len(heard) == 1


async def test_a_request_that_is_refused_says_so() -> None:
    body = json.dumps({"code": "ERR_INPUTS"}).encode()
    head = f"HTTP/1.1 415 No\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    async with answering(head + body) as (endpoint, _):
        with pytest.raises(TheoryError) as refused:
            await ask(endpoint, [])
    assert refused.value.code == "ERR_INPUTS"


@pytest.mark.parametrize(
    "envelope",
    [
        {**ENVELOPE, "execution_id": "x2"},
        {**ENVELOPE, "extra": 1},
        {**ENVELOPE, "status": "success"},
        {**ENVELOPE, "error": {"code": "ERR_NEVER", "message": "x"}},
    ],
)
async def test_an_envelope_that_is_no_answer_is_refused(envelope: dict[str, Any]) -> None:
    frames: list[Mapping[str, Any]] = []
    async with answering(HEAD + event("done", envelope)) as (endpoint, _):
        with pytest.raises(TheoryError):
            await ask(endpoint, frames)
    assert [frame["kind"] for frame in frames] == ["Ack"]


async def test_silence_ends() -> None:
    async with answering(HEAD, hang=True) as (endpoint, _):
        with pytest.raises(TheoryError) as refused:
            await ask(endpoint, [], read_s=0.2)
    assert refused.value.code == "ERR_TIMEOUT"


async def test_nobody_at_the_address_has_the_transports_code() -> None:
    async with answering(HEAD) as (endpoint, _):
        pass
    with pytest.raises(TheoryError) as refused:
        await ask(endpoint, [])
    assert refused.value.code == "ERR_ADAPTER_INVOCATION"
