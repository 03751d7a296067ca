"""The examiner's own gateway: takes outputs over a unix socket and over TCP, and can be awkward."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote

import uvicorn

from theory_core import LIMITS, canonicalize, digest

SOCKET: Final = "io.sock"
HEADER: Final = "x-theory-shelf"
"""A header that every PUT has to carry, as an upload's `headers` say."""

_OBJECTS: Final = "/objects/"
_INPUTS: Final = "/inputs/"
_EXPIRES: Final = "9999-12-31T23:59:59.999999Z"
_GRACE_S: Final = 1

Message = Mapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Arrived:
    """One object that was put."""

    relpath: str
    body: bytes
    mime: str
    by_socket: bool
    has_header: bool


@dataclass(slots=True)
class Shelf:
    """What one run put, and how its door behaves."""

    token: str
    arrived: list[Arrived] = field(default_factory=list)
    refuse: bool = False
    """Answer 403 to everything."""
    held: asyncio.Event | None = None
    """No answer before it is set: how the examiner makes any run last."""
    knocked: asyncio.Event = field(default_factory=asyncio.Event)
    """Somebody put something."""
    offered: list[str] = field(default_factory=list)
    """Everything that was put, taken or not."""

    def get(self, relpath: str) -> Arrived | None:
        """The object at a relpath, if it came."""
        return next((item for item in self.arrived if item.relpath == relpath), None)

    def outputs(self) -> dict[str, Arrived]:
        """What was put below `outputs/`."""
        found = (item for item in self.arrived if item.relpath.startswith("outputs/"))
        return {item.relpath: item for item in found}


class Door:
    """An ASGI application, and the server that it is behind.

    `seen_as` is the folder of its socket as the processor sees it, where that is another: then it
    runs in a container and may have no network.
    """

    def __init__(
        self, folder: Path, files: Mapping[str, Path], *, seen_as: str | None = None
    ) -> None:
        self.seen_as = seen_as
        self._path = folder / SOCKET
        self._files = files
        self._shelves: dict[str, Shelf] = {}
        self._port = 0

    def shelf(self, *, held: bool = False, refuse: bool = False) -> Shelf:
        """A place for one more run."""
        shelf = Shelf(secrets.token_hex(8), refuse=refuse)
        if held:
            shelf.held = asyncio.Event()
        self._shelves[shelf.token] = shelf
        return shelf

    def upload(self, shelf: Shelf, *, by_socket: bool) -> dict[str, Any]:
        """The `upload` of a payload whose outputs go to a shelf."""
        upload: dict[str, Any] = {
            "url": f"http://127.0.0.1:{self._port}{_OBJECTS}{shelf.token}/",
            "headers": {HEADER: shelf.token},
            "expires_at": _EXPIRES,
            "max_bytes": LIMITS["output_bytes"],
        }
        if by_socket:
            seen = self._path.parent if self.seen_as is None else Path(self.seen_as)
            upload["socket"] = str(seen / SOCKET)
        return upload

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Listen on both ways until the context ends."""
        local = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        far = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        local.bind(str(self._path))
        # A container's user is another one; the folder is what keeps the socket private.
        await asyncio.to_thread(self._path.chmod, 0o666)
        far.bind(("127.0.0.1", 0))
        self._port = far.getsockname()[1]
        config = uvicorn.Config(
            self,
            lifespan="off",
            ws="none",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=_GRACE_S,
        )
        server = _Quiet(config)
        serving = asyncio.create_task(server.serve(sockets=[local, far]))
        try:
            yield
        finally:
            for shelf in self._shelves.values():
                if shelf.held is not None:
                    shelf.held.set()
            server.should_exit = True
            await asyncio.wait({serving})
            await asyncio.to_thread(self._path.unlink, missing_ok=True)

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        path, method = unquote((scope.get("raw_path") or b"").decode("latin-1")), scope["method"]
        body = await _body(receive)
        if body is None:
            return
        if method == "PUT" and path.startswith(_OBJECTS):
            token, _, relpath = path.removeprefix(_OBJECTS).partition("/")
            shelf = self._shelves.get(token)
            if shelf is not None:
                await _answer(send, *await _take(shelf, relpath, scope, body))
                return
        if method == "GET" and path.startswith(_INPUTS):
            file = self._files.get(path.removeprefix(_INPUTS))
            if file is not None:
                await _answer(send, 200, await asyncio.to_thread(file.read_bytes))
                return
        await _answer(send, 404, b'{"code":"ERR_NOT_FOUND"}')


async def _take(shelf: Shelf, relpath: str, scope: Message, body: bytes) -> tuple[int, bytes]:
    """Keep an object, once; hold the answer back where the shelf is held."""
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
    shelf.knocked.set()
    shelf.offered.append(relpath)
    if shelf.refuse:
        return 403, b'{"code":"ERR_FORBIDDEN"}'
    if shelf.held is not None:
        await shelf.held.wait()
    before = shelf.get(relpath)
    if before is not None and before.body != body:
        return 409, b'{"code":"ERR_CONFLICT"}'
    if before is None:
        # uvicorn states a unix socket by its path, without a port.
        by_socket = (scope.get("server") or ("", None))[1] is None
        header = headers.get(HEADER) == shelf.token
        mime = headers.get("content-type", "")
        shelf.arrived.append(Arrived(relpath, body, mime, by_socket, header))
    return 201, canonicalize({"cid": digest(body), "size_bytes": len(body)})


async def _body(receive: Receive) -> bytes | None:
    """All of a request's body; None if its sender left."""
    pieces = []
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return None
        pieces.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(pieces)


async def _answer(send: Send, status: int, body: bytes) -> None:
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})


class _Quiet(uvicorn.Server):
    """A server inside another program: signals are that program's."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals alone."""
        yield
