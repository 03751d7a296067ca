"""The door of one execution on `io.sock`: outputs are put, declared inputs read, no more."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import structlog
import uvicorn

from theory_api.ports.intake import Intakes
from theory_core import ERROR_CODES, TheoryError, canonicalize

Message = Mapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

log = structlog.get_logger(__name__)

OBJECTS: Final = "/objects/"
"""Path below which objects are put; the rest is the relpath."""
INPUTS: Final = "/inputs/"
"""Path below which inputs are read; the rest is the cid."""
UPLOAD_URL: Final = f"http://localhost{OBJECTS}"

_OCTETS: Final = "application/octet-stream"
_JSON: Final = "application/json"
_PROBLEM: Final = "application/problem+json"
_DRAIN_BYTES: Final = 64 * 1024 * 1024
_CONNECTIONS: Final = 32
_GRACE_S: Final = 1


class Gateway:
    """The ASGI application; it knows one execution and forwards to its intake."""

    def __init__(self, execution_id: str, intakes: Intakes) -> None:
        self._execution_id = execution_id
        self._intakes = intakes

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        path, method = (scope.get("raw_path") or b"").decode("ascii", "replace"), scope["method"]
        body = _Body(receive)
        try:
            if scope["query_string"]:
                raise _refusal("ERR_NOT_FOUND")
            if path.startswith(OBJECTS) and method == "PUT":
                await self._put(path.removeprefix(OBJECTS), scope, body, send)
            elif path.startswith(INPUTS) and method == "GET":
                await self._get(path.removeprefix(INPUTS), send)
            else:
                raise _refusal("ERR_NOT_FOUND")
        except TheoryError as error:
            self._complain(error, method)
            await body.drain()
            await _answer(send, _status(error), _PROBLEM, _problem(error))

    async def _put(self, relpath: str, scope: Message, body: _Body, send: Send) -> None:
        headers = dict(scope["headers"])
        mime = headers.get(b"content-type", _OCTETS.encode()).decode("latin-1")
        pieces = body.pieces()
        received = await self._intakes.put(self._execution_id, relpath, pieces, mime=mime)
        answer = {"cid": received.cid, "size_bytes": received.size_bytes}
        await _answer(send, 201, _JSON, canonicalize(answer))

    async def _get(self, cid: str, send: Send) -> None:
        """Stream an input; its status waits for the first piece, so that a refusal can be told."""
        pieces = self._intakes.read_input(self._execution_id, cid)
        first = await anext(pieces, b"")
        await _start(send, 200, _OCTETS, None)
        await _piece(send, first, more=True)
        try:
            async for piece in pieces:
                await _piece(send, piece, more=True)
        except TheoryError as error:
            # The reader sees the broken end of the stream, and its digest does not match.
            self._complain(error, "GET")
            raise ConnectionAbortedError(error.code) from error
        await _piece(send, b"", more=False)

    def _complain(self, error: TheoryError, method: str) -> None:
        event = f"error.{error.code}"
        log.warning(event, execution_id=self._execution_id, method=method)


class GatewayServer:
    """Serves a gateway on a unix socket until it is closed."""

    def __init__(self, server: uvicorn.Server, serving: asyncio.Task[None], path: Path) -> None:
        self._server = server
        self._serving = serving
        self._path = path

    @classmethod
    async def open(cls, path: Path, gateway: Gateway) -> GatewayServer:
        """Listen; raises `OSError` if the socket cannot be made."""
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            listener.bind(str(path))
            await asyncio.to_thread(path.chmod, 0o600)
        except OSError:
            listener.close()
            raise
        config = uvicorn.Config(
            gateway,
            lifespan="off",
            ws="none",
            log_config=None,
            access_log=False,
            server_header=False,
            limit_concurrency=_CONNECTIONS,
            timeout_graceful_shutdown=_GRACE_S,
        )
        server = _Quiet(config)
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        return cls(server, serving, path)

    async def close(self) -> None:
        """Stop listening, cut what is still open, remove the socket; idempotent."""
        self._server.should_exit = True
        await asyncio.wait({self._serving})
        await asyncio.to_thread(self._path.unlink, missing_ok=True)


class _Quiet(uvicorn.Server):
    """A server inside another program: signals are that program's."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals alone."""
        yield


class _Body:
    """The body of one request."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._more = True

    async def pieces(self) -> AsyncIterator[bytes]:
        """All of it; a sender that leaves before its end fails the upload."""
        while self._more:
            message = await self._receive()
            if message["type"] != "http.request":
                self._more = False
                raise _refusal("ERR_UPLOAD")
            self._more = message.get("more_body", False)
            if piece := message.get("body", b""):
                yield piece

    async def drain(self) -> None:
        """Take what a refused sender still sends, within bounds, so that it reads the refusal."""
        left = _DRAIN_BYTES
        while self._more and left > 0:
            message = await self._receive()
            if message["type"] != "http.request":
                return
            self._more = message.get("more_body", False)
            left -= len(message.get("body", b""))


async def _answer(send: Send, status: int, mime: str, body: bytes) -> None:
    await _start(send, status, mime, len(body))
    await _piece(send, body, more=False)


async def _start(send: Send, status: int, mime: str, length: int | None) -> None:
    headers = [(b"content-type", mime.encode())]
    if length is not None:
        headers.append((b"content-length", str(length).encode()))
    await send(
        {
            "type": "http.response.start",
            "status": status,
            "headers": headers,
            "trailers": False,
        }
    )


async def _piece(send: Send, body: bytes, *, more: bool) -> None:
    await send({"type": "http.response.body", "body": body, "more_body": more})


def _refusal(code: str) -> TheoryError:
    return TheoryError(code, ERROR_CODES[code].summary)


def _status(error: TheoryError) -> int:
    return ERROR_CODES[error.code].status


def _problem(error: TheoryError) -> bytes:
    """RFC 9457, with the code and no more than the catalogue's words."""
    entry = ERROR_CODES[error.code]
    problem: dict[str, Any] = {
        "type": "about:blank",
        "title": entry.summary,
        "status": entry.status,
        "code": error.code,
    }
    return canonicalize(problem)
