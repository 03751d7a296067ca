"""One connection to `/run`: its opening, the frames it gets, the controls it sends, its close."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Final

from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

from theory_core import RunProtocol, TheoryError, encode_frame
from theory_runtime.fault import fault
from theory_runtime.record import Record
from theory_runtime.run import Run

OPEN_S: Final = 10.0
"""How long a connection may be silent at its beginning."""

NORMAL: Final = 1000
PROTOCOL: Final = 1002
BINARY: Final = 1003
INVALID: Final = 1008
AGAIN: Final = 1013
"""Nothing was begun, and it may be asked for again; the reason begins with the error's code."""

Opener = Callable[[Mapping[str, Any]], Run]
"""Starts or finds the run that a `RunOpen` is for; raises `TheoryError`."""


class Session:
    """Serves one connection. Law: what it does, or does not do, changes nothing for the run."""

    def __init__(
        self, connection: ServerConnection, opener: Opener, *, image_digest: str | None = None
    ) -> None:
        self._connection = connection
        self._opener = opener
        self._image_digest = image_digest
        self._protocol = RunProtocol("server")

    async def serve(self) -> None:
        """From the first frame to the close; the close code says how it went."""
        try:
            code, reason = await self._converse()
        except ConnectionClosed:
            return
        except TheoryError as error:
            close = error.detail.get("close", INVALID)
            code, reason = close if isinstance(close, int) else INVALID, error.message
            if code == AGAIN:
                reason = f"{error.code}: {reason}"
        await self._connection.close(code, reason[:100])

    async def _converse(self) -> tuple[int, str]:
        if self._connection.subprotocol is None:
            return PROTOCOL, "subprotocol theory.run.v1 is required"
        try:
            async with asyncio.timeout(OPEN_S):
                opening = (await self._receive())["content"]
        except TimeoutError:
            return INVALID, "no RunOpen in time"
        run = self._opener(opening)
        seen = opening.get("resume_from", 0)
        if seen > run.record.last:
            raise fault("ERR_WS_PROTOCOL", "resume_from_beyond_last", close=INVALID)
        await self._greet(run)
        sending = asyncio.create_task(self._send(run.record, seen))
        obeying = asyncio.create_task(self._obey(run))
        try:
            await asyncio.wait({sending, obeying}, return_when=asyncio.FIRST_COMPLETED)
            if obeying.done() or sending.exception() is not None:
                # One that said something and left at once is heard to its last word.
                await obeying
        finally:
            for task in (sending, obeying):
                task.cancel()
            await asyncio.wait({sending, obeying})
        return NORMAL, ""

    async def _receive(self) -> dict[str, Any]:
        """The next frame; raises `TheoryError` with the close code that answers it."""
        data = await self._connection.recv()
        if not isinstance(data, str):
            raise fault("ERR_WS_PROTOCOL", "binary", close=BINARY)
        frame: dict[str, Any] = self._protocol.receive(data)
        return frame

    async def _greet(self, run: Run) -> None:
        content = {"execution_id": run.order.execution_id, "state": run.state}
        if self._image_digest is not None:
            content["image_digest"] = self._image_digest
        await self._connection.send(self._protocol.send("Ack", content, seq=0), text=True)

    async def _send(self, record: Record, seen: int) -> None:
        """Send what is kept after `seen` up to the result, each hole announced."""
        while True:
            frame = await record.news(seen)
            if frame.seq > seen + 1:
                gap = encode_frame("Gap", {"from": seen + 1, "to": frame.seq - 1}, seq=0)
                await self._connection.send(gap, text=True)
            await self._connection.send(frame.text, text=True)
            seen = frame.seq
            if frame.final:
                return

    async def _obey(self, run: Run) -> None:
        """Obey controls as they come, whatever else is on its way."""
        while True:
            content = (await self._receive())["content"]
            run.control(content["op"], content.get("budget"))
