"""Where a processor's server is on a network, and connections to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final, Protocol
from urllib.parse import urlsplit

import httpx

from theory_api.adapters.run_v1.calling import coded
from theory_api.adapters.run_v1.client import Dial, dial_socket, dial_url

_SCHEMES: Final[Mapping[str, str]] = {"http": "ws", "https": "wss"}


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A server of `theory.run.v1`: `/healthz` and `/run` are below its address."""

    url: str
    """`http://…` or `https://…`, without a path."""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    """What every request to it carries, credentials for one: never in a log."""
    socket: str | None = None
    """A unix socket on which it listens instead."""
    where: str = ""
    """What finds it again, whatever the settings say by then."""

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
        """How a client gets its connections to `/run`.

        Law: who answers at an address may change, so what may have been started there is never
        started again; behind a socket there is one server.
        """
        if self.socket is not None:
            return replace(dial_socket(self.socket), headers=self.headers)
        scheme, _, rest = self.url.partition("://")
        return dial_url(f"{_SCHEMES[scheme]}://{rest}/run", headers=self.headers)


class Endpoints(Protocol):
    """Finds the servers of processors."""

    async def of(self, ref: str, mode: str, *, where: str = "") -> Endpoint:
        """The server for a processor in a mode: the present one, or that which `where` names.

        Raises `TheoryError`: `ERR_ENDPOINT_MISSING` where there is none, so that nothing can run
        there, and the transport's own code where nobody can say.
        """
