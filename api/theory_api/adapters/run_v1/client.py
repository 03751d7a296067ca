"""Speaks `theory.run.v1` as the one who asks: opens, listens, re-attaches, controls."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field, replace
from typing import Any, Final
from urllib.parse import urlsplit

import structlog
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import (
    ConnectionClosed,
    InvalidHandshake,
    InvalidStatus,
    NegotiationError,
)
from websockets.typing import Subprotocol

from theory_api.adapters.run_v1.inflow import Inflow
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
_MORE_S: Final = 0.2
"""How long a server that told its result has to close the link (spec: run.v1)."""
_DISORDERED: Final = 1002
_INVALID: Final = 1008
_FULL: Final = 1013
"""With this a server refuses to begin a run that it has no place for (spec: run.v1)."""
_UNHEARD: Final = 1011
"""With this the library closes a link on which no pong came in time."""
_REFUSALS: Final = frozenset({1002, 1003, 1007, 1008, 1009})
_TRANSIENT: Final = frozenset({"ERR_WS_CLOSE", "ERR_WS_TIMEOUT"})


class _Connect(connect):
    """A handshake that is answered by whom it was sent to."""

    def process_redirect(self, exc: Exception) -> Exception | str:
        """Law: no redirect is followed; what goes to a processor goes nowhere else."""
        return exc


@dataclass(frozen=True, slots=True, kw_only=True)
class Dial:
    """Where a processor's `/run` is, and how patiently it is spoken to.

    Made by `dial_socket` and `dial_url`; `dataclasses.replace` changes the rest.
    """

    url: str
    socket: str | None = None
    """Path of the unix socket that is connected to, where there is one."""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Sent with the handshake; they may hold credentials."""
    tls: ssl.SSLContext | None = None
    """For `wss` with other authorities than the machine's."""
    one_server: bool = True
    """Whether every connection reaches the same server. Law: where that is not so, a run that may
    have been opened is never opened again, since it would start a second time elsewhere."""
    unread: int | None = _UNREAD
    """Most frames that arrived and were not taken; None for no bound."""
    open_s: float = _OPEN_S
    ping_s: float = _PING_S
    """Between two pings, and how long the answer to one may take."""

    def open(self) -> AbstractAsyncContextManager[ClientConnection]:
        """A new connection; asks no proxy and follows no redirect."""
        way: dict[str, Any] = {} if self.tls is None else {"ssl": self.tls}
        if self.socket is not None:
            way |= {"unix": True, "path": self.socket}
        return _Connect(
            self.url,
            additional_headers=dict(self.headers),
            subprotocols=[Subprotocol(RUN_SUBPROTOCOL)],
            compression=None,
            proxy=None,
            max_size=LIMITS["frame_bytes"],
            max_queue=self.unread,
            open_timeout=self.open_s,
            close_timeout=_CLOSE_S,
            ping_interval=self.ping_s,
            ping_timeout=self.ping_s,
            **way,
        )


def dial_socket(path: str) -> Dial:
    """The processor that listens on a unix socket."""
    return Dial(url="ws://localhost/run", socket=path)


def dial_url(
    url: str,
    *,
    headers: Mapping[str, str] | None = None,
    tls: ssl.SSLContext | None = None,
    one_server: bool = False,
) -> Dial:
    """The processor at a `ws` or `wss` URL, e.g. `wss://host/run`.

    Raises `TheoryError` `ERR_ADAPTER_INVOCATION` for anything else, and for one that names a user:
    credentials belong into `headers`.
    """
    parts = urlsplit(url)
    if parts.scheme not in {"ws", "wss"} or not parts.hostname or "@" in parts.netloc:
        raise TheoryError(
            "ERR_ADAPTER_INVOCATION", f"{_summary('ERR_ADAPTER_INVOCATION')}: url", {}
        )
    return Dial(url=url, headers=headers or {}, tls=tls, one_server=one_server)


async def send_control(
    to: Dial | str, execution_id: str, op: str, budget: Mapping[str, int] | None = None
) -> None:
    """Send one `Control` over a connection of its own, so that no data can delay it.

    `to` is where the processor is, or the path of its socket. Raises `TheoryError`: `ERR_WS_CLOSE`,
    `ERR_WS_PROTOCOL`, `ERR_WS_TIMEOUT`.
    """
    content: dict[str, Any] = {"op": op} if budget is None else {"op": op, "budget": budget}
    opening = {"role": "controller", "execution_id": execution_id}
    dial = dial_socket(to) if isinstance(to, str) else to
    # Without a bound nothing that comes in the other direction can hold up the close.
    async with _connection(replace(dial, unread=None)) as connection:
        protocol = RunProtocol("client")
        await connection.send(protocol.send("RunOpen", opening), text=True)
        await _receive(connection, protocol)
        await connection.send(protocol.send("Control", content), text=True)


