"""An HTTP server on a socket, inside another program: quick to begin, quick to end."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any, Final

import uvicorn

from theory_core import LIMITS

Message = Mapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Message, Receive, Send], Awaitable[None]]

_GRACE_S: Final = 1


class Serving:
    """An application that is served until `close`."""

    def __init__(self, app: Application, listener: socket.socket, *, connections: int) -> None:
        """Serve on a socket that is bound; must be called in a running loop."""
        config = uvicorn.Config(
            app,
            lifespan="off",
            ws="none",
            http="h11",
            h11_max_incomplete_event_size=LIMITS["headers_bytes"],
            proxy_headers=False,
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=False,
            limit_concurrency=connections,
            timeout_graceful_shutdown=_GRACE_S,
        )
        self._server = _Server(config)
        self._task = asyncio.create_task(self._server.serve(sockets=[listener]))

    async def close(self) -> None:
        """Listen no more and cut, after a second, what is still under way; idempotent."""
        self._server.end()
        await asyncio.wait({self._task})


class _Server(uvicorn.Server):
    """A server that begins and ends with something else, many times a second."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._ending = asyncio.Event()

    def end(self) -> None:
        """Have it end now."""
        self.should_exit = True
        self._ending.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals alone: they are the program's."""
        yield

    async def main_loop(self) -> None:
        """Wait: nothing that its parent looks after ten times a second is asked for here."""
        await self._ending.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """As its parent does, who sleeps first; nobody waits where nothing is under way."""
        if self.server_state.connections or self.server_state.tasks:
            await super().shutdown(sockets)
            return
        for server in self.servers:
            server.close()
        for listener in sockets or ():
            listener.close()
