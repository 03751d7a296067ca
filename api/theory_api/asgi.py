"""The server process: one scheduler, one web application, one loopback address."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from collections.abc import Callable, Iterator
from typing import Final

import uvicorn

from theory_api.adapters.process.transport import EnvironmentSource
from theory_api.observability.watchdog import Watchdog
from theory_api.settings import Settings
from theory_api.web.access import is_loopback
from theory_api.web.app import create_app
from theory_api.web.doors import Doors
from theory_api.web.gathering import GatheringProtocol
from theory_api.wiring import Services, open_engine
from theory_api.wiring.site import Seams
from theory_core import LIMITS, TheoryError

DRAIN_S: Final = 10
"""How long requests in flight may take once the server was told to stop."""

CONNECTIONS: Final = 1000
"""Connections and tasks at once; beyond it a request is answered 503."""

_CLIENT_FRAME_BYTES: Final = 64 * 1024
_PING_S: Final = 20.0


async def serve(
    settings: Settings,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    on_ready: Callable[[str], None] = lambda _url: None,
    environments: EnvironmentSource | None = None,
    seams: Seams | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT, then drain and stop; `on_ready` gets the URL.

    Port 0 takes any free one; `environments`, `seams` are `open_engine`'s. Raises `TheoryError`:
    `ERR_INPUTS` for an address that others can reach, `ERR_CONFLICT` for one in use,
    `ERR_NOT_WRITER` while another process serves this home, and what made the scheduler stop.
    """
    with contextlib.closing(_listen(host, port)) as listener:
        async with open_engine(
            settings, environments=environments, resident=True, seams=seams
        ) as services:
            watchdog = Watchdog()
            server = _Server(server_config(create_app(doors(services, watchdog))))
            name = f"[{host}]" if ":" in host else host
            url = f"http://{name}:{listener.getsockname()[1]}"
            with _stopping(server):
                watches = {
                    asyncio.create_task(_watch(services, server)),
                    asyncio.create_task(watchdog.run()),
                }
                try:
                    server.on_started = lambda: on_ready(url)
                    await server.serve(sockets=[listener])
                finally:
                    for watch in watches:
                        watch.cancel()
                    await asyncio.wait(watches)
            fault = services.unready()
            if fault is not None:
                raise fault


def doors(services: Services, watchdog: Watchdog) -> Doors:
    """What the web is given of the wired services, and who tells when they cannot serve."""
    return Doors(
        plans=services.plans,
        queries=services.queries,
        ledgers=services.ledgers,
        worlds=services.worlds,
        engine=services.engine,
        watching=services.watching,
        key=services.key,
        tenant=services.settings.tenant,
        principal=services.settings.principal,
        unready=lambda: services.unready() or watchdog.fault(),
        version=services.version,
        served=lambda: services.engine.served,
    )


class _Server(uvicorn.Server):
    """Leaves signals to its caller, who has more to stop than the server."""

    on_started: Callable[[], None]

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self.on_started()


def server_config(app: object) -> uvicorn.Config:
    """How an application is served: HTTP/1.1 and WebSockets, strict bounds, no log of its own."""
    return uvicorn.Config(
        app,  # type: ignore[arg-type]  # uvicorn's types of scopes are closed, ours open
        http="h11",
        ws=GatheringProtocol,
        ws_max_size=_CLIENT_FRAME_BYTES,
        ws_ping_interval=_PING_S,
        ws_ping_timeout=_PING_S,
        ws_per_message_deflate=False,
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        h11_max_incomplete_event_size=LIMITS["headers_bytes"],
        limit_concurrency=CONNECTIONS,
        timeout_graceful_shutdown=DRAIN_S,
    )


def _listen(host: str, port: int) -> socket.socket:
    """A listening socket of this machine alone."""
    if not is_loopback(host):
        message = (
            "this version serves on loopback addresses only; put a proxy with TLS in front to"
            " let others in"
        )
        raise TheoryError("ERR_INPUTS", message, {"variable": "--host"})
    address = "127.0.0.1" if host.lower() == "localhost" else host.strip("[]")
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        return socket.create_server((address, port), family=family, reuse_port=False)
    except OverflowError as error:
        raise TheoryError("ERR_INPUTS", "a port is a number from 0 to 65535", {}) from error
    except OSError as error:
        message = f"{host}:{port} cannot be served on: {error.strerror}; choose another --port"
        raise TheoryError("ERR_CONFLICT", message, {"port": port}) from error


@contextlib.contextmanager
def _stopping(server: uvicorn.Server) -> Iterator[None]:
    """SIGTERM and SIGINT drain the server; a second one does not wait for requests."""
    loop = asyncio.get_running_loop()

    def stop() -> None:
        server.force_exit = server.should_exit
        server.should_exit = True

    signals = (signal.SIGTERM, signal.SIGINT)
    for number in signals:
        loop.add_signal_handler(number, stop)
    try:
        yield
    finally:
        for number in signals:
            loop.remove_signal_handler(number)


async def _watch(services: Services, server: uvicorn.Server) -> None:
    """A server without its scheduler stops; it never idles as if well."""
    await services.engine.stopped.wait()
    server.should_exit = True
