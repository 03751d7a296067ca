"""One plain question to an engine on a socket of this machine, where the SDK's way is too long."""

from __future__ import annotations

import asyncio
import json
import socket
from typing import Any, Final

_READ_BYTES: Final = 1 << 16
_MOST_BYTES: Final = 1 << 22
_OK: Final = b"200"


async def ask(path: str, target: str, *, within_s: float) -> Any:  # noqa: ANN401 - any JSON
    """The JSON that a GET is answered with on the unix socket `path`; None for anything else.

    Law: nothing follows from None. Whoever gets it asks by the SDK, which says why.
    """
    request = f"GET {target} HTTP/1.0\r\nHost: localhost\r\nAccept: application/json\r\n\r\n"
    try:
        async with asyncio.timeout(within_s):
            answer = await _exchange(path, request.encode("ascii"))
        head, _, body = answer.partition(b"\r\n\r\n")
        return json.loads(body) if head.split(b" ", 2)[1] == _OK else None
    except (OSError, ValueError, IndexError, TimeoutError):
        return None


async def _exchange(path: str, request: bytes) -> bytes:
    """All that comes back until the engine closes, which HTTP 1.0 says it does."""
    loop, answer = asyncio.get_running_loop(), bytearray()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as end:
        end.setblocking(False)  # noqa: FBT003 - positional only
        await loop.sock_connect(end, path)
        await loop.sock_sendall(end, request)
        while piece := await loop.sock_recv(end, _READ_BYTES):
            answer += piece
            if len(answer) > _MOST_BYTES:
                raise ValueError
    return bytes(answer)
