"""The client on links that break, go dead or lead elsewhere."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from structlog.testing import capture_logs
from websockets.asyncio.server import ServerConnection

from theory_api.adapters.run_v1.client import RunClient, dial_socket, dial_url
from theory_api.adapters.run_v1.tests.conftest import (
    PAYLOAD,
    Serve,
    ack,
    result,
    run,
    token,
)
from theory_core import TheoryError


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


async def test_a_run_that_has_begun_is_joined_and_never_sent_again(path: str, serve: Serve) -> None:
    openings = []

    async def handler(connection: ServerConnection) -> None:
        openings.append(json.loads(await connection.recv())["content"])
        await connection.send(ack())
        if len(openings) > 1:
            await connection.send(result(1))
            await connection.wait_closed()
        connection.transport.abort()

    await serve(handler)
    await run(path)
    assert [sorted(one) for one in openings] == [
        ["execution_id", "payload", "role"],
        ["execution_id", "role"],
    ]


async def test_a_client_of_a_run_that_was_started_before_never_starts_one(
    path: str, serve: Serve
) -> None:
    openings = []

    async def handler(connection: ServerConnection) -> None:
        openings.append(json.loads(await connection.recv())["content"])
        await connection.close(1008)

    await serve(handler)
    client = RunClient(dial_socket(path), "x1", started=True)
    with pytest.raises(TheoryError) as caught:
        await client.run(PAYLOAD, on_frame=None, expected_oci=None)
    assert caught.value.code == "ERR_WS_CLOSE"
    assert openings == [{"role": "client", "execution_id": "x1"}]


async def test_tries_are_counted_from_the_last_new_frame(path: str, serve: Serve) -> None:
    openings: list[int] = []

    async def handler(connection: ServerConnection) -> None:
        seen = json.loads(await connection.recv())["content"].get("resume_from", 0)
        openings.append(seen)
        await connection.send(ack())
        if seen == 9:
            await connection.send(result(10))
            await connection.wait_closed()
        await connection.send(token(seen + 1))
        connection.transport.abort()

    await serve(handler)
    heard: list[Mapping[str, Any]] = []
    await run(path, heard)
    assert openings == list(range(10))
    assert [one["seq"] for one in heard if one["seq"]] == list(range(1, 11))


async def test_a_run_that_its_server_lost_is_a_closed_connection_and_asked_for_once(
    path: str, serve: Serve
) -> None:
    count = 0

    async def handler(connection: ServerConnection) -> None:
        nonlocal count
        count += 1
        await connection.recv()
        if count > 1:
            await connection.close(1008)
            return
        await connection.send(ack())
        await connection.send(token(1))
        connection.transport.abort()

    await serve(handler)
    with pytest.raises(TheoryError) as caught:
        await run(path)
    assert (caught.value.code, count) == ("ERR_WS_CLOSE", 2)
    assert caught.value.message.endswith("the run is not there any more")


async def test_where_servers_are_many_a_run_that_may_have_begun_is_not_begun_again(
    path: str, serve: Serve
) -> None:
    count = 0

    async def handler(connection: ServerConnection) -> None:
        nonlocal count
        count += 1
        await connection.recv()
        connection.transport.abort()

    await serve(handler)
    with pytest.raises(TheoryError) as caught:
        await run(replace(dial_socket(path), one_server=False))
    assert (caught.value.code, count) == ("ERR_WS_CLOSE", 1)


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


async def test_a_handshake_that_is_never_answered_is_given_up(path: str) -> None:
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
        await run(replace(dial_socket(path), open_s=0.05))
    assert caught.value.code == "ERR_WS_TIMEOUT"
    ended.set()
    server.close()
    await asyncio.sleep(0.05)
    await asyncio.wait(handled)


class Link:
    """A TCP way to a server that can go dead without a word, or be cut."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._writers: list[asyncio.StreamWriter] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self.count = 0
        self.dead = False

    async def open(self) -> str:
        """Listen; the URL of `/run` behind it."""
        self._server = await asyncio.start_server(self._pass, "127.0.0.1", 0)
        return f"ws://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/run"

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.count += 1
        inner, there = await asyncio.open_unix_connection(self._path)
        self._writers += [writer, there]
        for task in (self._copy(reader, there), self._copy(inner, writer)):
            self._tasks.add(asyncio.create_task(task))

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        born = self.count
        try:
            while data := await reader.read(65536):
                if not (self.dead and born == 1):
                    writer.write(data)
        except OSError:
            return

    async def close(self) -> None:
        self._server.close()
        for writer in self._writers:
            writer.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks)
        await self._server.wait_closed()


async def test_a_link_that_goes_dead_is_noticed_and_the_run_joined_again(
    path: str, serve: Serve
) -> None:
    link = Link(path)

    async def handler(connection: ServerConnection) -> None:
        seen = json.loads(await connection.recv())["content"].get("resume_from", 0)
        await connection.send(ack())
        await connection.send(token(seen + 1))
        if seen:
            await connection.send(result(seen + 2))
        await connection.wait_closed()

    async def deaden(said: Mapping[str, Any]) -> None:
        heard.append(said["seq"])
        link.dead = True

    await serve(handler)
    heard: list[int] = []
    dial = replace(dial_url(await link.open(), one_server=True), ping_s=1.0)
    with capture_logs() as lines:
        client = RunClient(dial, "x1")
        envelope = await client.run(PAYLOAD, on_frame=deaden, expected_oci=None)
    assert envelope["status"] == "success"
    assert link.count == 2
    assert heard[-2:] in ([1, 2], [2, 3])
    assert [line["event"] for line in lines].count("ws.connect.again") == 1
    await link.close()


async def test_a_link_that_stays_dead_is_a_timeout(path: str, serve: Serve) -> None:
    link = Link(path)

    async def handler(connection: ServerConnection) -> None:
        await connection.recv()
        link.dead = True
        await connection.wait_closed()

    await serve(handler)
    dial = replace(dial_url(await link.open()), ping_s=1.0)
    with pytest.raises(TheoryError) as caught:
        await run(dial)
    assert (caught.value.code, link.count) == ("ERR_WS_TIMEOUT", 1)
    await link.close()


@pytest.mark.parametrize(
    "url", ["http://host/run", "ws:///run", "wss://user:word@host/run", "run.sock", ""]
)
def test_what_is_no_websocket_is_not_dialled(url: str) -> None:
    with pytest.raises(TheoryError) as caught:
        dial_url(url)
    assert caught.value.code == "ERR_ADAPTER_INVOCATION"
    assert "word" not in str(caught.value)


def test_headers_of_a_dial_are_not_shown() -> None:
    assert "canary" not in repr(dial_url("wss://host/run", headers={"Authorization": "canary"}))


async def test_a_redirect_is_not_followed_and_its_status_told(path: str) -> None:
    asked: list[bytes] = []

    async def redirect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        away = b"HTTP/1.1 307 Away\r\nLocation: /other\r\nContent-Length: 0\r\n\r\n"
        writer.write(away)
        writer.close()

    async with await asyncio.start_unix_server(redirect, path):
        with pytest.raises(TheoryError) as caught:
            await run(replace(dial_socket(path), headers={"Modal-Key": "k1"}))
    assert (caught.value.code, caught.value.detail) == ("ERR_WS_CLOSE", {"status": 307})
    assert all(b"GET /run HTTP" in one and b"Modal-Key: k1" in one for one in asked)
