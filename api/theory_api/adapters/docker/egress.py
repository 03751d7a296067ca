"""The one way out of a container: an HTTP proxy on its socket, to the origins that are listed.

It takes `CONNECT`, and requests of `http://` addresses in absolute form, which clients send to a
proxy unasked. Names are resolved here, once for each connection; what is connected to is the
address that was checked. What goes through is counted and never looked at.
"""

from __future__ import annotations

import asyncio
import re
import socket
import time
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import structlog

from theory_api.domain import addresses, uris
from theory_core import LIMITS, canonicalize

log = structlog.get_logger(__name__)

SOCKET: Final = "egress.sock"
"""Its name in the folder of an execution."""
REFUSED: Final = "Theory-Refused"
"""The header of an answer that is the proxy's own: why there is no connection."""

_ANYBODY: Final = 0o666
_PIECE: Final = 1 << 16
_LOGGED: Final = 100
"""Lines about connections of one run; what is beyond them is counted."""
_THOUSAND: Final = 1000
_HEAD: Final = re.compile(r"([A-Z]{3,16}) ([!-~]{1,8192}) HTTP/(1\.[01])")
_AUTHORITY: Final = re.compile(r"[^/?#@]+:[0-9]{1,5}")
_HOP: Final = ("proxy-", "connection:", "keep-alive:", "host:")
"""How the headers begin that are between a client and its proxy, or are written anew."""
_PHRASES: Final = {
    "malformed": (400, "Not a request to a proxy"),
    "not_listed": (403, "Not on the list of addresses"),
    "address_private": (403, "The name leads to a private address"),
    "too_large": (431, "Header too large"),
    "host_unknown": (502, "Host unknown"),
    "refused": (502, "Connection refused"),
    "unreachable": (502, "Host unreachable"),
    "too_many": (503, "Too many connections"),
    "bytes": (503, "Too many bytes"),
    "timeout": (504, "No connection in time"),
}
_OF_THE_RUN: Final = frozenset({"malformed", "not_listed", "address_private", "too_large"})

Resolve = Callable[[str, int], Coroutine[Any, Any, Iterable[str]]]
Redact = Callable[[str], str]
_Ends = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass(frozen=True, slots=True)
class Bounds:
    """What one run may have of the way out; its own time bounds all of it."""

    connections: int = 32
    """At once."""
    total_bytes: int = 1 << 30
    """In both directions together."""
    head_s: float = 10.0
    connect_s: float = 10.0
    idle_s: float = 180.0
    """Without a byte in either direction."""


