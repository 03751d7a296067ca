"""WebSockets whose frames of one turn of the loop leave together, in one call of the kernel."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

MOST_BYTES: Final = 64 * 1024
"""What is gathered at most: with more the transport has to say whether its reader keeps up."""


class GatheringProtocol(WebSocketsSansIOProtocol):
    """As its parent speaks; a reader that is behind costs less a frame than one that is not."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Write through a transport that gathers."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - asyncio's own promise
        super().connection_made(Gathered(transport, self.loop))


class Gathered(asyncio.Transport):
    """Hands on what is written in one turn of the loop at its end, and before it closes."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self._transport = transport
        self._loop = loop
        self._pieces: list[bytes | bytearray | memoryview] = []
        self._size = 0

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Take it; it leaves in this turn."""
        if not self._pieces:
            self._loop.call_soon(self._hand_on)
        self._pieces.append(data)
        self._size += len(data)
        if self._size > MOST_BYTES:
            self._hand_on()

    def _hand_on(self) -> None:
        if self._pieces:
            pieces, self._pieces, self._size = self._pieces, [], 0
            self._transport.write(pieces[0] if len(pieces) == 1 else b"".join(pieces))

    def close(self) -> None:
        """Close, once everything has left."""
        self._hand_on()
        self._transport.close()

    def abort(self) -> None:
        """Close at once."""
        self._transport.abort()

    def is_closing(self) -> bool:
        """Whether it is closed, or being closed."""
        return self._transport.is_closing()

    def pause_reading(self) -> None:
        """Take nothing more from the other end for now."""
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Go on taking."""
        self._transport.resume_reading()

    def get_extra_info(self, name: str, default: Any = None) -> Any:  # noqa: ANN401 - its parent's
        """What the transport knows of itself."""
        return self._transport.get_extra_info(name, default)
