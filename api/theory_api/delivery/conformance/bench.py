"""Where a processor is examined: orders with ids of their own, and the runs that they lead to."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from theory_api.delivery.conformance.door import Door, Shelf
from theory_api.delivery.conformance.sample import Params, Sample
from theory_api.delivery.conformance.talk import Heard, Talk, Target, talk
from theory_core import digest

SNAPSHOT: Final = digest(b"")


@dataclass(frozen=True, slots=True)
class Pace:
    """How long the examiner waits for what, in seconds."""

    silence_s: float = 10.0
    """After this much silence at the beginning a server closes."""
    cancel_s: float = 8.0
    """For a cancelled run to end: five seconds of grace, and a little more."""
    answer_s: float = 5.0
    """For an answer that needs no work."""
    linger_s: float = 2.0
    """After a result, for the close."""
    run_s: float = 90.0
    """For a whole run."""


@dataclass(frozen=True, slots=True)
class Order:
    """One run that is asked for, and where its objects go."""

    execution_id: str
    payload: Mapping[str, Any]
    shelf: Shelf

    @property
    def write_prefix(self) -> str:
        """Where its outputs belong."""
        return str(self.payload["write_prefix"])

    def opening(self, **more: Any) -> str:  # noqa: ANN401
        """The `RunOpen` that starts it; `more` are further members of its content."""
        return frame("RunOpen", role="client", execution_id=self.execution_id, **self._with(more))

    def attaching(self, role: str, **more: Any) -> str:  # noqa: ANN401
        """The `RunOpen` of somebody who joins it."""
        return frame("RunOpen", role=role, execution_id=self.execution_id, **more)

    def _with(self, more: dict[str, Any]) -> dict[str, Any]:
        return {"payload": dict(self.payload), **more}


@dataclass(frozen=True, slots=True)
class Ran:
    """A run from its order to its close."""

    order: Order
    heard: Heard

    @property
    def shelf(self) -> Shelf:
        """What it put."""
        return self.order.shelf

    def entries(self) -> list[dict[str, Any]]:
        """The entries of its envelope that lie where they belong, by path."""
        outputs: object = self.heard.result.get("outputs")
        listed = outputs if isinstance(outputs, list) else []
        found = [entry for entry in listed if isinstance(entry, dict)]
        inside = f"{self.order.write_prefix}outputs/"
        mine = [entry for entry in found if str(entry.get("path")).startswith(inside)]
        return sorted(mine, key=lambda entry: str(entry["path"]))

    def relpath(self, entry: Mapping[str, Any]) -> str:
        """An entry's path below the write prefix."""
        return str(entry["path"]).removeprefix(self.order.write_prefix)


@dataclass(slots=True)
class Bench:
    """A processor, its sample, and the runs that several cases judge."""

    target: Target
    sample: Sample
    door: Door
    pace: Pace
    _kept: dict[str, Ran] = field(default_factory=dict)

    # -- orders ---------------------------------------------------------------------------------

    def order(
        self,
        params: Params | None = None,
        *,
        by_socket: bool = True,
        held: bool = False,
        refuse: bool = False,
        below: str | None = None,
        **changes: Any,  # noqa: ANN401
    ) -> Order:
        """A run with an id, a prefix and a shelf of its own; `changes` are members of its payload.

        `below` is a folder of artifacts, where the prefix shall not be the usual one.
        """
        name = f"k{secrets.token_hex(8)}"
        shelf = self.door.shelf(held=held, refuse=refuse)
        folder = f"/artifacts/outputs/{self.sample.slug}" if below is None else below
        payload: dict[str, Any] = {
            "schema": "v1",
            "ref": self.sample.ref,
            "mode": "mock",
            "inputs": {
                "schema": "v1",
                "params": dict(self.sample.params if params is None else params),
            },
            "write_prefix": f"{folder}/{name}/",
            "upload": self.door.upload(shelf, by_socket=by_socket),
            "env_fingerprint": self.sample.fingerprint,
            "registry_snapshot": SNAPSHOT,
            "timeout_s": self.sample.timeout_s,
            "secrets": [],
        }
        return Order(name, {**payload, **changes}, shelf)

    # -- runs -----------------------------------------------------------------------------------

    async def run(self, order: Order) -> Ran:
        """Run an order to its close; raises `TimeoutError`."""
        async with asyncio.timeout(self.pace.run_s), talk(self.target) as client:
            await client.say(order.opening())
            return Ran(order, await client.rest(self.pace.linger_s))

    async def _once(self, name: str, order: Order) -> Ran:
        """The one run of a name: cases that judge the same run share it."""
        if name not in self._kept:
            self._kept[name] = await self.run(order)
        return self._kept[name]

    async def plain(self) -> Ran:
        """The sample's run, its outputs over the socket."""
        return await self._once("plain", self.order())

    async def by_url(self) -> Ran:
        """The sample's run, its outputs over TCP."""
        return await self._once("by_url", self.order(by_socket=False))

    async def refused(self) -> Ran:
        """The run of the parameters that the processor refuses."""
        return await self._once("refused", self.order(self.sample.refused))

    @asynccontextmanager
    async def running(self) -> AsyncIterator[tuple[Talk, Order]]:
        """A run that lasts: its first output is not taken before its shelf lets go of it."""
        order = self.order(held=True)
        async with asyncio.timeout(self.pace.run_s), talk(self.target) as client:
            await client.say(order.opening())
            try:
                await order.shelf.knocked.wait()
                yield client, order
            finally:
                self.let_go(order)

    @staticmethod
    def let_go(order: Order) -> None:
        """Take what a held shelf was offered."""
        if order.shelf.held is not None:
            order.shelf.held.set()

    async def close_after(
        self, *messages: str | bytes, subprotocol: str | None = "theory.run.v1"
    ) -> int | None:
        """The code with which a connection is closed that said this; None if it stays open."""
        async with talk(self.target, subprotocol) as client:
            for message in messages:
                await client.say(message)
            return await self.close_of(client)

    async def close_of(self, client: Talk) -> int | None:
        """The code with which a connection is closed; None if it stays open."""
        try:
            async with asyncio.timeout(self.pace.answer_s):
                while await client.next():
                    pass
        except TimeoutError:
            return None
        return client.heard.close


def frame(kind: str, /, **content: Any) -> str:  # noqa: ANN401
    """A frame of a client."""
    return json.dumps({"kind": kind, "content": content})
