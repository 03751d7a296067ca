"""A TCP link that a test can cut, or leave open and swallow what it carries."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Self
from urllib.parse import urlsplit


@dataclass
class Link:
    """One connection through the proxy."""

    writers: tuple[asyncio.StreamWriter, asyncio.StreamWriter]
    swallow_up: bool = False
    """Nothing reaches the server any more."""
    swallow_down: bool = False
    """Nothing comes back from the server any more."""
    up: int = 0
    """Bytes that the client sent since `watch`."""

    def cut(self) -> None:
        """As a reset would."""
        for writer in self.writers:
            writer.transport.abort()


@dataclass
class Proxy:
    """Forwards to a server until it is told otherwise."""

    host: str
    port: int
    links: list[Link] = field(default_factory=list)
    seen: Callable[[Link, bytes], Awaitable[bool]] | None = None
    """Is shown what goes to the server before it goes; what it answers False to does not go."""
    dark: bool = False
    """Whether new connections carry nothing, as after a partition."""
    _server: asyncio.Server | None = None

    @classmethod
    async def to(cls, url: str) -> Self:
        """A proxy in front of the server of a database's address."""
        parts = urlsplit(url)
        assert parts.hostname is not None
        assert parts.port is not None
        made = cls(parts.hostname, parts.port)
        made._server = await asyncio.start_server(made._serve, "127.0.0.1", 0)
        return made

    def through(self, url: str) -> str:
        """The same address, through this proxy."""
        assert self._server is not None
        port = self._server.sockets[0].getsockname()[1]
        return urlsplit(url)._replace(netloc=f"postgres@127.0.0.1:{port}").geturl()

    def part(self, *, dark: bool = True) -> None:
        """Swallow everything from now on, or nothing any more."""
        self.dark = dark
        for link in self.links:
            link.swallow_up = link.swallow_down = dark

    async def close(self) -> None:
        """Stop, and cut everything."""
        assert self._server is not None
        self._server.close()
        for link in self.links:
            link.cut()
        await asyncio.sleep(0.01)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection(self.host, self.port)
        except OSError:
            writer.transport.abort()
            return
        link = Link((writer, far_writer), swallow_up=self.dark, swallow_down=self.dark)
        self.links.append(link)
        up = self._pump(reader, far_writer, link, up=True)
        down = self._pump(far_reader, writer, link, up=False)
        await asyncio.gather(up, down)

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, link: Link, *, up: bool
    ) -> None:
        try:
            while chunk := await reader.read(1 << 16):
                if up:
                    link.up += len(chunk)
                    if self.seen is not None and not await self.seen(link, chunk):
                        continue
                if link.swallow_up if up else link.swallow_down:
                    continue
                writer.write(chunk)
                await writer.drain()
        except OSError:
            pass
        writer.close()
