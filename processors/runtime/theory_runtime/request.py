"""Reads one HTTP/1.1 request with its body, within bounds."""

import asyncio
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from theory_core import LIMITS
from theory_runtime.fault import fault

READ_S: Final = 60.0
"""How long a request may take to arrive."""

_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_SIZE: Final = re.compile(rb"([0-9A-Fa-f]{1,8})(?:;[^\r\n]*)?\r\n")
_LENGTH: Final = re.compile(r"[0-9]{1,12}")
_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
_LINE_BYTES: Final = 1024
_ONCE: Final = frozenset({"content-length", "content-type", "host", "transfer-encoding"})
"""Headers whose repetition would leave two readers with two requests."""


@dataclass(frozen=True, slots=True)
class Request:
    """A request as it arrived; names of headers are in lower case."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes = b""

    @property
    def media_type(self) -> str:
        """The media type of its body, without parameters."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()


async def read_request(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Request:
    """The next request.

    Raises `TheoryError`: `ERR_INPUTS` for what is no request, or `ERR_TOO_LARGE`; `OSError` and
    `EOFError` where the other end leaves; `TimeoutError`.
    """
    async with asyncio.timeout(READ_S):
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.LimitOverrunError as error:
            raise fault("ERR_TOO_LARGE", "head", limit=LIMITS["headers_bytes"]) from error
        request = _head(head)
        if request.headers.get("expect", "").lower() == "100-continue":
            writer.write(_CONTINUE)
        body = await _body(reader, request.headers)
    return Request(request.method, request.path, request.headers, body)


def _head(head: bytes) -> Request:
    if len(head) > LIMITS["headers_bytes"]:
        raise fault("ERR_TOO_LARGE", "head", limit=LIMITS["headers_bytes"])
    lines = head.decode("latin-1").split("\r\n")[:-2]
    parts = lines[0].split(" ")
    if len(parts) != len(("method", "target", "version")) or parts[2] != "HTTP/1.1":
        raise fault("ERR_INPUTS", "request_line")
    headers: dict[str, str] = {}
    for line in lines[1:]:
        name, colon, value = line.partition(":")
        if not colon or _TOKEN.fullmatch(name) is None:
            raise fault("ERR_INPUTS", "header")
        if name.lower() in _ONCE & headers.keys():
            raise fault("ERR_INPUTS", "header_twice")
        headers.setdefault(name.lower(), value.strip(" \t"))
    return Request(parts[0], parts[1].partition("?")[0], headers)


async def _body(reader: asyncio.StreamReader, headers: Mapping[str, str]) -> bytes:
    """The body. Law: its length is stated in one way, or nothing is believed."""
    length, coding = headers.get("content-length"), headers.get("transfer-encoding")
    if coding is not None:
        if length is not None or coding.lower() != "chunked":
            raise fault("ERR_INPUTS", "transfer_encoding")
        return await _chunks(reader)
    if length is None or _LENGTH.fullmatch(length) is None:
        raise fault("ERR_INPUTS", "content_length")
    return await _exactly(reader, int(length), room=LIMITS["request_body_bytes"])


async def _chunks(reader: asyncio.StreamReader) -> bytes:
    body = bytearray()
    while True:
        match = _SIZE.fullmatch(await _line(reader))
        if match is None:
            raise fault("ERR_INPUTS", "chunk")
        size = int(match[1], 16)
        if size == 0:
            break
        body += await _exactly(reader, size, room=LIMITS["request_body_bytes"] - len(body))
        if await reader.readexactly(2) != b"\r\n":
            raise fault("ERR_INPUTS", "chunk")
    trailers = 0
    while (line := await _line(reader)) != b"\r\n":
        trailers += len(line)
        if trailers > LIMITS["headers_bytes"]:
            raise fault("ERR_TOO_LARGE", "head", limit=LIMITS["headers_bytes"])
    return bytes(body)


async def _line(reader: asyncio.StreamReader) -> bytes:
    try:
        line = await reader.readuntil(b"\r\n")
    except asyncio.LimitOverrunError as error:
        raise fault("ERR_INPUTS", "chunk") from error
    if len(line) > _LINE_BYTES:
        raise fault("ERR_INPUTS", "chunk")
    return line


async def _exactly(reader: asyncio.StreamReader, size: int, *, room: int) -> bytes:
    if size > room:
        raise fault("ERR_TOO_LARGE", "body", limit=LIMITS["request_body_bytes"])
    return await reader.readexactly(size)
