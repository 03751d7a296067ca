"""Talks to a processor and notes what it says, word for word, without judging it."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlsplit

import httpx
from websockets.asyncio.client import ClientConnection, connect, unix_connect
from websockets.exceptions import ConnectionClosed
from websockets.protocol import State
from websockets.typing import Subprotocol

from theory_core import RUN_SUBPROTOCOL, TheoryError

OWN_FRAMES: Final = frozenset({"Ack", "Gap"})
"""Kinds that belong to a connection and have no number in the run."""

_OPEN_S: Final = 10.0
_CLOSE_S: Final = 2.0


@dataclass(frozen=True, slots=True)
class Target:
    """Where a processor listens: a unix socket, or `ws://host:port/run`."""

    text: str

    def __post_init__(self) -> None:
        if self.url and urlsplit(self.url).scheme not in {"ws", "wss"}:
            message = "invalid inputs payload: a processor is reached by ws://, wss:// or a socket"
            raise TheoryError("ERR_INPUTS", message, {"reason": "target"})

    @property
    def url(self) -> str | None:
        """The address, if it is one."""
        return self.text if "://" in self.text else None

    def dial(self, subprotocol: str | None = RUN_SUBPROTOCOL) -> connect:
        """A connection to `/run`."""
        offered = None if subprotocol is None else [Subprotocol(subprotocol)]
        options: dict[str, Any] = {
            "subprotocols": offered,
            "compression": None,
            "max_size": None,
            "max_queue": None,
            "ping_interval": None,
            "open_timeout": _OPEN_S,
            "close_timeout": _CLOSE_S,
        }
        if self.url is None:
            return unix_connect(self.text, "ws://localhost/run", **options)
        return connect(self.url, proxy=None, **options)

    async def health(self) -> httpx.Response:
        """What it answers to `GET /healthz`; raises `httpx.HTTPError`."""
        base = "http://localhost"
        if self.url is None:
            transport = httpx.AsyncHTTPTransport(uds=self.text, verify=False)
        else:
            parts = urlsplit(self.url)
            safe = parts.scheme == "wss"
            base = f"{'https' if safe else 'http'}://{parts.netloc}"
            transport = httpx.AsyncHTTPTransport(verify=safe)
        async with httpx.AsyncClient(transport=transport, trust_env=False) as client:
            return await client.get(f"{base}/healthz")


@dataclass(slots=True)
class Heard:
    """Everything that was heard on one connection."""

    raw: list[str | bytes] = field(default_factory=list)
    close: int | None = None
    """The code with which the other side closed; None if it did not, or without one."""

    @property
    def frames(self) -> list[dict[str, Any]]:
        """The frames, as far as they are objects at all."""
        return [parsed(message) for message in self.raw]

    @property
    def numbered(self) -> list[str | bytes]:
        """The frames of the run itself, word for word."""
        return [raw for raw in self.raw if parsed(raw).get("kind") not in OWN_FRAMES]

    @property
    def result(self) -> dict[str, Any]:
        """The content of the first `RunResult`; empty if there is none."""
        results = (item for item in self.frames if item.get("kind") == "RunResult")
        content: object = next(results, {}).get("content")
        return content if isinstance(content, dict) else {}

    @property
    def last(self) -> int:
        """The highest number of a frame."""
        numbers = (frame.get("seq") for frame in self.frames)
        return max((number for number in numbers if type(number) is int), default=0)

    @property
    def told(self) -> str:
        """Its end in a few words."""
        result = self.result
        error = result.get("error")
        code = error.get("code") if isinstance(error, dict) else None
        ended = str(code or result.get("status") or "no result")
        return f"{ended}, closed with {self.close}"

    @property
    def code(self) -> str | None:
        """The error's code, if it ended with one."""
        error = self.result.get("error")
        return str(error.get("code")) if isinstance(error, dict) else None


class Talk:
    """One connection and what was heard on it."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection
        self.heard = Heard()

    async def say(self, message: str | bytes) -> None:
        """Send one message; a connection that is closed already says so when it is listened to."""
        with contextlib.suppress(ConnectionClosed):
            await self.connection.send(message)

    async def next(self) -> dict[str, Any]:
        """The next frame; empty once the connection is closed."""
        try:
            message = await self.connection.recv()
        except ConnectionClosed:
            self._note_close()
            return {}
        self.heard.raw.append(message)
        return parsed(message)

    async def until(self, kind: str) -> dict[str, Any]:
        """Listen up to a frame of a kind; empty once the connection is closed."""
        while frame := await self.next():
            if frame.get("kind") == kind:
                return frame
        return {}

    async def rest(self, linger_s: float) -> Heard:
        """Listen to the close; after a result the other side has `linger_s` for it."""
        await self.until("RunResult")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(linger_s):
                while await self.next():
                    pass
        return self.heard

    def _note_close(self) -> None:
        self.heard.close = self.connection.close_code


@contextlib.asynccontextmanager
async def talk(target: Target, subprotocol: str | None = RUN_SUBPROTOCOL) -> AsyncIterator[Talk]:
    """A connection for as long as the context lasts."""
    connection = await target.dial(subprotocol)
    try:
        yield Talk(connection)
    finally:
        await _leave(connection)


async def _leave(connection: ClientConnection) -> None:
    """End a connection, whatever the other side did to it."""
    if connection.state is State.OPEN:
        await connection.close()
        return
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_CLOSE_S):
            await connection.wait_closed()
            return
    if not connection.transport.is_closing():
        connection.transport.abort()


def parsed(message: str | bytes) -> dict[str, Any]:
    """A message as an object; one that is none has a kind that no frame has."""
    try:
        value = json.loads(message)
    except (ValueError, RecursionError):
        return {"kind": "(not JSON)"}
    return value if isinstance(value, dict) and value else {"kind": "(no object)"}
