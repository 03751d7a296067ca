"""Lines between a worker and its supervisor: one JSON object each, of bounded length."""

import socket
import threading
from collections.abc import Mapping
from typing import Any, Final

from theory_core import LIMITS, canonicalize, loads_strict
from theory_runtime.fault import fault

LINE_BYTES: Final = LIMITS["frame_bytes"] + LIMITS["line_bytes"]
"""Longest line, its newline included: a frame of the largest size, or an order."""

_READ_BYTES: Final = 1 << 16


def encode(message: Mapping[str, Any]) -> bytes:
    """One line; raises `TheoryError`: `ERR_TOO_LARGE`, or `ERR_JSON_*` for what is no JSON."""
    line = canonicalize(message) + b"\n"
    if len(line) > LINE_BYTES:
        raise fault("ERR_TOO_LARGE", "line", limit=LINE_BYTES)
    return line


def decode(line: bytes) -> dict[str, Any]:
    """The message of a line; raises `TheoryError` `ERR_WS_PROTOCOL` for anything but an object."""
    message = loads_strict(line)
    if not isinstance(message, dict):
        raise fault("ERR_WS_PROTOCOL", "line")
    return message


class Channel:
    """The worker's end; `send` may be called by any thread."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        self._lock = threading.Lock()

    def receive(self) -> dict[str, Any]:
        """The next message; raises `TheoryError` `ERR_WS_PROTOCOL` at the end of all."""
        line = bytearray()
        while not line.endswith(b"\n"):
            piece = self._end.recv(_READ_BYTES)
            if not piece or len(line) > LINE_BYTES:
                raise fault("ERR_WS_PROTOCOL", "line")
            line += piece
        return decode(bytes(line))

    def send(self, message: Mapping[str, Any]) -> None:
        """Send a message; waits while the supervisor is busy."""
        line = encode(message)
        with self._lock:
            self._end.sendall(line)
