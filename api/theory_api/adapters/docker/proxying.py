"""What a client asks of the way out of its container, and how it is told that it is refused.

Whatever is not understood to the byte is refused: what a proxy and a server read differently is
a way around the list.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from theory_api.domain import uris
from theory_core import canonicalize

REFUSED: Final = "Theory-Refused"
"""The header of an answer that is the proxy's own: why there is no connection."""

_HEAD: Final = re.compile(r"([A-Z]{3,16}) ([!-~]{1,8192}) HTTP/(1\.[01])")
_LINE: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t -~\x80-\xff]*")
"""A header: a name, a colon next to it, a value without any sign that could end a line."""
_AUTHORITY: Final = re.compile(r"[^/?#@]+:[0-9]{1,5}")
_WHOLE: Final = re.compile(r"http://([^/?#@]+)([/?][^#]*)?", re.IGNORECASE)
_HOP: Final = ("proxy-", "connection:", "keep-alive:", "host:")
"""How the headers begin that are between a client and its proxy, or are written anew."""
_PHRASES: Final = {
    "malformed": (400, "Not a request to a proxy"),
    "not_listed": (403, "Not on the list of addresses"),
    "address_private": (403, "The name leads to a private address"),
    "too_large": (431, "Header too large"),
    "host_unknown": (502, "Host unknown"),
    "refused": (502, "Connection refused"),
    "unreachable": (502, "Host unreachable"),
    "too_many": (503, "Too many connections"),
    "bytes": (503, "Too many bytes"),
    "timeout": (504, "No connection in time"),
}
_OF_THE_RUN: Final = frozenset({"malformed", "not_listed", "address_private", "too_large"})


class RefusedError(Exception):
    """A connection that is not made, for one of the reasons in `_PHRASES`."""

    def __init__(self, reason: str) -> None:
        """Keep the reason."""
        super().__init__(reason)
        self.reason = reason


@dataclass(slots=True)
class Asked:
    """What a client asks for."""

    host: str
    port: int
    plain: bool
    """Whether it asks in absolute form."""
    head: bytes = b""
    """What the server is told of it then."""


def parse(head: bytes) -> Asked:
    """What a client asks for; the rest of its header goes on as it is, but for what is a proxy's.

    Law: one request of the absolute form for each connection, and for the host that it names.
    Raises `RefusedError` "malformed".
    """
    first, *lines = head.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
    match = _HEAD.fullmatch(first)
    if match is None or not all(map(_LINE.fullmatch, lines)):
        raise RefusedError("malformed")
    method, target, version = match.groups()
    plain = method != "CONNECT"
    whole = (_WHOLE if plain else _AUTHORITY).fullmatch(target)
    if whole is None:
        raise RefusedError("malformed")
    # Only the host is the same in either case.
    authority = (whole[1] if plain else target).lower()
    path = (whole[2] or "/") if plain else ""
    origin = uris.origin(f"http://{authority}{path}")
    if origin is None:
        raise RefusedError("malformed")
    _, host, port = origin
    if not plain:
        return Asked(host, port, plain=False)
    own = [f"{method} /{path.removeprefix('/')} HTTP/{version}", f"Host: {authority}"]
    kept = [line for line in lines if not line.lower().startswith(_HOP)]
    told = "\r\n".join([*own, *kept, "Connection: close", "", ""])
    return Asked(host, port, plain=True, head=told.encode("latin-1"))


def refusal(reason: str) -> bytes:
    """A refusal that any client shows: its phrase says why, and so does a header."""
    status, phrase = _PHRASES[reason]
    code = "ERR_INPUTS" if reason in _OF_THE_RUN else "ERR_PROVIDER"
    body = canonicalize({"code": code, "reason": reason})
    head = (
        f"HTTP/1.1 {status} {phrase}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        f"{REFUSED}: {reason}\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + body
