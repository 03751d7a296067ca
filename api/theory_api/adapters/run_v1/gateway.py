"""The door of one execution on `io.sock`: outputs are put, declared inputs read, no more."""

from __future__ import annotations

import asyncio
import itertools
import math
import socket
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, Final

import structlog

from theory_api.adapters.run_v1.serving import Message, Receive, Send, Serving
from theory_api.ports.intake import Intakes
from theory_core import ERROR_CODES, LIMITS, TheoryError, canonicalize

log = structlog.get_logger(__name__)

OBJECTS: Final = "/objects/"
"""Path below which objects are put; the rest is the relpath."""
INPUTS: Final = "/inputs/"
"""Path below which inputs are read; the rest is the cid."""
UPLOAD_URL: Final = f"http://localhost{OBJECTS}"
RECEIPT: Final = "receipt.json"

_OCTETS: Final = "application/octet-stream"
_JSON: Final = "application/json"
_PROBLEM: Final = "application/problem+json"
_DRAIN_BYTES: Final = 64 * 1024 * 1024
_CONNECTIONS: Final = 32
_DRAIN_S: Final = 10.0
_PRIVATE: Final = 0o600


class Gateway:
    """The ASGI application; it knows one execution and forwards to its intake.

    It takes nothing more `expires_in_s` after it was made, not counting what it stood still, and
    after `shut` the receipt alone; what is on its way then is refused. One object has at most
    `max_bytes`.
    """

    def __init__(
        self,
        execution_id: str,
        intakes: Intakes,
        *,
        expires_in_s: float = math.inf,
        max_bytes: int = LIMITS["output_bytes"],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.execution_id = execution_id
        self._intakes = intakes
        self._max_bytes = max_bytes
        self._clock = clock
        self._until = clock() + expires_in_s
        self._left: float | None = None
        self._shut = False

    def stand_still(self, *, still: bool) -> None:
        """Let no time pass, or let it go on; idempotent."""
        if still and self._left is None:
            self._left, self._until = self._until - self._clock(), math.inf
        elif not still and self._left is not None:
            self._until, self._left = self._clock() + self._left, None

    def shut(self) -> None:
        """Take nothing more but the receipt: the run was cancelled; idempotent."""
        self._shut = True

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        path, method = (scope.get("raw_path") or b"").decode("ascii", "replace"), scope["method"]
        body = _Body(receive)
        try:
            if sum(map(len, itertools.chain(*scope["headers"]))) > LIMITS["headers_bytes"]:
                raise refusal("ERR_TOO_LARGE")
            if scope["query_string"]:
                raise refusal("ERR_NOT_FOUND")
            if path.startswith(OBJECTS) and method == "PUT":
                await self._put(path.removeprefix(OBJECTS), scope, body, send)
            elif path.startswith(INPUTS) and method == "GET":
                self._check("ERR_NOT_FOUND")
                await self._get(path.removeprefix(INPUTS), send)
            else:
                raise refusal("ERR_NOT_FOUND")
        except TheoryError as error:
            self._complain(error, method)
            await refuse(error, body, send)

    def _check(self, code: str, relpath: str = "") -> None:
        """Law: after a cancel, and after its time, the door is shut.

        A run that was cancelled owes its receipt still, as every run does (spec: receipts).
        """
        if self._clock() >= self._until or (self._shut and relpath != RECEIPT):
            raise refusal(code)

    async def _put(self, relpath: str, scope: Message, body: _Body, send: Send) -> None:
        self._check("ERR_UPLOAD", relpath)
        headers = dict(scope["headers"])
        mime = headers.get(b"content-type", _OCTETS.encode()).decode("latin-1")
        # The server has judged the header: it holds digits, and the body that many bytes.
        if int(headers.get(b"content-length", b"0")) > self._max_bytes:
            raise refusal("ERR_TOO_LARGE")
        pieces = self._timely(body.pieces(), relpath)
        received = await self._intakes.put(self.execution_id, relpath, pieces, mime=mime)
        answer = {"cid": received.cid, "size_bytes": received.size_bytes}
        await _answer(send, 201, _JSON, canonicalize(answer))

    async def _timely(self, pieces: AsyncIterator[bytes], relpath: str) -> AsyncIterator[bytes]:
        """The pieces, as long as they may come; an object is registered after the last of them."""
        async for piece in pieces:
            self._check("ERR_UPLOAD", relpath)
            yield piece
        self._check("ERR_UPLOAD", relpath)

    async def _get(self, cid: str, send: Send) -> None:
        """Stream an input; its status waits for the first piece, so that a refusal can be told."""
        pieces = self._intakes.read_input(self.execution_id, cid)
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
        log.warning(event, execution_id=self.execution_id, method=method)


class GatewayServer:
    """Serves a gateway on a unix socket until it is closed."""

    def __init__(self, serving: Serving, path: Path, execution_id: str) -> None:
        self._serving = serving
        self._path = path
        self._execution_id = execution_id

    @classmethod
    async def open(cls, path: Path, gateway: Gateway, *, mode: int = _PRIVATE) -> GatewayServer:
        """Listen, in place of a socket that an owner left who died; `mode` says who may connect.

        Raises `OSError` if the socket cannot be made.
        """
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            await asyncio.to_thread(_bind, listener, path, mode)
        except BaseException:
            listener.close()
            raise
        return cls(Serving(gateway, listener, connections=_CONNECTIONS), path, gateway.execution_id)

    async def close(self) -> None:
        """Stop listening, cut what is still open, remove the socket; idempotent.

        Law: what a run put in its socket's place is told, and goes with its folder; it is no
        fault of this program, and never raised.
        """
        await self._serving.close()
        try:
            await asyncio.to_thread(self._path.unlink, missing_ok=True)
        except OSError as error:
            blocked(self._execution_id, self._path.name, error)


def blocked(execution_id: str, name: str, error: OSError) -> None:
    """Tell that what is in place of a socket could not be removed; its door is closed."""
    facts = {"execution_id": execution_id, "socket": name, "reason": error.strerror}
    log.warning("run.door.blocked", **facts)


def _bind(listener: socket.socket, path: Path, mode: int) -> None:
    path.unlink(missing_ok=True)
    listener.bind(str(path))
    path.chmod(mode)


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
                raise refusal("ERR_UPLOAD")
            self._more = message.get("more_body", False)
            if piece := message.get("body", b""):
                yield piece

    async def drain(self) -> bool:
        """Take what a refused sender still sends, within bounds, so that it reads the refusal.

        Whether that was all.
        """
        left = _DRAIN_BYTES
        try:
            async with asyncio.timeout(_DRAIN_S):
                while self._more and left > 0:
                    message = await self._receive()
                    if message["type"] != "http.request":
                        return False
                    self._more = message.get("more_body", False)
                    left -= len(message.get("body", b""))
        except TimeoutError:
            return False
        return not self._more


async def refuse(error: TheoryError, body: _Body | None, send: Send) -> None:
    """Answer with a problem; a sender that still has something to say is cut off after it.

    Of `body`, if it is given, so much is taken first that most senders come to read the answer.
    """
    drained = body is not None and await body.drain()
    problem = _problem(error)
    await _start(send, _status(error), _PROBLEM, len(problem), last=not drained)
    await _piece(send, problem, more=False)


async def _answer(send: Send, status: int, mime: str, body: bytes) -> None:
    await _start(send, status, mime, len(body))
    await _piece(send, body, more=False)


async def _start(
    send: Send, status: int, mime: str, length: int | None, *, last: bool = False
) -> None:
    headers = [(b"content-type", mime.encode())]
    if length is not None:
        headers.append((b"content-length", str(length).encode()))
    if last:
        headers.append((b"connection", b"close"))
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


def refusal(code: str) -> TheoryError:
    """An error in the catalogue's words."""
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
