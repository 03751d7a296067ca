"""The way out admits what is listed, goes where it has checked, and tells what went through."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import socket
import ssl
import subprocess
import tempfile
import threading
from collections.abc import AsyncIterator, Callable, Iterator, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from theory_api.adapters.docker import egress as module
from theory_api.adapters.docker import lookups
from theory_api.adapters.docker.egress import SOCKET, Bounds, Egress
from theory_api.adapters.docker.proxying import parse
from theory_api.domain import addresses

WORD = b"unspeakable"
Logged = list[MutableMapping[str, Any]]


class Server:
    """A server on loopback that keeps what it hears and answers each piece with itself."""

    def __init__(self) -> None:
        self.heard = b""
        self.connections = 0
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        with contextlib.suppress(OSError):
            while piece := await reader.read(1 << 16):
                self.heard += piece
                writer.write(piece)
                await writer.drain()
        writer.close()


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    state = Server()
    listening = await asyncio.start_server(state.serve, "127.0.0.1", 0)
    state.port = listening.sockets[0].getsockname()[1]
    yield state
    listening.close()


class Way:
    """The way out of one execution, and a client of it."""

    def __init__(self, egress: Egress, path: Path) -> None:
        self.egress = egress
        self.path = path

    async def ask(self, text: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_unix_connection(str(self.path))
        writer.write(text.encode())
        return reader, writer

    async def answer(self, text: str) -> tuple[int, str]:
        """Status and reason of what is refused; status alone of what is not."""
        reader, writer = await self.ask(text)
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        writer.close()
        said = dict(line.split(": ", 1) for line in head.split("\r\n")[1:] if line)
        return int(head.split(" ")[1]), said.get("Theory-Refused", "")

    async def tunnel(self, host: str, port: int) -> tuple[int, str]:
        return await self.answer(connect(host, port))


def connect(host: str, port: int) -> str:
    return f"CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n"


Opened = Callable[..., "contextlib.AbstractAsyncContextManager[Way]"]


@pytest.fixture
def opened() -> Opened:
    @contextlib.asynccontextmanager
    async def way(*origins: str, names: Any = (), **more: Any) -> AsyncIterator[Way]:  # noqa: ANN401
        asked = dict(names)

        async def resolve(host: str, _port: int) -> list[str]:
            found = asked[host]
            if isinstance(found, Exception):
                raise found
            return list(found)

        with tempfile.TemporaryDirectory(prefix="th-", dir="/tmp") as folder:  # sockets: short
            path = Path(folder) / SOCKET
            more.setdefault("resolve", resolve)
            egress = Egress(origins, execution_id="x1", **more)
            await egress.listen(path)
            try:
                async with asyncio.timeout(30):
                    yield Way(egress, path)
            finally:
                await egress.close()
            assert not path.exists()
            assert not egress._tasks

    return way


async def test_a_listed_address_is_led_to_and_what_is_said_is_counted_not_told(
    opened: Opened, server: Server
) -> None:
    with capture_logs() as logged:
        async with opened(f"http://127.0.0.1:{server.port}") as way:
            reader, writer = await way.ask(connect("127.0.0.1", server.port))
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
            writer.write(WORD * 10_000)
            assert await reader.readexactly(len(WORD) * 10_000) == WORD * 10_000
            writer.write_eof()
            assert await reader.read() == b""
            writer.close()
    (line,) = logged
    assert line.pop("elapsed_ms") >= 0
    assert line == {
        "event": "adapter.egress.closed",
        "log_level": "info",
        "execution_id": "x1",
        "host": "127.0.0.1",
        "port": server.port,
        "sent_bytes": len(WORD) * 10_000,
        "received_bytes": len(WORD) * 10_000,
        "ended": "done",
    }


async def test_a_plain_request_goes_on_as_the_server_expects_it(
    opened: Opened, server: Server
) -> None:
    """Clients send `http://` addresses to a proxy whole; one connection is for one host."""
    authority = f"127.0.0.1:{server.port}"
    async with opened(f"http://{authority}") as way:
        told = (
            f"POST http://{authority}/v1?x=1 HTTP/1.1\r\nHost: evil.example\r\nX-Kept: a\r\n"
            "Proxy-Authorization: Basic eA==\r\nProxy-Connection: keep-alive\r\n"
            "Connection: keep-alive\r\nContent-Length: 2\r\n\r\nhi"
        )
        reader, writer = await way.ask(told)
        expected = (
            f"POST /v1?x=1 HTTP/1.1\r\nHost: {authority}\r\nX-Kept: a\r\nContent-Length: 2\r\n"
            "Connection: close\r\n\r\nhi"
        ).encode()
        assert await reader.readexactly(len(expected)) == expected
        writer.close()
    assert server.heard == expected


@pytest.mark.parametrize(
    ("target", "expected"), [("", "/"), ("?x=1", "/?x=1"), ("/a?b=/c?d", "/a?b=/c?d")]
)
def test_the_path_is_what_follows_the_host(target: str, expected: str) -> None:
    asked = parse(f"GET http://a.example{target} HTTP/1.0\r\n\r\n".encode())
    assert (asked.host, asked.port, asked.plain) == ("a.example", 80, True)
    told = f"GET {expected} HTTP/1.0\r\nHost: a.example\r\nConnection: close\r\n\r\n"
    assert asked.head == told.encode()


def test_a_host_is_the_same_in_either_case_and_a_path_is_not() -> None:
    asked = parse(b"GET HTTP://A.Example:8080/B?C HTTP/1.1\r\n\r\n")
    assert (asked.host, asked.port) == ("a.example", 8080)
    assert asked.head.startswith(b"GET /B?C HTTP/1.1\r\nHost: a.example:8080\r\n")


@pytest.mark.scenario(82, 98)
async def test_what_no_list_names_is_refused_before_anybody_is_asked(
    opened: Opened, server: Server
) -> None:
    with capture_logs() as logged:
        async with opened(f"https://127.0.0.1:{server.port}", "http://a.example") as way:
            refused = (403, "not_listed")
            for host, port in (
                ("127.0.0.1", server.port + 1),
                ("127.0.0.2", server.port),
                ("localhost", server.port),
                ("127.1", server.port),
                ("169.254.169.254", 80),
                ("[::1]", server.port),
                ("a.example", 443),
                ("b.example", 80),
                ("a.example.evil.example", 80),
            ):
                assert await way.tunnel(host, port) == refused, (host, port)
            whole = f"GET http://127.0.0.1:{server.port}/ HTTP/1.1\r\n\r\n"
            assert await way.answer(whole) == refused
    assert server.connections == 0
    assert {line["event"] for line in logged} == {"adapter.egress.refused"}
    assert {line["log_level"] for line in logged} == {"warning"}
    assert (logged[0]["host"], logged[0]["port"]) == ("127.0.0.1", server.port + 1)


async def test_who_has_no_list_has_no_way_out(opened: Opened, server: Server) -> None:
    async with opened() as way:
        assert await way.tunnel("127.0.0.1", server.port) == (403, "not_listed")


@pytest.mark.scenario(82, 98)
@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (["127.0.0.1"], (403, "address_private")),
        (["93.184.215.14", "169.254.169.254"], (403, "address_private")),
        (["::ffff:127.0.0.1"], (403, "address_private")),
        ([], (502, "host_unknown")),
        (OSError(), (502, "host_unknown")),
        (UnicodeError(), (502, "host_unknown")),
    ],
)
async def test_a_listed_name_leads_to_the_internet_or_nowhere(
    opened: Opened, server: Server, found: object, expected: tuple[int, str]
) -> None:
    async with opened(
        f"http://rebound.example:{server.port}", names={"rebound.example": found}
    ) as way:
        assert await way.tunnel("rebound.example", server.port) == expected
        whole = f"GET http://rebound.example:{server.port}/ HTTP/1.1\r\n\r\n"
        assert await way.answer(whole) == expected
    assert server.connections == 0


@pytest.mark.scenario(98)
async def test_the_connection_goes_to_the_address_that_was_checked(
    opened: Opened, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The name is asked for once; what it leads to a moment later is nobody's concern."""
    checked: list[str] = []

    def public(address: str) -> bool:
        checked.append(address)
        return True

    monkeypatch.setattr(addresses, "is_public", public)
    names: dict[str, object] = {"api.example": ["127.0.0.1"]}
    async with opened(f"https://api.example:{server.port}", names=names) as way:
        assert await way.tunnel("API.example", server.port) == (200, "")
    assert (checked, server.connections) == (["127.0.0.1"], 1)