class _RefusedError(Exception):
    """A connection that is not made, for one of the reasons in `_PHRASES`."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(slots=True)
class _Asked:
    """What a client asks for."""

    host: str
    port: int
    plain: bool
    """Whether it asks in absolute form."""
    head: bytes = b""
    """What the server is told of it then."""


@dataclass(slots=True)
class _Flow:
    """What went through one connection, in bytes."""

    sent: int = 0
    received: int = 0


class Egress:
    """The way out of one execution, until it is closed.

    Laws: only a host and a port of a listed origin are connected to, in absolute form only if the
    origin is one of `http`. A name leads to public addresses, all of them, or nowhere; an address
    that is not public is reached if it is itself what the list says.
    """

    def __init__(
        self,
        origins: Iterable[str],
        *,
        execution_id: str,
        redact: Redact = str,
        bounds: Bounds | None = None,
        resolve: Resolve | None = None,
    ) -> None:
        """Nothing listens yet. `redact` is asked for every host before it is logged."""
        found = [origin for uri in origins if (origin := uris.origin(uri)) is not None]
        self._tunnels = {(host, port) for _, host, port in found}
        self._plain = {(host, port) for scheme, host, port in found if scheme == "http"}
        self._bounds = bounds or Bounds()
        self._resolve = resolve or _resolved
        self._redact = redact
        self._log = log.bind(execution_id=execution_id)
        self._left = self._bounds.total_bytes
        self._lines = 0
        self._unlogged = 0
        self._clocks: set[asyncio.Timeout] = set()
        self._still = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self._path: Path | None = None

    async def listen(self, path: Path) -> None:
        """Listen where whoever can reach the path may connect; raises `OSError`."""
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            await asyncio.to_thread(_bind, listener, path)
            self._server = await asyncio.start_unix_server(
                self._accept, sock=listener, limit=LIMITS["headers_bytes"]
            )
        except BaseException:
            listener.close()
            raise
        self._path = path

    def stand_still(self, *, still: bool) -> None:
        """Let no time pass for what is open, or let it go on; idempotent."""
        self._still = still
        for clock in self._clocks:
            self._wind(clock)

    def _due(self) -> float | None:
        """When what is silent from now on is cut."""
        now = asyncio.get_running_loop().time()
        return None if self._still else now + self._bounds.idle_s

    def _wind(self, clock: asyncio.Timeout) -> None:
        if not clock.expired():
            clock.reschedule(self._due())

    def shut(self) -> None:
        """Connect nobody any more and cut what is open: the run was cancelled; idempotent."""
        self._tunnels, self._plain = set(), set()
        for task in self._tasks:
            task.cancel()

    async def close(self) -> None:
        """Stop listening, cut what is open, remove the socket; idempotent."""
        self.shut()
        server, self._server = self._server, None
        if server is not None:
            server.close()
        while self._tasks:
            await asyncio.wait(self._tasks)
        if self._path is not None:
            await asyncio.to_thread(self._path.unlink, missing_ok=True)
        if self._unlogged:
            self._log.info("adapter.egress.unlogged", connections=self._unlogged)
            self._unlogged = 0

    # -- one connection -------------------------------------------------------------------------

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._tasks) >= self._bounds.connections:
            self._say("adapter.egress.refused", None, reason="too_many")
            writer.write(_answer("too_many"))
            writer.close()
            return
        task = asyncio.ensure_future(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked: _Asked | None = None
        try:
            asked = await self._read(reader)
            there = await self._connect(asked)
            try:
                await self._carry(asked, (reader, writer), there)
            finally:
                there[1].transport.abort()
        except _RefusedError as error:
            self._say("adapter.egress.refused", asked, reason=error.reason)
            writer.write(_answer(error.reason))
        except (OSError, asyncio.IncompleteReadError):
            # It left before it had asked.
            return
        finally:
            writer.close()

    async def _read(self, reader: asyncio.StreamReader) -> _Asked:
        try:
            async with asyncio.timeout(self._bounds.head_s):
                head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.LimitOverrunError as error:
            raise _RefusedError("too_large") from error
        except TimeoutError as error:
            raise _RefusedError("malformed") from error
        return _parse(head)

    async def _connect(self, asked: _Asked) -> _Ends:
        if (asked.host, asked.port) not in (self._plain if asked.plain else self._tunnels):
            raise _RefusedError("not_listed")
        if self._left <= 0:
            raise _RefusedError("bytes")
        failed = OSError()
        try:
            async with asyncio.timeout(self._bounds.connect_s):
                for address in await self._addresses(asked):
                    try:
                        return await asyncio.open_connection(address, asked.port)
                    except OSError as error:
                        failed = error
        except TimeoutError as error:
            raise _RefusedError("timeout") from error
        reason = "refused" if isinstance(failed, ConnectionRefusedError) else "unreachable"
        raise _RefusedError(reason) from failed

    async def _addresses(self, asked: _Asked) -> list[str]:
        """Where the connection may go; never nothing."""
        own = addresses.literal(asked.host)
        if own is not None:
            return [own]
        try:
            found = list(dict.fromkeys(await self._resolve(asked.host, asked.port)))
        except (OSError, UnicodeError) as error:
            raise _RefusedError("host_unknown") from error
        if not found:
            raise _RefusedError("host_unknown")
        if not all(map(addresses.is_public, found)):
            raise _RefusedError("address_private")
        return found

    async def _carry(self, asked: _Asked, here: _Ends, there: _Ends) -> None:
        """Hand on what comes, both ways, until the server has said everything."""
        flow, began, ended = _Flow(sent=len(asked.head)), time.monotonic(), "cut"
        if asked.plain:
            there[1].write(asked.head)
        else:
            here[1].write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        copying: set[asyncio.Task[None]] = set()
        clock = asyncio.timeout_at(self._due())
        try:
            async with clock:
                self._clocks.add(clock)
                out = asyncio.create_task(self._copy(flow, "sent", here[0], there[1], clock))
                back = asyncio.create_task(self._copy(flow, "received", there[0], here[1], clock))
                copying |= {out, back}
                while not back.done():
                    waiting = {task for task in copying if not task.done()}
                    done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                    for task in done:
                        task.result()
            ended = "done"
        except TimeoutError:
            ended = "idle"
        except OSError:
            ended = "broken"
        except _RefusedError as error:
            ended = error.reason
        finally:
            self._clocks.discard(clock)
            for task in copying:
                task.cancel()
            took = int((time.monotonic() - began) * _THOUSAND)
            facts = {"sent_bytes": flow.sent, "received_bytes": flow.received, "elapsed_ms": took}
            self._say("adapter.egress.closed", asked, **facts, ended=ended)
            await asyncio.gather(*copying, return_exceptions=True)

    async def _copy(
        self,
        flow: _Flow,
        direction: Literal["sent", "received"],
        source: asyncio.StreamReader,
        sink: asyncio.StreamWriter,
        clock: asyncio.Timeout,
    ) -> None:
        while piece := await source.read(_PIECE):
            self._left -= len(piece)
            if self._left < 0:
                raise _RefusedError("bytes")
            setattr(flow, direction, getattr(flow, direction) + len(piece))
            self._wind(clock)
            sink.write(piece)
            await sink.drain()
        sink.write_eof()

    def _say(self, event: str, asked: _Asked | None, **facts: int | str) -> None:
        """A line of the log. Law: of what is sent it has nothing, nor of what is redacted."""
        self._lines += 1
        if self._lines > _LOGGED:
            self._unlogged += 1
            return
        if asked is not None:
            facts = {"host": self._redact(asked.host), "port": asked.port, **facts}
        tell = self._log.warning if "reason" in facts else self._log.info
        tell(event, **facts)


def _parse(head: bytes) -> _Asked:
    """What a client asks for; the rest of its header goes on as it is, but for what is a proxy's.

    Law: one request of the absolute form for each connection, and for the host that it names.
    """
    first, *lines = head.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
    match = _HEAD.fullmatch(first)
    if match is None or any(line[:1] in {" ", "\t", ""} for line in lines):
        raise _RefusedError("malformed")
    method, target, version = match.groups()
    plain = method != "CONNECT"
    if not plain:
        target = f"http://{target.lower()}" if _AUTHORITY.fullmatch(target) else ""
    origin = uris.origin(target)
    if origin is None or origin[0] != "http":
        raise _RefusedError("malformed")
    _, host, port = origin
    if not plain:
        return _Asked(host, port, plain=False)
    authority, slash, path = target.removeprefix("http://").partition("/")
    authority, mark, query = authority.partition("?")
    asked_for = f"/{mark}{query}{slash}{path}" if mark else f"/{path}"
    own = [f"{method} {asked_for} HTTP/{version}", f"Host: {authority}"]
    kept = [line for line in lines if not line.lower().startswith(_HOP)]
    told = "\r\n".join([*own, *kept, "Connection: close", "", ""])
    return _Asked(host, port, plain=True, head=told.encode("latin-1"))


def _answer(reason: str) -> bytes:
    """A refusal that any client shows: its phrase says why, and so does a header."""
    status, phrase = _PHRASES[reason]
    code = "ERR_INPUTS" if reason in _OF_THE_RUN else "ERR_PROVIDER"
    body = canonicalize({"code": code, "reason": reason})
    head = (
        f"HTTP/1.1 {status} {phrase}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        f"{REFUSED}: {reason}\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + body


async def _resolved(host: str, port: int) -> list[str]:
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(entry[4][0]) for entry in found]


def _bind(listener: socket.socket, path: Path) -> None:
    path.unlink(missing_ok=True)
    listener.bind(str(path))
    path.chmod(_ANYBODY)
