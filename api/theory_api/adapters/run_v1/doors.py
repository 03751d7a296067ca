"""Gateways over TCP, for places where sockets do not cross: each behind a name of its own."""

from __future__ import annotations

import secrets
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlsplit

import structlog

from theory_api.adapters.run_v1.gateway import (
    INPUTS,
    OBJECTS,
    Gateway,
    refusal,
    refuse,
)
from theory_api.adapters.run_v1.serving import Message, Receive, Send, Serving
from theory_core import ERROR_CODES, TheoryError, digest

log = structlog.get_logger(__name__)

LOOPBACK: Final = "127.0.0.1"

_CONNECTIONS: Final = 256
_TOKEN_BYTES: Final = 32
_ARTIFACT: Final = frozenset({"path", "cid", "size_bytes", "mime", "url"})


@dataclass(frozen=True, slots=True)
class Door:
    """The way to one gateway. Whoever knows it may use it: it belongs into no log."""

    base: str = field(repr=False)
    """Its URL, without a slash at the end."""
    gateway: Gateway = field(repr=False)

    @property
    def url(self) -> str:
        """What `upload.url` says."""
        return self.base + OBJECTS

    def inputs(self, document: Mapping[str, Any]) -> dict[str, Any]:
        """The inputs of a payload with every artifact's URL leading here."""
        return {name: self._lead(value) for name, value in document.items()}

    def _lead(self, value: Any) -> Any:  # noqa: ANN401
        if isinstance(value, Mapping):
            if value.keys() == _ARTIFACT:
                return {**value, "url": f"{self.base}{INPUTS}{value['cid']}"}
            return self.inputs(value)
        if isinstance(value, list):
            return [self._lead(item) for item in value]
        return value


class Doors:
    """Many gateways on one TCP port.

    Law: a door that was not opened, was closed or never was is the same 404, and the tokens are
    compared by their digests, so that neither an answer nor its time tells how near a guess came.
    """

    def __init__(self, base: str) -> None:
        self._base = base.rstrip("/")
        self._gateways: dict[str, Gateway] = {}
        self._serving: Serving

    @classmethod
    async def listen(
        cls, *, host: str = LOOPBACK, port: int = 0, public_url: str | None = None
    ) -> Doors:
        """Listen; port 0 is any that is free.

        `public_url` is where processors reach this port, through a proxy that ends TLS for one;
        without it that is the port itself. Raises `TheoryError` `ERR_ADAPTER_INVOCATION` for a URL
        that is none and for a port that cannot be had.
        """
        try:
            listener = socket.create_server((host, port))
        except OSError as error:
            raise _unusable("gateway") from error
        if public_url is None:
            public_url = f"http://{host}:{listener.getsockname()[1]}"
        parts = urlsplit(public_url)
        if parts.scheme not in {"http", "https"} or not parts.hostname or "@" in parts.netloc:
            listener.close()
            raise _unusable("gateway url")
        doors = cls(public_url)
        doors._serving = Serving(doors, listener, connections=_CONNECTIONS)
        log.info("gateway.listen", host=host, port=listener.getsockname()[1])
        return doors

    def open(self, gateway: Gateway) -> Door:
        """A new door to a gateway, with 256 bits that nobody can guess in its URL."""
        token = secrets.token_urlsafe(_TOKEN_BYTES)
        self._gateways[_key(token)] = gateway
        return Door(f"{self._base}/{token}", gateway)

    def shut(self, door: Door) -> None:
        """Close a door, and stop what is on its way through it; idempotent."""
        gateway = self._gateways.pop(_key(door.base.rpartition("/")[2]), None)
        if gateway is not None:
            gateway.shut()

    async def close(self) -> None:
        """Stop listening and shut every door; idempotent."""
        for gateway in self._gateways.values():
            gateway.shut()
        self._gateways.clear()
        await self._serving.close()

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Hand a request to the gateway whose token its path begins with."""
        if scope["type"] != "http":
            return
        token, slash, rest = (scope.get("raw_path") or b"")[1:].partition(b"/")
        gateway = self._gateways.get(_key(token.decode("latin-1")))
        if gateway is None:
            # Nothing is read of somebody who did not know where to send it.
            await refuse(refusal("ERR_NOT_FOUND"), None, send)
            return
        await gateway({**scope, "raw_path": slash + rest}, receive, send)


def _key(token: str) -> str:
    return digest(token.encode())


def _unusable(reason: str) -> TheoryError:
    summary = ERROR_CODES["ERR_ADAPTER_INVOCATION"].summary
    return TheoryError("ERR_ADAPTER_INVOCATION", f"{summary}: {reason}", {})