@pytest.mark.parametrize(
    "text",
    [
        "GET / HTTP/1.1\r\n\r\n",
        "GET https://a.example/ HTTP/1.1\r\n\r\n",
        "GET http://u@a.example/ HTTP/1.1\r\n\r\n",
        "CONNECT a.example HTTP/1.1\r\n\r\n",
        "CONNECT u@a.example:443 HTTP/1.1\r\n\r\n",
        "CONNECT a.example:99999 HTTP/1.1\r\n\r\n",
        "CONNECT a.example:443/x HTTP/1.1\r\n\r\n",
        "CONNECT a.example:443 HTTP/2\r\n\r\n",
        "GET http://a.example/ HTTP/1.1\r\nX: a\r\n folded\r\n\r\n",
        "\x16\x03\x01\r\n\r\n",
        "GET http://a.example/ HTTP/1.1\r\nX: a\nHost: evil.example\r\n\r\n",
        "GET http://a.example/ HTTP/1.1\r\nX: a\rHost: evil.example\r\n\r\n",
        "GET http://a.example/ HTTP/1.1\r\nX: a\0b\r\n\r\n",
        "GET http://a.example/ HTTP/1.1\r\nHost : evil.example\r\n\r\n",
        "GET http://a.example/ HTTP/1.1\r\nno colon\r\n\r\n",
        "CONNECT a.example:443 HTTP/1.1\r\nX: a\nb\r\n\r\n",
    ],
)
async def test_what_is_no_request_to_a_proxy_is_refused(opened: Opened, text: str) -> None:
    async with opened("http://a.example", "https://a.example") as way:
        assert await way.answer(text) == (400, "malformed")


