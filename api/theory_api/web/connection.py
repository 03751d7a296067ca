"""Raw ASGI connections, as the gates in front of the framework see them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


def values(scope: Scope, name: bytes) -> list[str]:
    """All values of a header, in order, nothing folded or dropped; `name` in lower case."""
    return [
        value.decode("latin-1").strip()
        for known, value in scope.get("headers", ())
        if known.lower() == name
    ]
