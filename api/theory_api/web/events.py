"""A plan's events over HTTP: pages, the head, and the live stream that resumes by seq."""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import AsyncIterator
from typing import Annotated, Any, Final, cast

from litestar import Controller, WebSocket, get, websocket
from litestar.di import NamedDependency
from litestar.params import FromPath, QueryParameter

from theory_api.domain.values import TERMINAL_PLAN
from theory_api.ports.truth import StoredEvent
from theory_api.scheduler.hub import ENDINGS
from theory_api.services.ledger import line
from theory_api.services.views import EventPage, HeadView
from theory_api.web.connection import Scope, Send
from theory_api.web.doors import Doors, InjectedDoors
from theory_api.web.plans import owned
from theory_api.web.problem import refuse, report
from theory_api.web.responses import READS
from theory_api.web.timely import Timely
from theory_core import LIMITS, TheoryError

DONE: Final = 1000
"""Close code after the plan's last event."""
UNWANTED: Final = 1008
"""Close code for a client that sends anything: the stream is one-way."""
BROKEN: Final = 1011
"""Close code for a plan that is set aside: its ledger is not what was written."""
GOING: Final = 1012
"""Close code when the server stops: connect again with `after`."""
TOO_SLOW: Final = 1013
"""Close code for a reader that does not keep up: connect again with `after`."""

_KEPT_FRAMES: Final = 256

LINGER_S: Final = 10.0
"""How long a reader that was cut may take to accept the close frame; then it is cut without one."""


class Frames:
    """Encoded frames of recent events: each is encoded once, for all its readers."""

    def __init__(self, kept: int = _KEPT_FRAMES) -> None:
        self._kept = kept
        self._frames: OrderedDict[tuple[str, int], str] = OrderedDict()

    def of(self, event: StoredEvent) -> str:
        """The text frame of an event: its export line."""
        name = (event.plan, event.seq)
        frame = self._frames.get(name)
        if frame is None:
            frame = self._frames[name] = line(event).decode().rstrip("\n")
            if len(self._frames) > self._kept:
                self._frames.popitem(last=False)
        return frame


class EventController(Controller):
    """The ledger of a plan, as pages and live."""

    path = "/v1/plans/{tenant:str}/{plan:str}"
    tags = ("events",)

    @get("/events", operation_id="listEvents", summary="A page of events", responses=READS)
    async def page(
        self,
        tenant: FromPath[str],
        plan: FromPath[str],
        doors: InjectedDoors,
        after: Annotated[int, QueryParameter(ge=0, le=LIMITS["integer_max"])] = 0,
        limit: Annotated[int, QueryParameter(ge=1, le=1000)] = 100,
    ) -> EventPage:
        """Events with `seq > after`. The same path as a WebSocket streams them live."""
        return await doors.queries.events(owned(doors, tenant, plan), after=after, limit=limit)

    @get(
        "/ledger/head",
        operation_id="ledgerHead",
        summary="The newest event's seq and hash",
        responses=READS,
    )
    async def head(
        self, tenant: FromPath[str], plan: FromPath[str], doors: InjectedDoors
    ) -> HeadView:
        """What to keep, to anchor a later verification."""
        return await doors.queries.head(owned(doors, tenant, plan))

    @websocket("/events")
    async def live(
        self,
        socket: WebSocket[Any, Any, Any],
        tenant: FromPath[str],
        plan: FromPath[str],
        doors: InjectedDoors,
        frames: NamedDependency[Frames],
    ) -> None:
        """One text frame an event, `{"event":…,"hash":"b3:…"}`, then close code 1000."""
        try:
            path = owned(doors, tenant, plan)
            after = _after(socket.query_params.get("after"))
            row = await doors.queries.row(path)
        except TheoryError as error:
            await refuse(cast("Scope", socket.scope), cast("Send", socket.send), error)
            return
        await socket.accept()
        if row.status in TERMINAL_PLAN and after >= row.head_seq:
            await socket.close(code=DONE)
            return
        await _serve(socket, doors, frames, doors.engine.subscribe(path, after=after))


def _after(text: str | None) -> int:
    if text is None:
        return 0
    if not (text.isascii() and text.isdigit() and len(text) < 17):  # noqa: PLR2004
        message = "invalid inputs payload: after is a seq: 0 or more"
        raise TheoryError("ERR_INPUTS", message, {"reason": "after"})
    return int(text)


async def _serve(
    socket: WebSocket[Any, Any, Any],
    doors: Doors,
    frames: Frames,
    events: AsyncIterator[StoredEvent],
) -> None:
    """Stream until the plan ends, the reader leaves, or it does not keep up."""
    sending = asyncio.create_task(_send(socket, doors, frames, events))
    reading = asyncio.create_task(_gone(socket))
    try:
        await asyncio.wait({sending, reading}, return_when=asyncio.FIRST_COMPLETED)
        if sending.done():
            await closed(socket, sending.result())
        elif reading.result():
            await closed(socket, UNWANTED)
    finally:
        for task in (sending, reading):
            task.cancel()
        await asyncio.gather(sending, reading, return_exceptions=True)


async def _send(
    socket: WebSocket[Any, Any, Any],
    doors: Doors,
    frames: Frames,
    events: AsyncIterator[StoredEvent],
) -> int:
    """Send every event; the close code that fits how it ended."""
    ended = False
    try:
        async with Timely(cast("Send", socket.send), doors.send_timeout_s) as send:
            async for event in events:
                await send({"type": "websocket.send", "text": frames.of(event)})
                ended = event.kind in ENDINGS
    except TimeoutError:
        return TOO_SLOW
    except TheoryError as error:
        report(error)
        return BROKEN if error.code == "ERR_CHAIN_BROKEN" else GOING
    return DONE if ended else GOING


async def _gone(socket: WebSocket[Any, Any, Any]) -> bool:
    """Wait for the client: False when it left, True when it sent something."""
    message = await socket.receive()
    return message["type"] == "websocket.receive"


async def closed(socket: WebSocket[Any, Any, Any], code: int, reason: str = "") -> None:
    """Close; a reader that takes nothing at all is left to the keep-alive."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(LINGER_S):
            await socket.close(code=code, reason=reason[:100] or None)
