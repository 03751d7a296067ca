"""Who may come in: this machine's own hosts and origins, with the home's key."""

from __future__ import annotations

import hmac
import ipaddress
from typing import Final
from urllib.parse import urlsplit

from theory_api.web.connection import App, Receive, Scope, Send, values
from theory_api.web.problem import refuse
from theory_core import TheoryError

OPEN: Final = frozenset({"/healthz"})
"""Paths that need no key."""

_SCHEME: Final = "bearer "


class Access:
    """Checks every connection before anything else reads it.

    Law: a browser page of another origin gets nothing, whatever name it gave this address, and no
    key travels in a URL.
    """

    def __init__(self, app: App, *, key: str) -> None:
        self._app = app
        self._key = key.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the connection on, or refuse it with a problem."""
        if scope["type"] not in {"http", "websocket"}:
            await self._app(scope, receive, send)
            return
        refused = self._refusal(scope)
        if refused is None:
            await self._app(scope, receive, send)
            return
        challenge = [(b"www-authenticate", b'Bearer realm="theory"')]
        is_key = refused.code == "ERR_UNAUTHENTICATED"
        await refuse(scope, send, refused, headers=challenge if is_key else ())

    def _refusal(self, scope: Scope) -> TheoryError | None:
        hosts = values(scope, b"host")
        if len(hosts) != 1 or not is_loopback(_hostname(hosts[0])):
            message = "this server answers under its loopback names only"
            return TheoryError("ERR_FORBIDDEN", message, {"reason": "host"})
        for origin in values(scope, b"origin"):
            if not _same_site(origin, hosts[0]):
                message = "another origin may not talk to this server"
                return TheoryError("ERR_FORBIDDEN", message, {"reason": "origin"})
        if scope["path"] in OPEN:
            return None
        given = values(scope, b"authorization")
        if len(given) > 1:
            message = "invalid inputs payload: the Authorization header is there twice"
            return TheoryError("ERR_INPUTS", message, {"reason": "header"})
        if not given or not self._opens(given[0]):
            message = "send the home's key as Authorization: Bearer KEY"
            return TheoryError("ERR_UNAUTHENTICATED", message, {})
        return None

    def _opens(self, given: str) -> bool:
        if given[: len(_SCHEME)].lower() != _SCHEME:
            return False
        return hmac.compare_digest(given[len(_SCHEME) :].strip().encode(), self._key)


def is_loopback(host: str) -> bool:
    """Whether a host name or address can only mean this machine."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _hostname(host: str) -> str:
    """The name in a Host header, without its port; empty for a malformed one."""
    try:
        parts = urlsplit(f"//{host}")
        _ = parts.port
    except ValueError:
        return ""
    if parts.username is not None or parts.path or parts.query or parts.fragment:
        return ""
    return parts.hostname or ""


def _same_site(origin: str, host: str) -> bool:
    try:
        parts = urlsplit(origin)
    except ValueError:
        return False
    return parts.scheme in {"http", "https"} and parts.netloc.lower() == host.lower()
