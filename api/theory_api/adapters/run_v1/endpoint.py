"""Where a processor's server is on a network, and connections to it."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any, Final, Protocol
from urllib.parse import urlsplit

import httpx
from websockets.asyncio.client import ClientConnection, connect
from websockets.typing import Subprotocol

from theory_api.adapters.run_v1.calling import coded
from theory_api.adapters.run_v1.client import Dial
from theory_core import LIMITS, RUN_SUBPROTOCOL

_SCHEMES: Final[Mapping[str, str]] = {"http": "ws", "https": "wss"}
_UNREAD: Final = 16
_PING_S: Final = 20.0
_OPEN_S: Final = 15.0
_CLOSE_S: Final = 2.0


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A server of `theory.run.v1`: `/healthz` and `/run` are below its address."""

    url: str
    """`http://…` or `https://…`, without a path."""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    """What every request to it carries, credentials for one: never in a log."""
    socket: str | None = None
    """A unix socket on which it listens instead."""

    @classmethod
    def at(cls, url: str, headers: Mapping[str, str] | None = None) -> Endpoint:
        """The endpoint of an address; raises `TheoryError` `ERR_ENDPOINT_MISSING` for no address.

        `unix:///path` is a socket.
        """
        try:
            parts = urlsplit(url)
            known = parts.port is None or parts.port > 0
        except ValueError:
            known = False
        if known and parts.scheme == "unix" and parts.path:
            return cls("http://localhost", headers or {}, parts.path)
        if not known or parts.scheme not in _SCHEMES or not parts.hostname or parts.username:
            raise coded("ERR_ENDPOINT_MISSING", "address")
        return cls(f"{parts.scheme}://{parts.netloc}", headers or {})

    def transport(self) -> httpx.AsyncHTTPTransport:
        """The way of plain requests; nothing is tried twice."""
        return httpx.AsyncHTTPTransport(uds=self.socket, retries=0)

    def dial(self) -> Dial:
        """How a client gets its connections to `/run`."""
        return self.connect

    def connect(self) -> AbstractAsyncContextManager[ClientConnection]:
        """A connection to `/run`; it asks no proxy, and a redirect is no connection."""
        scheme, _, rest = self.url.partition("://")
        way: dict[str, Any] = {"unix": True, "path": self.socket} if self.socket else {}
        return _Straight(
            f"{_SCHEMES[scheme]}://{rest}/run",
            proxy=None,
            subprotocols=[Subprotocol(RUN_SUBPROTOCOL)],
            additional_headers=dict(self.headers),
            compression=None,
            max_size=LIMITS["frame_bytes"],
            max_queue=_UNREAD,
            open_timeout=_OPEN_S,
            close_timeout=_CLOSE_S,
            ping_interval=_PING_S,
            ping_timeout=_PING_S,
            **way,
        )


class _Straight(connect):
    """A connection that goes where it was sent and nowhere else."""

    def process_redirect(self, exc: Exception) -> Exception | str:
        """Law: no redirect is followed; credentials would go along."""
        return exc


class Endpoints(Protocol):
    """Finds the servers of processors."""

    async def of(self, ref: str, mode: str) -> Endpoint:
        """The server for a processor in a mode.

        Raises `TheoryError`: `ERR_ENDPOINT_MISSING` where there is none, and the transport's own
        code where nobody can say.
        """
