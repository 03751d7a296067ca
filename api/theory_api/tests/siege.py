"""One database under a server that is killed again and again, and the plans that have to survive.

Homes and databases are kept over all rounds: what one round leaves behind meets the next.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import asyncpg

from theory_api.adapters.files.home import Home
from theory_api.adapters.sql.postgres.read import read_only as postgres_reads
from theory_api.adapters.sql.read import SqlReads, read_only
from theory_api.tests.driving import STEPS, Server, Told
from theory_api.tests.judging import judge
from theory_api.tests.postgres import Cluster
from theory_api.tests.proxy import Link, Proxy

END_S: Final = 300.0
"""How long a plan may take to its end, starts of servers included."""
EXPECTED: Final = {f"{name}:fine.txt": b"bytes" for name in STEPS}
_LOOK_S: Final = 0.02
_DONE_S: Final = 0.1
"""How long the server gets to carry out what nobody will hear the end of."""

Strike = Callable[["Siege", Told], Awaitable[bool]]
"""Has something break while a plan runs; whether it did. Ended when the plan has ended."""


@dataclass
class Siege:
    """A server, what stands between it and its database, and every fault that was found."""

    server: Server
    draw: random.Random
    cluster: Cluster | None = None
    proxy: Proxy | None = None
    number: int = 0
    patient: bool = False
    """Whether the lease of a dead owner is waited for, as it is where nobody knows of its death."""
    faults: list[str] = field(default_factory=list)

    def told(self) -> Told:
        """The next plan."""
        self.number += 1
        return Told(f"{self.server.place}-{self.number}")

    async def round(self, strike: Strike, label: str, **fields: Any) -> int:  # noqa: ANN401
        """Run a plan while something breaks, bring it to its end, judge it; faults found."""
        before, began = len(self.faults), asyncio.get_running_loop().time()
        told = self.told()
        try:
            async with asyncio.timeout(END_S):
                await self._round(strike, told, f"{label}, {told.name}", fields)
        except TimeoutError:
            self._fault(label, [f"{told.name} does not end after event {len(told.frames)}"])
            await self.again()
        found = self.faults[before:]
        took = asyncio.get_running_loop().time() - began
        print(f"{told.name}: {label}, {took:.1f} s, {found or 'sound'}")  # noqa: T201 - the journal
        return len(found)

    async def _round(self, strike: Strike, told: Told, label: str, fields: dict[str, Any]) -> None:
        client = asyncio.create_task(self.client(told, **fields))
        try:
            struck = await strike(self, told)
            if not struck:
                self._fault(label, ["the window was not reached"])
            if self.server.running.returncode is not None:
                self._fault(label, await self.server.survivors(within_s=10))
                await self.server.start(at_once=not self.patient)
        finally:
            client.cancel()
            await asyncio.wait({client})
        if not client.cancelled():
            client.result()
        await self.client(told, **fields)
        first = told.answer
        await self.server.post(told, **fields)
        if told.answer != first:
            self._fault(label, ["another answer to the same key"])
        self._fault(label, await self.verdict(told))

    async def client(self, told: Told, **fields: Any) -> None:  # noqa: ANN401
        """Ask until answered, read until the plan's end; a server that is gone comes back."""
        while told.answer is None:
            await self.server.post(told, **fields)
            await asyncio.sleep(_LOOK_S)
        while not told.ended:
            await self.server.follow(told)
            await asyncio.sleep(_LOOK_S)

    async def again(self) -> None:
        """A new server, whatever the old one is at."""
        self.server.kill()
        await self.server.running.wait()
        await self.server.start()

    async def verdict(self, told: Told) -> list[str]:
        """What is wrong with a plan that has ended."""
        home = self.server.home
        engine = postgres_reads(self.server.admin) if self.server.admin else None
        read = SqlReads(engine or read_only(Home(home).database))
        try:
            return await judge(read, home, told.plan, told=told.frames, expected=EXPECTED)
        finally:
            await read.close()

    def _fault(self, label: str, found: list[str]) -> None:
        self.faults += [f"{label}: {fault}" for fault in found]


