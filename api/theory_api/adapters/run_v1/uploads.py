"""Where runs elsewhere deliver: one TCP port for all of them, from the first that needs it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from theory_api.adapters.run_v1.calling import coded
from theory_api.adapters.run_v1.doors import LOOPBACK, Door, Doors
from theory_api.adapters.run_v1.gateway import Gateway
from theory_api.ports.intake import Intakes


class Uploads(Protocol):
    """Where executions that run elsewhere deliver."""

    def open(self, execution_id: str, *, expires_in_s: float) -> AbstractAsyncContextManager[Door]:
        """A door of the execution, until the block ends.

        Raises `TheoryError` `ERR_ADAPTER_INVOCATION`: there is no such place.
        """

    async def close(self) -> None:
        """Open nothing any more; idempotent."""


class Gate:
    """One TCP port for the doors of many schedulers: there from the first to the last user of it.

    `public_url` is where processors find it, if that is elsewhere: at a proxy that ends TLS.
    """

    def __init__(self, *, host: str = LOOPBACK, port: int = 0, public_url: str = "") -> None:
        self.public_url = public_url
        self._address = (host, port)
        self._lock = asyncio.Lock()
        self._doors: Doors | None = None
        self._users = 0

    async def join(self) -> Doors:
        """Use it; raises `TheoryError` `ERR_ADAPTER_INVOCATION` if the port cannot be had."""
        async with self._lock:
            if self._doors is None:
                host, port = self._address
                public_url = self.public_url or None
                self._doors = await Doors.listen(host=host, port=port, public_url=public_url)
            self._users += 1
            return self._doors

    async def leave(self) -> None:
        """Use it no more; the last one to leave closes it."""
        async with self._lock:
            self._users -= 1
            if self._users == 0 and self._doors is not None:
                doors, self._doors = self._doors, None
                await doors.close()


class TcpUploads:
    """Doors of one scheduler's executions in a gate.

    With `public` the gate has to be one that can be reached from elsewhere.
    """

    def __init__(self, gate: Gate, intakes: Intakes, *, public: bool = False) -> None:
        self._gate = gate
        self._intakes = intakes
        self._public = public
        self._lock = asyncio.Lock()
        self._doors: Doors | None = None

    @contextlib.asynccontextmanager
    async def open(self, execution_id: str, *, expires_in_s: float) -> AsyncIterator[Door]:
        """See `Uploads`."""
        if self._public and not self._gate.public_url:
            raise coded("ERR_ADAPTER_INVOCATION", "the gateway has no address for runs elsewhere")
        async with self._lock:
            if self._doors is None:
                self._doors = await self._gate.join()
            doors = self._doors
        door = doors.open(Gateway(execution_id, self._intakes, expires_in_s=expires_in_s))
        try:
            yield door
        finally:
            doors.shut(door)

    async def close(self) -> None:
        """Open nothing more."""
        doors, self._doors = self._doors, None
        if doors is not None:
            await self._gate.leave()
