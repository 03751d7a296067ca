"""The way out of a container without a network: a port on its loopback that leads to a socket.

The other end of the socket is a proxy of the control plane, which admits what a list names. The
port is for clients that know proxies by their usual environment names and no sockets.
"""

import asyncio
import contextlib
import stat
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Final

from theory_runtime.egress import WAY_OUT

SOCKET: Final = "egress.sock"
"""Its name in the folder of a server; where there is none, a run has no way out."""

_LOOPBACK: Final = "127.0.0.1"
_PIECE: Final = 1 << 16
_NAMES: Final = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")


@contextlib.asynccontextmanager
async def outlet(folder: Path) -> AsyncIterator[Mapping[str, str]]:
    """What the environment of a worker says of its way out; empty if the folder has none.

    The port is open as long as the context is.
    """
    place = folder / SOCKET
    if not _is_socket(place):
        yield {}
        return
    leading: set[asyncio.Task[None]] = set()

    def lead(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(_lead(place, reader, writer))
        leading.add(task)
        task.add_done_callback(leading.discard)

    server = await asyncio.start_server(lead, _LOOPBACK, 0)
    try:
        host, port = server.sockets[0].getsockname()
        yield environment(f"{host}:{port}")
    finally:
        server.close()
        for task in leading:
            task.cancel()
        if leading:
            await asyncio.wait(leading)


def environment(address: str) -> dict[str, str]:
    """The names that clients of any language look at; nothing is exempt from the way out."""
    url = f"http://{address}"
    told = dict.fromkeys((*_NAMES, *map(str.lower, _NAMES)), url)
    return {WAY_OUT: address, **told, "NO_PROXY": "", "no_proxy": ""}


async def _lead(place: Path, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Hand on what comes, both ways, until the other end has said everything."""
    copying: list[asyncio.Task[None]] = []
    there: asyncio.StreamWriter | None = None
    try:
        source, there = await asyncio.open_unix_connection(str(place))
        out = asyncio.create_task(_copy(reader, there))
        back = asyncio.create_task(_copy(source, writer))
        copying += [out, back]
        while not back.done():
            waiting = [task for task in copying if not task.done()]
            done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
    except OSError:
        # Either end is gone: whoever is left sees that it ended.
        writer.transport.abort()
    finally:
        for end in (writer, there):
            if end is not None:
                end.close()
        for task in copying:
            task.cancel()
        await asyncio.gather(*copying, return_exceptions=True)


async def _copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    while piece := await source.read(_PIECE):
        sink.write(piece)
        await sink.drain()
    sink.write_eof()


def _is_socket(path: Path) -> bool:
    try:
        return stat.S_ISSOCK(path.lstat().st_mode)
    except OSError:
        return False
