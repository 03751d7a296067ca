"""The server of a processor: `/healthz`, `/run`, and the runs behind them."""

import asyncio
import contextlib
import signal
import time
from collections.abc import Mapping
from typing import Any, Final

from websockets.asyncio.server import ServerConnection, unix_serve
from websockets.asyncio.server import serve as tcp_serve
from websockets.datastructures import Headers
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol

from theory_core import LIMITS, RUN_SUBPROTOCOL
from theory_runtime import guard
from theory_runtime.entrance import entrance
from theory_runtime.fault import fault
from theory_runtime.kin import Brood
from theory_runtime.order import Order
from theory_runtime.outlet import outlet
from theory_runtime.reserve import Reserve
from theory_runtime.run import Place, Run
from theory_runtime.session import AGAIN, INVALID, Session

SOCKET: Final = "run.sock"
HEALTHY: Final = b'{"ok":true}'
DIGEST_HEADER: Final = "Theory-Image-Digest"
KEPT_S: Final = 600.0
"""How long a result can still be asked for."""
LEAST_S: Final = 60.0
"""How long it can be, however many there are (spec: run.v1)."""
KEPT_RUNS: Final = 64
"""Ended runs that are kept longer than that."""

_CLOSE_S: Final = 1.0
_LATER_S: Final = 0.02
"""Until a worker is started ahead: the last result is on its way by then, and was accounted for."""
_PING_S: Final = 20.0


class Runs:
    """The runs of this server, by execution."""

    def __init__(self, place: Place, way_out: Mapping[str, str] | None = None) -> None:
        self._place = place
        self._runs: dict[str, Run] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._reserve = Reserve(
            place.main_file, place.folder, Brood(), keeps=bool(place.scratch), way_out=way_out
        )

    def open(self, opening: Mapping[str, Any]) -> Run:
        """Start the run of a `RunOpen`, or attach to it (spec: run.v1).

        Raises `TheoryError`: `ERR_WS_PROTOCOL`, to be answered with 1008: nothing to attach to, or
        the same execution with another payload; `ERR_RATE_LIMITED`, with 1013: as many as may be
        are at work, and this one was not begun.
        """
        name, payload = opening["execution_id"], opening.get("payload")
        run = self._runs.get(name)
        if run is None:
            # Law: who saw frames of a run wants that one; another is not started in its place.
            if payload is None or opening.get("resume_from", 0) > 0:
                raise fault("ERR_WS_PROTOCOL", "no_such_run", close=INVALID)
            return self._start(Order(name, payload))
        if payload is not None and not run.order.is_same_run(Order(name, payload)):
            raise fault("ERR_WS_PROTOCOL", "other_payload", close=INVALID)
        return run

    def _start(self, order: Order) -> Run:
        self._forget()
        most = self._place.concurrency
        # Law: one whose result is not told is at work, whatever became of its worker.
        if most is not None and sum(run.ended_at is None for run in self._runs.values()) >= most:
            raise fault("ERR_RATE_LIMITED", "concurrency", close=AGAIN)
        run = self._runs[order.execution_id] = Run(order, self._place, self._reserve)
        task = asyncio.create_task(self._live(run))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return run

    async def _live(self, run: Run) -> None:
        with self._reserve.at_work():
            await run.live()
        await asyncio.sleep(_LATER_S)
        await self._reserve.fill()

    async def prepare(self) -> None:
        """Have the first run wait for nothing that can be done before."""
        await self._reserve.fill()

    def _forget(self) -> None:
        """Let go of ended runs, the oldest first."""
        now = time.monotonic()
        ended = [
            (run.ended_at, name) for name, run in self._runs.items() if run.ended_at is not None
        ]
        ended.sort()
        for place, (ended_at, name) in enumerate(ended):
            many = len(ended) - place > KEPT_RUNS
            if now - ended_at > LEAST_S:
                # What is on disk was for those who come back soon.
                self._runs[name].record.close()
            if now - ended_at > (LEAST_S if many else KEPT_S):
                del self._runs[name]

    async def stop(self) -> None:
        """End all runs and wait for their results; no worker waits for another."""
        self._reserve.forgo()
        for run in self._runs.values():
            run.stop(fault("ERR_CANCELLED"))
        if self._tasks:
            await asyncio.wait(self._tasks)
        await self._reserve.close()

    def abandon(self) -> None:
        """Kill all workers: nobody is left to hear of them."""
        for run in self._runs.values():
            run.stop(fault("ERR_CANCELLED"), at_once=True)