class RunClient:
    """One execution, over as many connections as it takes. It never starts a run twice.

    `started` is for a run of an earlier client: it is joined or not found, never started.
    """

    def __init__(self, dial: Dial, execution_id: str, *, started: bool = False) -> None:
        self._dial = dial
        self._execution_id = execution_id
        self._inflow = Inflow()
        self._seen = 0
        self._asked = started
        self._known = started

    async def run(
        self, payload: Mapping[str, Any], *, on_frame: FrameSink | None, expected_oci: str | None
    ) -> Mapping[str, Any]:
        """Start or rejoin the run and return its envelope; every frame goes to `on_frame` first.

        A link that breaks is opened again, where it broke, as often as `REATTACH_S` says without
        a new frame. So is one on which the server had no place for the run. Raises `TheoryError`:
        `ERR_WS_CLOSE`, `ERR_WS_PROTOCOL`, `ERR_WS_TIMEOUT`, `ERR_RATE_LIMITED` (nothing was
        begun), and the codes of an envelope that is not the answer to this payload.
        """
        pauses = iter(REATTACH_S)
        while True:
            seen = self._seen
            try:
                envelope = await self._attach(payload, on_frame)
                break
            except TheoryError as error:
                if self._seen > seen:
                    pauses = iter(REATTACH_S)
                await self._again(error, next(pauses, None))
        return validate_envelope(
            envelope,
            execution_id=self._execution_id,
            write_prefix=payload["write_prefix"],
            expected_digest=expected_oci,
        )

    async def _again(self, error: TheoryError, pause_s: float | None) -> None:
        """Wait until the next try, or raise what there is to say if there is none."""
        lost = error.detail.get("close") == _INVALID
        refused = error.code == "ERR_RATE_LIMITED"
        transient = refused or (error.code in _TRANSIENT and not lost)
        if not transient or pause_s is None or not (refused or self._may_ask_again):
            log.warning("ws.connect.error", code=error.code, **self._labels)
            raise error
        log.info("ws.connect.again", seen=self._seen, **self._labels)
        await asyncio.sleep(pause_s)

    @property
    def _may_ask_again(self) -> bool:
        return self._known or not self._asked or self._dial.one_server

    @property
    def _labels(self) -> dict[str, str]:
        return {"execution_id": self._execution_id}

    async def _attach(
        self, payload: Mapping[str, Any], on_frame: FrameSink | None
    ) -> Mapping[str, Any]:
        """Listen on one connection up to the result."""
        opening: dict[str, Any] = {"role": "client", "execution_id": self._execution_id}
        if not self._known:
            # Law: a run that is known to have begun is joined; nothing can start it once more.
            opening["payload"] = dict(payload)
        if self._seen:
            opening["resume_from"] = self._seen
        log.info("ws.connect.start", **self._labels)
        async with _connection(self._dial, joining=self._known) as connection:
            log.info("ws.connect.ok", **self._labels)
            protocol = RunProtocol("client")
            self._asked = True
            await connection.send(protocol.send("RunOpen", opening), text=True)
            log.info("ws.run.start", **self._labels)
            while True:
                frame = await _receive(connection, protocol, self._inflow)
                self._known = True
                self._seen = protocol.next_seq - 1
                if on_frame is not None:
                    await on_frame(frame)
                if frame["kind"] == "RunResult":
                    log.info("ws.run.settle", status=frame["content"]["status"], **self._labels)
                    envelope: Mapping[str, Any] = frame["content"]
                    await self._last(connection, protocol)
                    return envelope

    async def _last(self, connection: ClientConnection, protocol: RunProtocol) -> None:
        """Hear out a server that told its result.

        Law: what follows a result ends the link with its close code, is logged once and changes
        nothing.
        """
        try:
            async with asyncio.timeout(_MORE_S):
                await _receive(connection, protocol)
        except TheoryError as error:
            close = error.detail.get("close")
            log.warning("ws.run.beyond", code=error.code, close=close, **self._labels)
        except (TimeoutError, ConnectionClosed):
            return


async def _receive(
    connection: ClientConnection, protocol: RunProtocol, inflow: Inflow | None = None
) -> dict[str, Any]:
    """The next frame; one that breaks the rules ends the connection with its close code."""
    try:
        text = await _text(connection)
        if inflow is not None:
            await inflow.took(len(text))
        return protocol.receive(text)
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
    """A connection whose failures are errors with codes: the one translation of this layer.

    `joining` says that the run was there before: a server that knows no such run has lost it.
    """

    def __init__(self, dial: Dial, *, joining: bool = False) -> None:
        self._context = dial.open()
        self._joining = joining

    async def __aenter__(self) -> ClientConnection:
        try:
            connection = await self._context.__aenter__()
        except TimeoutError as error:
            raise _error("ERR_WS_TIMEOUT", "handshake") from error
        except NegotiationError as error:
            raise _error("ERR_WS_PROTOCOL", "subprotocol") from error
        except InvalidStatus as error:
            status = error.response.status_code
            raise _error("ERR_WS_CLOSE", f"status {status}", status=status) from error
        except (OSError, EOFError, InvalidHandshake) as error:
            raise _error("ERR_WS_CLOSE", "unreachable") from error
        if connection.subprotocol != RUN_SUBPROTOCOL:
            await connection.close(_DISORDERED)
            raise _error("ERR_WS_PROTOCOL", "subprotocol")
        return connection

    async def __aexit__(self, *raised: object) -> None:
        error = raised[1]
        await self._context.__aexit__(None, None, None)
        if isinstance(error, ConnectionClosed):
            raise self._closed(error) from error

    def _closed(self, error: ConnectionClosed) -> TheoryError:
        """What the end of a link means; the end that closed first says why."""
        ours = None if error.rcvd_then_sent or error.sent is None else error.sent.code
        if ours == _UNHEARD:
            return _error("ERR_WS_TIMEOUT", "no pong", close=ours)
        code = ours if ours is not None else error.rcvd.code if error.rcvd is not None else None
        if self._joining and ours is None and code == _INVALID:
            return _error("ERR_WS_CLOSE", "the run is not there any more", close=code)
        if code is None:
            return _error("ERR_WS_CLOSE", "link lost")
        if code == _FULL and ours is None and not self._joining:
            return _error("ERR_RATE_LIMITED", "the server runs as many as it may", close=code)
        name = "ERR_WS_PROTOCOL" if code in _REFUSALS else "ERR_WS_CLOSE"
        return _error(name, str(code), close=code)


def _error(code: str, reason: str, **facts: object) -> TheoryError:
    return TheoryError(code, f"{_summary(code)}: {reason}", facts)


def _summary(code: str) -> str:
    return ERROR_CODES[code].summary
