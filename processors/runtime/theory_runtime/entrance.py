"""Connections that are a WebSocket or a legacy exchange: their first bytes decide."""

import asyncio
from typing import Any, ClassVar, Final

from websockets.asyncio.server import ServerConnection

from theory_core import LIMITS
from theory_runtime.legacy import Exchange, Opener

SILENT_S: Final = 10.0
"""How long a connection may say nothing at all."""
LAST_WORDS_S: Final = 1.0
"""How long the answers of ended runs may take to leave, once the server ends."""

_POST: Final = b"POST "


class Entrance(ServerConnection):
    """A connection that nothing is known of until it speaks."""

    opener: ClassVar[Opener]
    image_digest: ClassVar[str | None]
    exchanges: ClassVar[set[asyncio.Task[None]]]
    silent: ClassVar[set[asyncio.Transport]]
    """Those that nothing is known of yet."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - its parent's
        super().__init__(*args, **kwargs)
        self._first = bytearray()
        self._arrived: asyncio.Transport | None = None
        self._patience: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for the first bytes."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - asyncio's own promise
        self._arrived = transport
        self.silent.add(transport)
        self._patience = self.loop.call_later(SILENT_S, transport.abort)

    def data_received(self, data: bytes) -> None:
        """Hand the connection to whoever it is for; afterwards all bytes go there."""
        if self._arrived is None:
            super().data_received(data)
            return
        self._first += data
        if len(self._first) < len(_POST) and _POST.startswith(self._first):
            return
        transport, first = self._arrived, bytes(self._first)
        self._decide()
        if first.startswith(_POST):
            self._exchange(transport, first)
        else:
            super().connection_made(transport)
            super().data_received(first)

    def eof_received(self) -> None:
        """End one that never said what it is."""
        if self._arrived is None:
            super().eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget one that never said what it is."""
        if self._arrived is None:
            super().connection_lost(exc)
        self._decide()

    def _decide(self) -> None:
        if self._arrived is not None:
            self.silent.discard(self._arrived)
        self._arrived = None
        if self._patience is not None:
            self._patience.cancel()

    def _exchange(self, transport: asyncio.Transport, first: bytes) -> None:
        reader = asyncio.StreamReader(limit=LIMITS["headers_bytes"], loop=self.loop)
        protocol = asyncio.StreamReaderProtocol(reader, loop=self.loop)
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        writer = asyncio.StreamWriter(transport, protocol, reader, self.loop)
        protocol.data_received(first)
        exchange = Exchange(reader, writer, type(self).opener, image_digest=self.image_digest)
        task = self.loop.create_task(exchange.serve())
        self.exchanges.add(task)
        task.add_done_callback(self.exchanges.discard)

    @classmethod
    async def wind_up(cls) -> None:
        """Let exchanges whose result is told end; cut off whoever else is there."""
        for transport in list(cls.silent):
            transport.abort()
        if cls.exchanges:
            await asyncio.wait(cls.exchanges, timeout=LAST_WORDS_S)
        for task in list(cls.exchanges):
            task.cancel()
        if cls.exchanges:
            await asyncio.wait(cls.exchanges)


def entrance(opener: Opener, *, image_digest: str | None = None) -> type[Entrance]:
    """The kind of connection for `websockets`' servers whose POSTs open runs through `opener`."""
    members: dict[str, Any] = {
        "opener": staticmethod(opener),
        "image_digest": image_digest,
        "exchanges": set(),
        "silent": set(),
    }
    return type("Entrance", (Entrance,), members)
