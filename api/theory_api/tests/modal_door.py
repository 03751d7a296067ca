"""The door before a container: lets in who has proxy credentials, and hands bytes on."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, field

STARTS_S = 30.0
CHUNK = 1 << 16
DENIED = b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
UNAVAILABLE = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


@dataclass
class Door:
    """Listens on a port of its own for one container's port."""

    port: int
    allowed: Mapping[str, str] | None
    """Key -> secret of who may enter; None for everybody."""
    instead: bytes | None = None
    """What is answered instead of the container, a redirect for one."""
    server: asyncio.Server | None = None
    tasks: set[asyncio.Task[None]] = field(default_factory=set)

    @classmethod
    async def open(cls, *, port: int, allowed: Mapping[str, str] | None) -> Door:
        door = cls(port, allowed)
        door.server = await asyncio.start_server(door._enter, "127.0.0.1", 0)
        return door

    @property
    def url(self) -> str:
        assert self.server is not None
        return f"http://127.0.0.1:{self.server.sockets[0].getsockname()[1]}"

    async def close(self) -> None:
        if self.server is not None:
            self.server.close()
        for task in self.tasks:
            task.cancel()
        if self.tasks:
            await asyncio.wait(self.tasks)

    async def _enter(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.tasks.add(task)
        try:
            await self._serve(reader, writer)
        except (OSError, EOFError, asyncio.CancelledError):
            pass
        finally:
            self.tasks.discard(task)
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        if self.instead is not None or not self._may_enter(head):
            writer.write(DENIED if self.instead is None else self.instead)
            await writer.drain()
            return
        try:
            inside, outside = await self._inside()
        except OSError:
            writer.write(UNAVAILABLE)
            await writer.drain()
            return
        outside.write(head)
        try:
            await asyncio.gather(_pump(reader, outside), _pump(inside, writer))
        finally:
            outside.close()

    def _may_enter(self, head: bytes) -> bool:
        if self.allowed is None:
            return True
        lines = head.decode("latin-1").split("\r\n")[1:]
        headers = {line.partition(":")[0].lower(): line.partition(":")[2].strip() for line in lines}
        secret = self.allowed.get(headers.get("modal-key", ""))
        return secret is not None and secret == headers.get("modal-secret")

    async def _inside(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection to the container, which may still be starting."""
        until = asyncio.get_running_loop().time() + STARTS_S
        while True:
            try:
                return await asyncio.open_connection("127.0.0.1", self.port)
            except OSError:
                if asyncio.get_running_loop().time() > until:
                    raise
                await asyncio.sleep(0.05)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Hand bytes on; the end of one side is the end of the other."""
    with contextlib.suppress(OSError):
        while data := await reader.read(CHUNK):
            writer.write(data)
            await writer.drain()
    with contextlib.suppress(OSError):
        if writer.can_write_eof():
            writer.write_eof()
