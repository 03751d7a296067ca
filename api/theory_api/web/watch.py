"""A run as it happens: `theory.run.v1` for those who watch and steer it, one WebSocket each."""

from __future__ import annotations

import asyncio
from typing import Any, Final, cast

from litestar import Controller, WebSocket, websocket
from litestar.params import FromPath

from theory_api.scheduler.answer import Answer
from theory_api.web.connection import Message, Scope, Send
from theory_api.web.doors import Doors, InjectedDoors
from theory_api.web.events import GOING, TOO_SLOW, closed
from theory_api.web.plans import owned
from theory_api.web.problem import refuse, report
from theory_api.web.timely import Timely
from theory_core import ERROR_CODES, RUN_SUBPROTOCOL, RunProtocol, TheoryError

OPEN_S: Final = 10.0
"""How long a connection may be silent at its beginning."""

NORMAL: Final = 1000
PROTOCOL: Final = 1002
BINARY: Final = 1003
INVALID: Final = 1008

REFUSED: Final = frozenset({"ERR_CONFLICT", "ERR_PLAN_INVALID", "ERR_NOT_FOUND"})
"""What no repetition of a control would change."""


class WatchController(Controller):
    """The frames of one execution."""

    path = "/v1/plans/{tenant:str}/{plan:str}/executions/{execution_id:str}"
    tags = ("executions",)

    @websocket("/run")
    async def watch(
        self,
        socket: WebSocket[Any, Any, Any],
        tenant: FromPath[str],
        plan: FromPath[str],
        execution_id: FromPath[str],
        doors: InjectedDoors,
    ) -> None:
        """Ack, the run's frames from `resume_from` on, its stored envelope, close code 1000.

        A controller's `Control` is judged by the plan's owner; one that is refused closes the
        connection with 1008, its code first in the reason.
        """
        try:
            path = owned(doors, tenant, plan)
            state = await doors.watching.state(path, execution_id)
        except TheoryError as error:
            await refuse(cast("Scope", socket.scope), cast("Send", socket.send), error)
            return
        if RUN_SUBPROTOCOL not in socket.scope["subprotocols"]:
            await socket.accept()
            await socket.close(code=PROTOCOL, reason="subprotocol theory.run.v1 is required")
            return
        await socket.accept(subprotocols=RUN_SUBPROTOCOL)
        code, reason = await _Watcher(socket, doors, path, execution_id).serve(state)
        await closed(socket, code, reason)


class _Watcher:
    """One connection. Law: but for what a controller says, it changes nothing for the run.

    What is heard and what is sent wait for different things, so that no frame that nobody reads
    holds up a control.
    """

    def __init__(
        self, socket: WebSocket[Any, Any, Any], doors: Doors, plan: str, execution_id: str
    ) -> None:
        self._socket = socket
        self._doors = doors
        self._plan = plan
        self._execution_id = execution_id
        self._protocol = RunProtocol("server")
        self._asked: asyncio.Task[Answer] | None = None

    async def serve(self, state: str) -> tuple[int, str]:
        """From the first frame to the close code, and why."""
        try:
            async with asyncio.timeout(OPEN_S):
                opening = await self._receive()
        except TimeoutError:
            return INVALID, "no RunOpen in time"
        except TheoryError as error:
            return _code(error), error.message
        if opening is None:
            return GOING, ""
        if opening["role"] == "client":
            return INVALID, "a run is watched and controlled here; only plans start runs"
        if opening["execution_id"] != self._execution_id:
            return INVALID, "RunOpen names another execution than the address"
        sending = asyncio.create_task(self._send(state, opening.get("resume_from", 0)))
        hearing = asyncio.create_task(self._hear())
        try:
            await asyncio.wait({sending, hearing}, return_when=asyncio.FIRST_COMPLETED)
            return sending.result() if sending.done() else hearing.result()
        finally:
            for task in (sending, hearing):
                task.cancel()
            await asyncio.gather(sending, hearing, return_exceptions=True)
            if self._asked is not None:
                # What was said is heard to the end, whatever became of the connection.
                await asyncio.gather(self._asked, return_exceptions=True)

    async def _send(self, state: str, after: int) -> tuple[int, str]:
        ack = {"execution_id": self._execution_id, "state": state}
        frames = self._doors.watching.frames(self._plan, self._execution_id, after=after)
        try:
            async with Timely(cast("Send", self._socket.send), self._doors.send_timeout_s) as send:
                await send(_text(self._protocol.send("Ack", ack, seq=0)))
                async for text in frames:
                    await send(_text(text))
        except TimeoutError:
            return TOO_SLOW, ""
        except TheoryError as error:
            if error.code in {"ERR_INPUTS", "ERR_NOT_FOUND"}:
                return INVALID, error.message
            report(error)
            return GOING, ""
        finally:
            await frames.aclose()
        return NORMAL, ""

    async def _hear(self) -> tuple[int, str]:
        """Have controls judged as they come, until one is refused or the client leaves."""
        while True:
            try:
                content = await self._receive()
            except TheoryError as error:
                return _code(error), error.message
            if content is None:
                return GOING, ""
            try:
                await self._control(content)
            except TheoryError as error:
                return _refusal(error), f"{error.code}: {error.message}"

    async def _control(self, content: dict[str, Any]) -> None:
        """Hand one `Control` to the plan's owner; raises what refuses it."""
        self._asked = asyncio.create_task(
            self._doors.plans.control(
                self._plan,
                self._execution_id,
                content["op"],
                by=self._doors.principal,
                reason="over the control lane",
                budget=content.get("budget"),
            )
        )
        await asyncio.shield(self._asked)

    async def _receive(self) -> dict[str, Any] | None:
        """The content of the next frame; None for a client that left."""
        message: Message = cast("Message", await self._socket.receive())
        if message["type"] != "websocket.receive":
            return None
        text = message.get("text")
        if text is None:
            detail = {"reason": "binary", "close": BINARY}
            raise TheoryError("ERR_WS_PROTOCOL", "frames are text", detail)
        content: dict[str, Any] = self._protocol.receive(text)["content"]
        return content


def _text(frame: bytes) -> Message:
    return {"type": "websocket.send", "text": frame.decode()}


def _refusal(error: TheoryError) -> int:
    """The close code that answers a control: try again later, or never like this."""
    if error.code in REFUSED:
        return INVALID
    if not ERROR_CODES[error.code].retryable:
        report(error)
    return GOING


def _code(error: TheoryError) -> int:
    close = error.detail.get("close", INVALID)
    return close if isinstance(close, int) else INVALID
