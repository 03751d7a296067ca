"""The gateway on TCP, for runs elsewhere: each execution has a token, and nothing else opens it."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import socket
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any, Final, Protocol

import uvicorn

from theory_api.adapters.run_v1.calling import coded
from theory_api.adapters.run_v1.gateway import OBJECTS, Gateway, Message, Receive, Send
from theory_core import ERROR_CODES, canonicalize

_TOKEN_BYTES: Final = 32
_CONNECTIONS: Final = 256
_GRACE_S: Final = 1
_PORT_MOST: Final = 65_535


class Uploads(Protocol):
    """Where executions that run elsewhere deliver."""

    def open(self, execution_id: str) -> AbstractAsyncContextManager[Mapping[str, Any]]:
        """`{url, headers}` of an `upload`, good until the block ends.

        Raises `TheoryError` `ERR_ADAPTER_INVOCATION`: there is no such place.
        """

    async def close(self) -> None:
        """Open nothing any more; idempotent."""


class TcpUploads:
    """Serves all executions of a process on one address, from the first that needs it.

    `public` is the address that processors reach it by, where that is another: that of a proxy
    which ends TLS before it. Law: without its token an execution's gateway does not exist.
    """

    def __init__(
        self,
        gateway: Callable[[str], Gateway],
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        public: str = "",
    ) -> None:
        self._gateway = gateway
        self._address = (host, port)
        self._public = public.rstrip("/")
        self._open: dict[bytes, Gateway] = {}
        self._lock = asyncio.Lock()
        self._server: uvicorn.Server | None = None
        self._serving: asyncio.Task[None] | None = None

    @contextlib.asynccontextmanager
    async def open(self, execution_id: str) -> AsyncIterator[Mapping[str, Any]]:
        """See `Uploads`."""
        url = await self._listen()
        token = secrets.token_urlsafe(_TOKEN_BYTES)
        key = f"Bearer {token}".encode()
        self._open[key] = self._gateway(execution_id)
        try:
            yield {"url": f"{url}{OBJECTS}", "headers": {"Authorization": key.decode()}}
        finally:
            del self._open[key]

    async def close(self) -> None:
        """Stop listening and cut what is still open."""
        if self._server is not None and self._serving is not None:
            self._server.should_exit = True
            await asyncio.wait({self._serving})

    async def _listen(self) -> str:
        async with self._lock:
            if self._server is None:
                try:
                    listener = socket.create_server(self._address)
                except OSError as error:
                    raise coded("ERR_ADAPTER_INVOCATION", "gateway") from error
                host, port = listener.getsockname()[:2]
                self._public = self._public or f"http://{host}:{port}"
                self._server = _Quiet(_configuration(self._answer))
                self._serving = asyncio.create_task(self._server.serve(sockets=[listener]))
        return self._public

    async def _answer(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        gateway = self._open.get(dict(scope["headers"]).get(b"authorization", b""))
        if gateway is not None:
            await gateway(scope, receive, send)
            return
        entry = ERROR_CODES["ERR_UNAUTHENTICATED"]
        problem = {
            "type": "about:blank",
            "title": entry.summary,
            "status": entry.status,
            "code": "ERR_UNAUTHENTICATED",
        }
        body = canonicalize(problem)
        headers = [
            (b"content-type", b"application/problem+json"),
            (b"content-length", str(len(body)).encode()),
            (b"connection", b"close"),
        ]
        start = {"type": "http.response.start", "status": entry.status, "headers": headers}
        await send(start)
        await send({"type": "http.response.body", "body": body})


def listening(address: str) -> tuple[str, int]:
    """Host and port of `HOST:PORT`; raises `ValueError` for other text."""
    host, colon, port = address.rpartition(":")
    if not colon or not host or not 0 <= int(port) <= _PORT_MOST:
        raise ValueError(address)
    return host.strip("[]"), int(port)


def _configuration(application: Any) -> uvicorn.Config:  # noqa: ANN401 - ASGI is no type
    return uvicorn.Config(
        application,
        interface="asgi3",
        proxy_headers=False,
        lifespan="off",
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        limit_concurrency=_CONNECTIONS,
        timeout_graceful_shutdown=_GRACE_S,
    )


class _Quiet(uvicorn.Server):
    """A server inside another program: signals are that program's."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals alone."""
        yield
