"""The one way out of a container: an HTTP proxy on its socket, to the origins that are listed.

It takes `CONNECT`, and requests of `http://` addresses in absolute form, which clients send to a
proxy unasked. Names are resolved here, once for each connection; what is connected to is the
address that was checked. What goes through is counted and never looked at.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import structlog

from theory_api.adapters.docker.lookups import Lookups
from theory_api.adapters.docker.proxying import Asked, RefusedError, parse, refusal
from theory_api.domain import addresses, uris
from theory_core import LIMITS

log = structlog.get_logger(__name__)

SOCKET: Final = "egress.sock"
"""Its name in the folder of an execution."""

_ANYBODY: Final = 0o666
_PIECE: Final = 1 << 16
_LOGGED: Final = 100
"""Lines about connections of one run; what is beyond them is counted."""
_THOUSAND: Final = 1000

Resolve = Callable[[str, int], Coroutine[Any, Any, Iterable[str]]]
Redact = Callable[[str], str]
_Ends = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass(frozen=True, slots=True)
class Bounds:
    """What one run may have of the way out; its own time bounds all of it."""

    connections: int = 32
    """At once; one counts until all that it was told is read, or it is cut."""
    lookups: int = 4
    """Of names, at once; one that takes too long counts until the system gives it up."""
    total_bytes: int = 1 << 30
    """In both directions together, with the header of what is asked in absolute form."""
    head_s: float = 10.0
    connect_s: float = 10.0
    idle_s: float = 180.0
    """Without a byte in either direction; so long may the last ones remain unread, too."""


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
        self._resolve = resolve or Lookups(self._bounds.lookups).addresses
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
            try:
                await asyncio.to_thread(self._path.unlink, missing_ok=True)
            except OSError as error:
                # The run put something else there; it goes with the folder of the execution.
                self._log.warning("adapter.egress.left", error=type(error).__name__)
        if self._unlogged:
            self._log.info("adapter.egress.unlogged", connections=self._unlogged)
            self._unlogged = 0

    # -- one connection -------------------------------------------------------------------------

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._tasks) >= self._bounds.connections:
            self._say("adapter.egress.refused", None, reason="too_many")
            writer.write(refusal("too_many"))
            writer.close()
            return
        task = asyncio.ensure_future(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._lead(reader, writer)
            writer.close()
            async with self._silence():
                await writer.wait_closed()
        except (OSError, asyncio.IncompleteReadError):
            # It left before it had asked, or it does not read what it asked for.
            return
        finally:
            writer.transport.abort()

    async def _lead(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked: Asked | None = None
        try:
            asked = await self._read(reader)
            there = await self._connect(asked)
            try:
                await self._carry(asked, (reader, writer), there)
            finally:
                there[1].transport.abort()
        except RefusedError as error:
            self._say("adapter.egress.refused", asked, reason=error.reason)
            writer.write(refusal(error.reason))

    @contextlib.asynccontextmanager
    async def _silence(self) -> AsyncIterator[asyncio.Timeout]:
        """Bound what goes on to the time of a silence, which stands still with its run."""
        clock = asyncio.timeout_at(self._due())
        async with clock:
            self._clocks.add(clock)
            try:
                yield clock
            finally:
                self._clocks.discard(clock)

    async def _read(self, reader: asyncio.StreamReader) -> Asked:
        try:
            async with asyncio.timeout(self._bounds.head_s):
                head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.LimitOverrunError as error:
            raise RefusedError("too_large") from error
        except TimeoutError as error:
            raise RefusedError("malformed") from error
        return parse(head)

    async def _connect(self, asked: Asked) -> _Ends:
        if (asked.host, asked.port) not in (self._plain if asked.plain else self._tunnels):
            raise RefusedError("not_listed")
        if self._left <= len(asked.head):
            raise RefusedError("bytes")
        failed = OSError()
        try:
            async with asyncio.timeout(self._bounds.connect_s):
                for address in await self._addresses(asked):
                    try:
                        return await asyncio.open_connection(address, asked.port)
                    except OSError as error:
                        failed = error
        except TimeoutError as error:
            raise RefusedError("timeout") from error
        reason = "refused" if isinstance(failed, ConnectionRefusedError) else "unreachable"
        raise RefusedError(reason) from failed

    async def _addresses(self, asked: Asked) -> list[str]:
        """Where the connection may go; never nothing."""
        own = addresses.literal(asked.host)
        if own is not None:
            return [own]
        try:
            found = list(dict.fromkeys(await self._resolve(asked.host, asked.port)))
        except (OSError, UnicodeError) as error:
            raise RefusedError("host_unknown") from error
        if not found:
            raise RefusedError("host_unknown")
        if not all(map(addresses.is_public, found)):
            raise RefusedError("address_private")
        return found

    async def _carry(self, asked: Asked, here: _Ends, there: _Ends) -> None:
        """Hand on what comes, both ways, until the server has said everything."""
        flow, began, ended = _Flow(sent=len(asked.head)), time.monotonic(), "cut"
        self._spend(len(asked.head))
        if asked.plain:
            there[1].write(asked.head)
        else:
            here[1].write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        copying: set[asyncio.Task[None]] = set()
        try:
            async with self._silence() as clock:
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
            here[1].transport.abort()
        except OSError:
            ended = "broken"
        except RefusedError as error:
            ended = error.reason
        finally:
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
            self._spend(len(piece))
            setattr(flow, direction, getattr(flow, direction) + len(piece))
            self._wind(clock)
            sink.write(piece)
            await sink.drain()
        sink.write_eof()

    def _spend(self, size: int) -> None:
        self._left -= size
        if self._left < 0:
            raise RefusedError("bytes")

    def _say(self, event: str, asked: Asked | None, **facts: int | str) -> None:
        """A line of the log. Law: of what is sent it has nothing, nor of what is redacted."""
        self._lines += 1
        if self._lines > _LOGGED:
            self._unlogged += 1
            return
        if asked is not None:
            facts = {"host": self._redact(asked.host), "port": asked.port, **facts}
        tell = self._log.warning if "reason" in facts else self._log.info
        tell(event, **facts)


def _bind(listener: socket.socket, path: Path) -> None:
    path.unlink(missing_ok=True)
    listener.bind(str(path))
    path.chmod(_ANYBODY)
