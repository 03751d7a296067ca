"""Speaks `theory.run.v1` as the one who asks: opens, listens, re-attaches, controls."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any, Final

import structlog
from websockets.asyncio.client import ClientConnection, unix_connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake
from websockets.typing import Subprotocol

from theory_api.ports.adapter import FrameSink
from theory_core import (
    ERROR_CODES,
    LIMITS,
    RUN_SUBPROTOCOL,
    RunProtocol,
    TheoryError,
    validate_envelope,
)

log = structlog.get_logger(__name__)

REATTACH_S: Final = (0.1, 0.4, 1.6)
"""Pauses before a lost connection is opened again, to the same run."""

_UNREAD: Final = 16
_PING_S: Final = 20.0
_OPEN_S: Final = 10.0
_CLOSE_S: Final = 2.0
_REFUSALS: Final = frozenset({1002, 1003, 1007, 1008, 1009})

Dial = Callable[[], AbstractAsyncContextManager[ClientConnection]]
"""Opens a connection to `/run`."""


def dial_socket(path: str, *, unread: int | None = _UNREAD) -> Dial:
    """Connections over a unix socket; of frames not taken yet at most `unread` are kept."""

    def dial() -> AbstractAsyncContextManager[ClientConnection]:
        return unix_connect(
            path,
            "ws://localhost/run",
            subprotocols=[Subprotocol(RUN_SUBPROTOCOL)],
            compression=None,
            max_size=LIMITS["frame_bytes"],
            max_queue=unread,
            open_timeout=_OPEN_S,
            close_timeout=_CLOSE_S,
            ping_interval=_PING_S,
            ping_timeout=_PING_S,
        )

    return dial


async def send_control(
    path: str, execution_id: str, op: str, budget: Mapping[str, int] | None = None
) -> None:
    """Send one `Control` over a connection of its own, so that no data can delay it.

    Raises `TheoryError`: `ERR_WS_CLOSE`, `ERR_WS_PROTOCOL`, `ERR_WS_TIMEOUT`.
    """
    content: dict[str, Any] = {"op": op} if budget is None else {"op": op, "budget": budget}
    opening = {"role": "controller", "execution_id": execution_id}
    # Without a bound nothing that comes in the other direction can hold up the close.
    async with _connection(dial_socket(path, unread=None)) as connection:
        protocol = RunProtocol("client")
        await connection.send(protocol.send("RunOpen", opening), text=True)
        await _receive(connection, protocol)
        await connection.send(protocol.send("Control", content), text=True)


class RunClient:
    """One execution, over as many connections as it takes. It never starts a run twice."""

    def __init__(self, dial: Dial, execution_id: str) -> None:
        self._dial = dial
        self._execution_id = execution_id
        self._seen = 0

    async def run(
        self, payload: Mapping[str, Any], *, on_frame: FrameSink | None, expected_oci: str | None
    ) -> Mapping[str, Any]:
        """Start or rejoin the run and return its envelope; every frame goes to `on_frame` first.

        Raises `TheoryError`: `ERR_WS_CLOSE`, `ERR_WS_PROTOCOL`, `ERR_WS_TIMEOUT`, and the codes of
        an envelope that is not the answer to this payload.
        """
        for pause_s in (*REATTACH_S, None):
            try:
                envelope = await self._attach(payload, on_frame)
                break
            except TheoryError as error:
                if error.code not in {"ERR_WS_CLOSE", "ERR_WS_TIMEOUT"} or pause_s is None:
                    log.warning("ws.connect.error", code=error.code, **self._labels)
                    raise
                log.info("ws.connect.again", seen=self._seen, **self._labels)
                await asyncio.sleep(pause_s)
        return validate_envelope(
            envelope,
            execution_id=self._execution_id,
            write_prefix=payload["write_prefix"],
            expected_digest=expected_oci,
        )

    @property
    def _labels(self) -> dict[str, str]:
        return {"execution_id": self._execution_id}

    async def _attach(
        self, payload: Mapping[str, Any], on_frame: FrameSink | None
    ) -> Mapping[str, Any]:
        """Listen on one connection up to the result."""
        opening: dict[str, Any] = {
            "role": "client",
            "execution_id": self._execution_id,
            "payload": dict(payload),
        }
        if self._seen:
            opening["resume_from"] = self._seen
        log.info("ws.connect.start", **self._labels)
        async with _connection(self._dial) as connection:
            log.info("ws.connect.ok", **self._labels)
            protocol = RunProtocol("client")
            await connection.send(protocol.send("RunOpen", opening), text=True)
            log.info("ws.run.start", **self._labels)
            while True:
                frame = await _receive(connection, protocol)
                self._seen = protocol.next_seq - 1
                if on_frame is not None:
                    await on_frame(frame)
                if frame["kind"] == "RunResult":
                    log.info("ws.run.settle", status=frame["content"]["status"], **self._labels)
                    envelope: Mapping[str, Any] = frame["content"]
                    return envelope


async def _receive(connection: ClientConnection, protocol: RunProtocol) -> dict[str, Any]:
    """The next frame; one that breaks the rules ends the connection with its close code."""
    try:
        return protocol.receive(await _text(connection))
    except TheoryError as error:
        close = error.detail.get("close")
        if isinstance(close, int):
            await connection.close(close)
        raise


async def _text(connection: ClientConnection) -> str:
    data = await connection.recv()
    if isinstance(data, str):
        return data
    detail = {"reason": "binary", "close": 1003}
    raise TheoryError("ERR_WS_PROTOCOL", f"{_summary('ERR_WS_PROTOCOL')}: binary", detail)


class _connection:  # noqa: N801 - a context manager that reads as a verb
    """A connection whose failures are errors with codes: the one translation of this layer."""

    def __init__(self, dial: Dial) -> None:
        self._context = dial()

    async def __aenter__(self) -> ClientConnection:
        try:
            connection = await self._context.__aenter__()
        except TimeoutError as error:
            raise TheoryError("ERR_WS_TIMEOUT", _summary("ERR_WS_TIMEOUT")) from error
        except (OSError, EOFError, InvalidHandshake) as error:
            raise TheoryError("ERR_WS_CLOSE", _summary("ERR_WS_CLOSE")) from error
        if connection.subprotocol != RUN_SUBPROTOCOL:
            await connection.close(1002)
            message = f"{_summary('ERR_WS_PROTOCOL')}: subprotocol"
            raise TheoryError("ERR_WS_PROTOCOL", message)
        return connection

    async def __aexit__(self, *raised: object) -> None:
        error = raised[1]
        await self._context.__aexit__(None, None, None)
        if isinstance(error, ConnectionClosed):
            code = error.rcvd.code if error.rcvd is not None else None
            name = "ERR_WS_PROTOCOL" if code in _REFUSALS else "ERR_WS_CLOSE"
            raise TheoryError(name, f"{_summary(name)}: {code}", {"close": code}) from error


def _summary(code: str) -> str:
    return ERROR_CODES[code].summary