async def test_a_header_has_a_bound_in_bytes_and_in_time(opened: Opened) -> None:
    async with opened("http://a.example", bounds=Bounds(head_s=0.1)) as way:
        assert await way.answer("CONNECT") == (400, "malformed")
        reader, writer = await way.ask("GET http://a.example/ HTTP/1.1\r\nX: " + "x" * (1 << 20))
        assert await reader.readline() == b"HTTP/1.1 431 Header too large\r\n"
        writer.close()


async def test_nobody_there_is_told_apart_from_nobody_allowed(
    opened: Opened, server: Server
) -> None:
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    listening.close()
    await listening.wait_closed()
    async with opened(f"http://127.0.0.1:{port}") as way:
        assert await way.tunnel("127.0.0.1", port) == (502, "refused")


async def held(way: Way, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection that is open and says nothing."""
    reader, writer = await way.ask(connect("127.0.0.1", port))
    await reader.readuntil(b"\r\n\r\n")
    return reader, writer


async def until(so: Callable[[], bool]) -> None:
    for _ in range(1000):
        if so():
            return
        await asyncio.sleep(0.01)


async def test_connections_bytes_and_silence_are_bounded(opened: Opened, server: Server) -> None:
    origin = f"http://127.0.0.1:{server.port}"
    with capture_logs() as logged:
        async with opened(origin, bounds=Bounds(connections=1)) as way:
            _, writer = await held(way, server.port)
            reader, other = await way.ask("")
            assert b"Theory-Refused: too_many" in await reader.read()
            other.close()
            writer.write_eof()
            await until(lambda: not way.egress._tasks)
            writer.close()
        async with opened(origin, bounds=Bounds(total_bytes=100)) as way:
            reader, writer = await held(way, server.port)
            writer.write(b"x" * 99)
            assert len(await reader.read()) < 99
            writer.close()
            assert await way.tunnel("127.0.0.1", server.port) == (503, "bytes")
        async with opened(origin, bounds=Bounds(idle_s=0.1)) as way:
            reader, writer = await held(way, server.port)
            assert await reader.read() == b""
            writer.close()
    assert [line.get("ended", line.get("reason")) for line in logged] == [
        "too_many",
        "done",
        "bytes",
        "bytes",
        "idle",
    ]


async def test_silence_of_a_run_that_stands_still_is_none(opened: Opened, server: Server) -> None:
    origin = f"http://127.0.0.1:{server.port}"
    async with opened(origin, bounds=Bounds(idle_s=0.2)) as way:
        reader, writer = await held(way, server.port)
        way.egress.stand_still(still=True)
        await asyncio.sleep(0.4)
        writer.write(b"still there")
        assert await reader.readexactly(11) == b"still there"
        way.egress.stand_still(still=False)
        assert await reader.read() == b""
        writer.close()


async def test_a_cancel_cuts_what_is_open_and_admits_nobody(opened: Opened, server: Server) -> None:
    async with opened(f"http://127.0.0.1:{server.port}") as way:
        reader, writer = await held(way, server.port)
        way.egress.shut()
        assert await reader.read() == b""
        writer.close()
        assert await way.tunnel("127.0.0.1", server.port) == (403, "not_listed")


async def test_a_flood_of_refusals_is_counted_in_one_line(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_LOGGED", 3)
    with capture_logs() as logged:
        async with opened() as way:
            for _ in range(5):
                await way.tunnel("a.example", 80)
    assert [line["event"] for line in logged] == [
        *["adapter.egress.refused"] * 3,
        "adapter.egress.unlogged",
    ]
    assert logged[-1]["connections"] == 2


@pytest.mark.scenario(95)
async def test_a_host_that_spells_a_secret_is_not_logged(opened: Opened) -> None:
    def redact(host: str) -> str:
        return host.replace("canary-0123", "[redacted]")

    with capture_logs() as logged:
        async with opened(redact=redact) as way:
            await way.tunnel("Canary-0123.evil.example", 443)
    assert [line["host"] for line in logged] == ["[redacted].evil.example"]


async def test_what_a_run_leaves_in_the_place_of_the_socket_is_told_and_no_error(
    opened: Opened,
) -> None:
    with capture_logs() as logged:
        async with opened("http://a.example") as way:
            way.path.unlink()
            way.path.mkdir()
            await way.egress.close()
            way.path.rmdir()
    assert [line["event"] for line in logged] == ["adapter.egress.left"]


async def test_the_header_of_a_plain_request_counts_before_anybody_is_told(
    opened: Opened, server: Server
) -> None:
    origin = f"http://127.0.0.1:{server.port}"
    async with opened(origin, bounds=Bounds(total_bytes=1000)) as way:
        whole = f"GET {origin}/ HTTP/1.1\r\nX: {'x' * 1000}\r\n\r\n"
        assert await way.answer(whole) == (503, "bytes")
        assert server.connections == 0
        # What is left is enough for the header, and not for its echo.
        reader, writer = await way.ask(f"GET {origin}/ HTTP/1.1\r\nX: {'x' * 600}\r\n\r\n")
        assert await reader.read() == b""
        writer.close()
        assert await way.tunnel("127.0.0.1", server.port) == (503, "bytes")


@pytest.mark.parametrize("late", [False, True])
async def test_what_nobody_reads_is_held_for_a_while_and_counts_as_a_connection(
    opened: Opened, monkeypatch: pytest.MonkeyPatch, *, late: bool
) -> None:
    """The server has said everything and is gone; what does not fit the socket waits here."""
    held: list[asyncio.WriteTransport] = []
    serve = Egress._serve

    async def seen(
        egress: Egress, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        held.append(writer.transport)
        await serve(egress, reader, writer)

    monkeypatch.setattr(Egress, "_serve", seen)
    said = 0

    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal said
        while not held[0].get_write_buffer_size():
            writer.write(bytes(1 << 14))
            said += 1 << 14
            await writer.drain()
            await asyncio.sleep(0.01)
        writer.close()

    listening = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    bounds = Bounds(connections=1, idle_s=2.0 if late else 30.0)
    async with opened(f"http://127.0.0.1:{port}", bounds=bounds) as way:
        client = socket.socket(socket.AF_UNIX)
        client.setblocking(False)  # noqa: FBT003
        loop = asyncio.get_running_loop()
        await loop.sock_connect(client, str(way.path))
        await loop.sock_sendall(client, f"GET http://127.0.0.1:{port}/ HTTP/1.0\r\n\r\n".encode())
        with capture_logs() as logged:
            await until(lambda: bool(logged))
        assert [line["ended"] for line in logged] == ["done"]
        assert await way.tunnel("127.0.0.1", port) == (503, "too_many")
        if late:
            await until(lambda: not way.egress._tasks)
            assert held[0].get_write_buffer_size() == 0
        got = 0
        while piece := await loop.sock_recv(client, 1 << 16):
            got += len(piece)
        assert (got < said) is late
        client.close()
        await until(lambda: not way.egress._tasks)
    listening.close()


class Names:
    """A system that answers when it is let, and counts how often it is asked."""

    def __init__(self) -> None:
        self.asked = 0
        self.let = threading.Event()

    def getaddrinfo(self, *_: object, **__: object) -> list[tuple[Any, ...]]:
        self.asked += 1
        self.let.wait(30)
        return [(0, 0, 0, "", ("127.0.0.1", 0))]


@pytest.fixture
def system(monkeypatch: pytest.MonkeyPatch) -> Iterator[Names]:
    found = Names()
    monkeypatch.setattr(socket, "getaddrinfo", found.getaddrinfo)
    with ThreadPoolExecutor(2) as threads:
        monkeypatch.setattr(lookups, "_THREADS", threads)
        yield found
        found.let.set()


async def test_a_name_is_looked_up_though_every_thread_of_the_loop_is_taken(
    opened: Opened, system: Names
) -> None:
    system.let.set()
    disk = threading.Event()
    async with opened("http://a.example", resolve=None) as way:
        with ThreadPoolExecutor(1) as threads:
            asyncio.get_running_loop().set_default_executor(threads)
            taken = asyncio.get_running_loop().run_in_executor(None, disk.wait, 30)
            try:
                assert await way.tunnel("a.example", 80) == (403, "address_private")
                assert not taken.done()
            finally:
                disk.set()
                await taken
                asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))


async def test_a_name_that_hangs_counts_among_those_of_its_run_until_it_is_given_up(
    opened: Opened, system: Names
) -> None:
    bounds = Bounds(connect_s=1.0, lookups=1)
    slow = ("http://slow.example",)
    async with opened(*slow, resolve=None, bounds=bounds) as way:
        for _ in range(2):
            assert await way.tunnel("slow.example", 80) == (504, "timeout")
        assert system.asked == 1
        async with opened(*slow, resolve=None, bounds=bounds) as other:
            assert await other.tunnel("slow.example", 80) == (504, "timeout")
        assert system.asked == 2
        async with opened(*slow, resolve=None, bounds=bounds) as third:
            # All threads are taken, by runs that have gone on.
            assert await third.tunnel("slow.example", 80) == (504, "timeout")
            assert system.asked == 2
            system.let.set()
            assert await third.tunnel("slow.example", 80) == (403, "address_private")
        assert await way.tunnel("slow.example", 80) == (403, "address_private")
    assert system.asked == 4


@pytest.mark.skipif(shutil.which("openssl") is None, reason="nothing here makes certificates")
async def test_tls_goes_through_a_tunnel_from_end_to_end(opened: Opened, tmp_path: Path) -> None:
    """The client sees the server's own certificate, and the log what anybody between sees."""
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    made = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=th"
    named = ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out"]
    order = ["openssl", *made.split(), *named, str(certificate)]
    await asyncio.to_thread(subprocess.run, order, check=True, capture_output=True)
    own = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    own.load_cert_chain(certificate, key)
    state = Server()
    listening = await asyncio.start_server(state.serve, "127.0.0.1", 0, ssl=own)
    port = listening.sockets[0].getsockname()[1]
    with capture_logs() as logged:
        async with opened(f"https://127.0.0.1:{port}") as way:
            reader, writer = await way.ask(connect("127.0.0.1", port))
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
            trusting = ssl.create_default_context(cafile=certificate)
            await writer.start_tls(trusting, server_hostname="127.0.0.1")
            shown = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
            assert shown == ssl.PEM_cert_to_DER_cert(certificate.read_text())
            writer.write(WORD * 10_000)
            assert await reader.readexactly(len(WORD) * 10_000) == WORD * 10_000
            writer.close()
            await writer.wait_closed()
            await until(lambda: not way.egress._tasks)
    listening.close()
    assert state.heard == WORD * 10_000
    assert [line["ended"] for line in logged] == ["done"]
    assert all(logged[0][way] > len(state.heard) for way in ("sent_bytes", "received_bytes"))
