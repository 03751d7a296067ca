"""Hints within one process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class MemorySignals:
    """Implements `theory_api.ports.signals.Signals` for all that share the object."""

    def __init__(self) -> None:
        self._listeners: dict[object, Callable[[str], None]] = {}

    def send(self, *topics: str) -> None:
        """Tell every listener in the next turn of the loop."""
        loop = asyncio.get_running_loop()
        for heard in self._listeners.values():
            for topic in topics:
                loop.call_soon(heard, topic)

    def listen(self, heard: Callable[[str], None]) -> Callable[[], None]:
        """Call `heard` with each topic from now on."""
        name = object()
        self._listeners[name] = heard

        def forget() -> None:
            self._listeners.pop(name, None)

        return forget

    async def close(self) -> None:
        """Nothing is open."""
