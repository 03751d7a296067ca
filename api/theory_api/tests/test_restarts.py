"""PostgreSQL restarts while plans run: they go on, and nothing acknowledged is lost."""

from __future__ import annotations

import asyncio
import os
import random
from pathlib import Path
from typing import Final

import pytest

from theory_api.tests.driving import Told
from theory_api.tests.postgres import Cluster
from theory_api.tests.siege import END_S, Siege, besiege
from theory_api.tests.tables import Table

RESTARTS: Final = int(os.environ.get("THEORY_RESTARTS", "2"))
CLIENTS: Final = 4
RUN_S: Final = 0.05
"""How long a processor takes: a plan is under way for about half a second."""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600 + 60 * RESTARTS)]


async def _plans(siege: Siege, done: asyncio.Event) -> list[Told]:
    """One client: plan after plan, until told to leave."""
    told = []
    while not done.is_set():
        told.append(siege.told())
        async with asyncio.timeout(END_S):
            await siege.client(told[-1], seconds=RUN_S)
    return told


async def _restarts(
    siege: Siege, running: Cluster, done: asyncio.Event, clients: list[asyncio.Task[list[Told]]]
) -> None:
    """Fast and immediate shutdowns in turn; the second is a crash: the log is replayed."""
    try:
        for number in range(RESTARTS):
            await asyncio.sleep(siege.draw.uniform(1, 4))
            for client in clients:
                if client.done():
                    client.result()
            await asyncio.to_thread(running.stop, kill=number % 2 == 1)
            await asyncio.sleep(siege.draw.uniform(0, 1))
            await asyncio.to_thread(running.start)
    finally:
        done.set()


@pytest.mark.scenario(8)
async def test_plans_go_on_while_postgresql_restarts_again_and_again(
    tmp_path: Path,
    environment: dict[str, str],
    durable: Cluster,
    draw: random.Random,
    table: Table,
) -> None:
    async with besiege(tmp_path, "inside", environment, draw, durable) as siege:
        first = siege.server.running.pid
        done = asyncio.Event()
        clients = [asyncio.create_task(_plans(siege, done)) for _ in range(CLIENTS)]
        await _restarts(siege, durable, done, clients)
        told = [one for client in clients for one in await client]
        faults = [f"{one.name}: {fault}" for one in told for fault in await siege.verdict(one)]
        if siege.server.running.returncode is not None or siege.server.running.pid != first:
            faults.append("the server did not live through it")
    heads = ("fast", "immediate", "plans", "acknowledged events", "anomalies")
    events = sum(len(one.frames) for one in told)
    row = ((RESTARTS + 1) // 2, RESTARTS // 2, len(told), events, len(faults))
    table("PostgreSQL restarted under load", [heads, row])
    assert not faults, "\n".join(faults)
