"""The short way to an engine: what it answers is used, and nothing else is believed."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from theory_api.adapters.docker import ask as module
from theory_api.adapters.docker.ask import ask
from theory_api.adapters.docker.engine import Engine, Image

FOUND = b'{"Id":"sha256:1","Architecture":"amd64","RepoDigests":["x@sha256:2"]}'


@contextlib.asynccontextmanager
async def answering(path: Path, answer: bytes | None) -> AsyncIterator[list[str]]:
    """Something on a socket that gives one answer to everybody, or none; what it was asked."""
    asked: list[str] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line = await reader.readline()
        if line:
            asked.append(line.decode())
        if answer is None:
            await reader.read()
        else:
            writer.write(answer)
        writer.close()

    server = await asyncio.start_unix_server(serve, str(path))
    async with server:
        yield asked


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (b'HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n{"a":1}', {"a": 1}),
        (b'HTTP/1.0 404 Not Found\r\n\r\n{"message":"no such image"}', None),
        (b'HTTP/1.0 500 Internal Server Error\r\n\r\n{"a":1}', None),
        (b'HTTP/1.0 200 OK\r\n\r\n{"a":', None),
        (b"HTTP/1.0 200 OK\r\n\r\n\xff\xfe", None),
        (b"nothing of the kind", None),
        (b"", None),
    ],
)
async def test_only_a_whole_good_answer_is_one(short: Path, answer: bytes, told: object) -> None:
    async with answering(short / "e.sock", answer) as asked:
        assert await ask(str(short / "e.sock"), "/x", within_s=5) == told
    assert asked == ["GET /x HTTP/1.0\r\n"]


async def test_nobody_is_waited_for_and_nothing_endless_is_read(
    short: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await ask(str(short / "e.sock"), "/x", within_s=5) is None
    async with answering(short / "e.sock", None):
        assert await ask(str(short / "e.sock"), "/x", within_s=0.05) is None
    monkeypatch.setattr(module, "_MOST_BYTES", 10)
    async with answering(short / "f.sock", b"HTTP/1.0 200 OK\r\n\r\n{}"):
        assert await ask(str(short / "f.sock"), "/x", within_s=5) is None


async def test_an_image_is_asked_for_the_short_way_and_else_by_the_sdk(
    short: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Engine(f"unix://{short / 'e.sock'}")
    calls: list[object] = []

    async def call(work: object, **_given: object) -> dict[str, Any]:
        calls.append(work)
        return {"Id": "sha256:3", "Architecture": "arm64"}

    monkeypatch.setattr(engine, "call", call)
    async with answering(short / "e.sock", b"HTTP/1.0 200 OK\r\n\r\n" + FOUND) as asked:
        assert await engine.image("a/b:build") == Image("sha256:1", "amd64", ("sha256:2",))
    assert (asked, calls) == (["GET /images/a/b:build/json HTTP/1.0\r\n"], [])
    assert await engine.image("a/b:build") == Image("sha256:3", "arm64", ())
    assert len(calls) == 1