@contextlib.asynccontextmanager
async def besiege(
    folder: Path,
    place: str,
    environment: dict[str, str],
    draw: random.Random,
    cluster: Cluster | None = None,
) -> AsyncIterator[Siege]:
    """A running server on SQLite, or through a proxy on a new database of a cluster."""
    async with contextlib.AsyncExitStack() as stack:
        server = Server(folder / place, "-", place, environment)
        between = None
        if cluster is not None:
            server.admin = await asyncio.to_thread(cluster.database)
            between = await Proxy.to(server.admin)
            stack.push_async_callback(between.close)
            server.database = between.through(server.admin)
        stack.push_async_callback(server.stop)
        await server.start()
        yield Siege(server, draw, cluster, between)


# -- what breaks --------------------------------------------------------------------------------


def at_window(window: str, most: int) -> Strike:
    """The server kills itself at one of the first `most` arrivals at a window."""

    async def strike(siege: Siege, told: Told) -> bool:
        server = siege.server
        await server.arm(window, siege.draw.randint(1, most))
        watch = asyncio.create_task(server.died(within_s=END_S))
        await _either(watch.done, told)
        if not watch.done():
            await server.arm("none", 1)
            watch.cancel()
            return False
        return watch.result()

    return strike


def at_random(seconds: float) -> Strike:
    """SIGKILL from outside, at a random moment within `seconds` of the plan."""

    async def strike(siege: Siege, _told: Told) -> bool:
        await asyncio.sleep(siege.draw.uniform(0, seconds))
        watch = asyncio.create_task(siege.server.died(within_s=END_S))
        await asyncio.sleep(_LOOK_S)
        siege.server.kill()
        return await watch

    return strike


def on_the_link(kind: str, *, send: bool, kill: bool) -> Strike:
    """The link is cut around a batch with an event of this kind; with `kill` the client dies.

    With `send` the batch reaches the server, whose answer nobody hears.
    """

    async def strike(siege: Siege, told: Told) -> bool:
        assert siege.proxy is not None
        server, cut = siege.server, asyncio.Event()

        async def seen(link: Link, chunk: bytes) -> bool:
            if cut.is_set() or kind.encode() not in chunk:
                return True
            cut.set()
            link.swallow_down = True
            if send:
                link.writers[1].write(chunk)
                await asyncio.sleep(_DONE_S)
            if kill:
                server.kill()
            link.cut()
            return False

        watch = asyncio.create_task(server.died(within_s=END_S))
        siege.proxy.seen = seen
        await _either(cut.is_set, told)
        siege.proxy.seen = None
        if cut.is_set() and kill:
            return await watch
        watch.cancel()
        return cut.is_set()

    return strike


def inside_the_append(table: str, who: str) -> Strike:
    """An append stands still before `table` is written; then `client`, `backend` or `server` dies.

    What came before is done within its transaction: the head is moved before any event is inserted,
    balances are moved before any transition is written.
    """

    async def strike(siege: Siege, told: Told) -> bool:
        assert siege.cluster is not None
        await _either(lambda: bool(told.frames), told)
        holder = await asyncpg.connect(siege.server.admin)
        watcher = await asyncpg.connect(siege.server.admin)
        watch = asyncio.create_task(siege.server.died(within_s=END_S))
        try:
            hold = holder.transaction()
            await hold.start()
            await holder.execute(f"LOCK TABLE {table} IN SHARE MODE")
            backend = await _blocked(watcher, told)
            if backend is None:
                return False
            if who == "client":
                siege.server.kill()
                return await watch
            if who == "backend":
                os.kill(backend, 9)
            else:
                await asyncio.to_thread(siege.cluster.stop, kill=True)
                await asyncio.to_thread(siege.cluster.start)
            return True
        finally:
            watch.cancel()
            holder.terminate()
            watcher.terminate()

    return strike


async def _either(done: Callable[[], bool], told: Told) -> None:
    """Wait until it is done, or the plan has ended without."""
    while not (done() or told.ended):  # noqa: ASYNC110 - of another process, not of an event
        await asyncio.sleep(_LOOK_S)


async def _blocked(watcher: asyncpg.Connection, told: Told) -> int | None:
    """The server process of an append that waits for the lock; None if the plan ends without."""
    asked = (
        "SELECT pid FROM pg_stat_activity WHERE application_name = 'theory-writer'"
        " AND wait_event_type = 'Lock' AND datname = current_database()"
    )
    while not told.ended:
        found: int | None = await watcher.fetchval(asked)
        if found is not None:
            return found
        await asyncio.sleep(_LOOK_S)
    return None