async def serve(
    place: Place, *, lifeline: int | None = None, listen: tuple[str, int] | None = None
) -> None:
    """Serve on `run.sock` in the place's folder, and on `listen` if given, until told to end.

    That is SIGTERM or SIGINT, or the end of the process that holds the other end of `lifeline`.
    Law: in a container, which has no such process or listens, no run looks into its supervisor.
    """
    if lifeline is None or listen is not None:
        guard.conceal()
    guard.adopt_orphans()
    guard.signal_at_parents_death(signal.SIGTERM)
    async with outlet(place.folder) as way_out:
        await _serve(Runs(place, way_out), place, lifeline, listen)


async def _serve(
    runs: Runs, place: Place, lifeline: int | None, listen: tuple[str, int] | None
) -> None:
    """Answer for the runs until told to end."""
    loop, ending = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ending.set)
    orphaned = asyncio.Event()
    if lifeline is not None:
        loop.add_reader(lifeline, _cut, lifeline, orphaned, ending)
    digest = place.image_digest

    async def handle(connection: ServerConnection) -> None:
        await Session(connection, runs.open, image_digest=digest).serve()

    connections = entrance(runs.open, image_digest=digest)
    options: dict[str, Any] = {
        "create_connection": connections,
        "process_request": lambda connection, request: _answer(connection, request, digest),
        "select_subprotocol": _select,
        "compression": None,
        "max_size": LIMITS["frame_bytes"],
        "ping_interval": _PING_S,
        "ping_timeout": _PING_S,
        "close_timeout": _CLOSE_S,
        "server_header": None,
    }
    async with contextlib.AsyncExitStack() as servers:
        socket = str(place.folder / SOCKET)
        await servers.enter_async_context(await unix_serve(handle, socket, **options))
        if listen is not None:
            await servers.enter_async_context(await tcp_serve(handle, *listen, **options))
        await runs.prepare()
        await ending.wait()
        await _wind_up(runs, orphaned)
        await connections.wind_up()


def _cut(lifeline: int, *events: asyncio.Event) -> None:
    """The other end of the lifeline is gone; nothing is ever written to it."""
    asyncio.get_running_loop().remove_reader(lifeline)
    for event in events:
        event.set()


async def _wind_up(runs: Runs, orphaned: asyncio.Event) -> None:
    """Stop all runs; a parent that dies meanwhile, or did already, leaves them no grace.

    The signal of a parent's death may come while it still holds its end of the lifeline.
    """
    stopping = asyncio.ensure_future(runs.stop())
    alone = asyncio.ensure_future(orphaned.wait())
    await asyncio.wait({stopping, alone}, return_when=asyncio.FIRST_COMPLETED)
    if alone.done():
        runs.abandon()
    alone.cancel()
    await stopping


def _select(_connection: ServerConnection, offered: "list[Subprotocol]") -> Subprotocol | None:
    """Accept a client that speaks something else too: it gets a close code that says why."""
    return Subprotocol(RUN_SUBPROTOCOL) if RUN_SUBPROTOCOL in offered else None


def _answer(_connection: ServerConnection, request: Request, digest: str | None) -> Response | None:
    """Answer plain requests; None lets `/run` become a WebSocket."""
    path = request.path.partition("?")[0]
    if path == "/run":
        return None
    headers = Headers({"Content-Type": "application/json", "Connection": "close"})
    if path != "/healthz":
        return _response(404, "Not Found", headers, b'{"code":"ERR_NOT_FOUND"}')
    if digest is not None:
        headers[DIGEST_HEADER] = digest
    return _response(200, "OK", headers, HEALTHY)


def _response(status: int, phrase: str, headers: Headers, body: bytes) -> Response:
    headers["Content-Length"] = str(len(body))
    return Response(status, phrase, headers, body)
