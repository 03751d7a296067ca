"""A run with a way out connects through it alone, and hears why it leads nowhere."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import http.server
import socket
import tempfile
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest

from theory_core import TheoryError
from theory_runtime import pinned
from theory_runtime.egress import connection, locate
from theory_runtime.outlet import SOCKET, environment, outlet
from theory_runtime.tests.echoing import echoing

LEADS = "leads.example"
"""The one name that the stand-in for the control plane's proxy knows."""


@pytest.fixture
def server() -> Iterator[int]:
    with echoing() as port:
        yield port


class Proxy:
    """A stand-in for the control plane's end: leads one name on, refuses others as it is told."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.reason = "not_listed"
        self.leaves = False
        self.asked: list[str] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            self.asked.append(head.split("\r\n")[0])
            if self.leaves:
                pass
            elif LEADS not in head.split("\r\n")[0]:
                refused = f"Theory-Refused: {self.reason}\r\n" if self.reason else ""
                writer.write(f"HTTP/1.1 403 No\r\n{refused}Content-Length: 0\r\n\r\n".encode())
            else:
                await self._lead(head, reader, writer)
        writer.close()

    async def _lead(
        self, head: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        source, there = await asyncio.open_connection("127.0.0.1", self._port)
        if head.startswith("CONNECT "):
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
        there.write(head.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n").encode())
        writer.write(await source.read())
        there.close()


@pytest.fixture
async def proxy(server: int, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Proxy]:
    """The environment of a worker with a way out, and no name that anybody resolves."""

    def resolve(host: str, *_: object, **__: object) -> Any:  # noqa: ANN401
        assert host == "127.0.0.1", "a run with a way out resolves nothing"
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, _[0]))]

    proxy = Proxy(server)
    with tempfile.TemporaryDirectory(prefix="th-", dir="/tmp") as folder:  # sockets: short
        serving = await asyncio.start_unix_server(proxy.serve, str(Path(folder) / SOCKET))
        async with outlet(Path(folder)) as told:
            for name, value in told.items():
                monkeypatch.setenv(name, value)
            monkeypatch.setattr(socket, "getaddrinfo", resolve)
            yield proxy
        serving.close()
        await asyncio.sleep(0.01)  # transports close a turn later


def get(uri: str) -> str:
    """What is answered over this runtime's own connections."""
    spot = locate(uri)
    wire = connection(spot, timeout_s=10)
    try:
        wire.request("GET", spot.target, headers={"Host": spot.authority})
        return wire.getresponse().read().decode()
    finally:
        wire.close()


async def test_a_folder_without_the_socket_has_no_way_out(tmp_path: Path) -> None:
    async with outlet(tmp_path) as told:
        assert told == {}
    (tmp_path / SOCKET).write_bytes(b"")
    async with outlet(tmp_path) as told:
        assert told == {}


def test_clients_of_every_language_are_told_and_nothing_is_exempt() -> None:
    told = environment("127.0.0.1:7")
    url = "http://127.0.0.1:7"
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"):
        assert told[name] == url
    assert (told["NO_PROXY"], told["no_proxy"]) == ("", "")


async def test_connections_go_through_it_and_names_are_resolved_at_its_end(proxy: Proxy) -> None:
    assert await asyncio.to_thread(get, f"http://{LEADS}:8080/a") == f"{LEADS}:8080"
    assert proxy.asked == [f"CONNECT {LEADS}:8080 HTTP/1.1"]


@pytest.mark.scenario(82)
@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        ("not_listed", ("ERR_INPUTS", "uri")),
        ("address_private", ("ERR_INPUTS", "address_private")),
        ("host_unknown", ("ERR_PROVIDER", "host_unknown")),
    ],
)
async def test_what_is_refused_has_its_code(
    proxy: Proxy, reason: str, expected: tuple[str, str]
) -> None:
    proxy.reason = reason
    with pytest.raises(TheoryError) as caught:
        await asyncio.to_thread(get, "https://elsewhere.example/")
    assert (caught.value.code, caught.value.detail["reason"]) == expected


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        ("refused", ConnectionRefusedError),
        ("timeout", TimeoutError),
        ("unreachable", OSError),
        ("", OSError),
    ],
)
async def test_nobody_there_is_what_it_would_be_without_it(
    proxy: Proxy, reason: str, kind: type[Exception]
) -> None:
    proxy.reason = reason
    with pytest.raises(kind):
        await asyncio.to_thread(get, "http://elsewhere.example/")


async def test_a_way_out_that_nobody_holds_open_fails_as_a_server_that_leaves(
    proxy: Proxy,
) -> None:
    proxy.leaves = True
    with pytest.raises((OSError, http.client.HTTPException)):
        await asyncio.to_thread(get, "http://elsewhere.example/")


@pytest.mark.usefixtures("proxy")
async def test_a_library_over_httpx_goes_through_it() -> None:
    def ask(uri: str, host: str) -> str:
        with pinned.client(locate(uri)) as wire:
            return wire.get(f"http://{host}:8080/").text

    assert await asyncio.to_thread(ask, f"http://{LEADS}:8080/", LEADS) == f"{LEADS}:8080"
    for host in ("elsewhere.example", LEADS):
        with pytest.raises(httpx.ConnectError):
            await asyncio.to_thread(ask, "http://elsewhere.example:8080/", host)


async def test_a_tunnel_that_is_refused_to_httpx_is_no_connection(proxy: Proxy) -> None:
    def ask() -> None:
        with pinned.client(locate("https://elsewhere.example/")) as wire:
            wire.get("https://elsewhere.example/")

    with pytest.raises(httpx.ConnectError):
        await asyncio.to_thread(ask)
    assert proxy.asked == ["CONNECT elsewhere.example:443 HTTP/1.1"]


@pytest.mark.usefixtures("proxy")
async def test_clients_that_know_nothing_of_this_project_use_it() -> None:
    def by_the_standard_library(uri: str) -> str:
        with urllib.request.urlopen(uri, timeout=10) as answer:  # noqa: S310 - of this test
            body: bytes = answer.read()
            return body.decode()

    def by_httpx(uri: str) -> str:
        return httpx.get(uri).text

    for ask in (by_the_standard_library, by_httpx):
        assert await asyncio.to_thread(ask, f"http://{LEADS}/") == LEADS
    with pytest.raises(urllib.error.HTTPError, match="403"):
        await asyncio.to_thread(by_the_standard_library, "http://elsewhere.example/")
    with pytest.raises(httpx.ProxyError):
        await asyncio.to_thread(by_httpx, "https://elsewhere.example/")


def test_another_runs_proxy_is_none_of_ours(monkeypatch: pytest.MonkeyPatch, server: int) -> None:
    """Where nobody fences the run, whatever the environment calls a proxy is not asked."""
    told: Mapping[str, str] = environment("127.0.0.1:1")
    for name in set(told) - {"THEORY_EGRESS"}:
        monkeypatch.setenv(name, told[name])
    assert get(f"http://127.0.0.1:{server}/") == f"127.0.0.1:{server}"
