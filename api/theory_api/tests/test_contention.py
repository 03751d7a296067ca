"""Many schedulers in one process fight over one PostgreSQL; the processors are made up."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

import asyncpg
import pytest

from theory_api.adapters.conftest import MIGRATIONS
from theory_api.adapters.memory.artifacts import MemoryArtifacts
from theory_api.adapters.memory.intakes import MemoryIntakes
from theory_api.adapters.memory.scratch import MemoryScratch
from theory_api.adapters.sql.postgres import migrate
from theory_api.adapters.sql.postgres.inbox import PostgresInbox
from theory_api.adapters.sql.postgres.membership import PostgresMembership
from theory_api.adapters.sql.postgres.read import read_only
from theory_api.adapters.sql.postgres.signals import PostgresSignals
from theory_api.adapters.sql.postgres.truth import PostgresTruth
from theory_api.adapters.sql.read import SqlReads
from theory_api.adapters.system.clock import SystemClock
from theory_api.adapters.system.ids import fresh
from theory_api.domain import commands as cmd
from theory_api.domain.tests.shelf import snapshot
from theory_api.domain.values import SelectorSpec
from theory_api.scheduler.capacity import Capacity
from theory_api.scheduler.context import Context
from theory_api.scheduler.engine import Engine
from theory_api.scheduler.ownership import Ownership
from theory_api.scheduler.router import Publisher, Router
from theory_api.scheduler.shards import shards
from theory_api.scheduler.tests.bench import Shelf, step
from theory_api.scheduler.tests.processors import Processors, Run, forever
from theory_api.services.plans import PlanCommands
from theory_api.tests.postgres import Cluster, cluster
from theory_core import digest

ROUNDS = int(os.environ.get("THEORY_CONTENTIONS", "2"))
MANY = 64

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def roomy(postgres: Cluster) -> Iterator[Cluster]:
    """A server that takes a thousand connections."""
    assert postgres
    with cluster() as made:
        url = made.database()
        asyncio.run(_widen(url))
        made.stop()
        made.start()
        yield made


async def _widen(url: str) -> None:
    connection = await asyncpg.connect(url)
    await connection.execute("ALTER SYSTEM SET max_connections = 1000")
    await connection.close()


@dataclass
class Crowd:
    """Schedulers of one ledger, and what their processors were given."""

    url: str
    shards: int
    stack: AsyncExitStack
    artifacts: MemoryArtifacts = field(default_factory=MemoryArtifacts)
    registry: Shelf = field(default_factory=lambda: Shelf(snapshot()))
    started: list[str] = field(default_factory=list)
    news: asyncio.Event = field(default_factory=asyncio.Event)

    async def hold(self, run: Run) -> dict[str, Any]:
        self.started.append(run.execution_id)
        self.news.set()
        return await forever(run)

    async def begun(self, count: int) -> None:
        """Return when so many executions run, and nothing more has come for a moment."""
        async with asyncio.timeout(60):
            while len(self.started) < count:
                self.news.clear()
                await self.news.wait()
        await asyncio.sleep(1)

    async def router(self, *, parallel: int = 256) -> Router:
        """One more scheduler, not started yet."""
        names = shards(self.shards)
        truth, read = PostgresTruth(self.url), SqlReads(read_only(self.url))
        members, inbox = PostgresMembership(self.url), PostgresInbox(self.url)
        signals = PostgresSignals(self.url)
        for port in (truth, read, members, inbox, signals):
            self.stack.push_async_callback(port.close)
        await members.establish(names, home="here")
        hub, clock, owner = Publisher(read, signals), SystemClock(), fresh("owner-")
        capacity = Capacity(parallel)

        def engine(shard: str) -> Engine:
            intakes = MemoryIntakes(self.artifacts)
            processors = Processors(intakes)
            processors.behaviours["hold"] = [self.hold] * 1000
            context = Context(
                world=read,
                artifacts=self.artifacts,
                scratch=MemoryScratch(),
                intakes=intakes,
                snapshots=self.registry,
                adapters={"process": processors},
                clock=clock,
                platform="amd64",
                hub=hub,
                capacity=capacity,
            )
            return Engine(truth, read, context, shard=shard, owner=owner)

        ownership = Ownership(
            owner=owner,
            shards=names,
            store=truth,
            members=members,
            signals=signals,
            clock=clock,
            engine=engine,
        )
        router = Router(
            ownership,
            inbox=inbox,
            signals=signals,
            read=read,
            hub=hub,
            clock=clock,
            fresh=lambda: fresh("i"),
        )
        self.stack.push_async_callback(router.stop)
        return router

    async def apply(self, router: Router, transitions: dict[str, Any], usd_micro: int) -> str:
        plans = PlanCommands(router, self.artifacts, self.registry, ci=False)
        document = {"schema": "theory.plan.v1", "plan": "p1", "budget": {"usd_micro": usd_micro}}
        applied = await plans.apply(document | {"transitions": transitions}, tenant="acme", by="me")
        return applied.plan

    async def attempts(self, plan: str) -> list[str]:
        """Executions that were reserved, in order; every one of them is named once."""
        return await self._column(
            "SELECT convert_from(body, 'UTF8')::json -> 'data' ->> 'execution_id'"
            " FROM ledger_event WHERE plan = $1 AND kind = 'budget.reserved' ORDER BY seq",
            plan,
        )

    async def ended(self, plan: str) -> int:
        """Reservations that are no more: settled, or given back."""
        (count,) = await self._column(
            "SELECT count(*) FROM ledger_event WHERE plan = $1 AND kind = ANY($2::text[])",
            plan,
            ["budget.settled", "budget.voided"],
        )
        return int(count)

    async def used(self, plan: str) -> int:
        """What is reserved and spent of the one limit."""
        (amount,) = await self._column(
            "SELECT reserved + spent FROM balance WHERE plan = $1 AND dimension = 'usd_micro'", plan
        )
        return int(amount)

    async def _column(self, statement: str, *given: object) -> list[Any]:
        admin = await asyncpg.connect(self.url)
        rows = await admin.fetch(statement, *given)
        await admin.close()
        return [row[0] for row in rows]


Crowding = Callable[..., Any]


@pytest.fixture
async def crowd(roomy: Cluster) -> AsyncIterator[Crowding]:
    async with AsyncExitStack() as stack:

        async def make(count: int) -> Crowd:
            url = roomy.database()
            await migrate.upgrade(url, MIGRATIONS)
            return Crowd(url, count, stack)

        yield make


@pytest.mark.scenario(4)
async def test_64_schedulers_admit_one_transition_once_on_postgresql(crowd: Crowding) -> None:
    """Scenario 4: its owner gives a shard up, and all of them want it at that moment."""
    for _ in range(ROUNDS):
        made: Crowd = await crowd(1)
        first = await made.router(parallel=0)
        await first.start()
        plan = await made.apply(first, {"a": step("hold")}, 1000)
        many = [await made.router() for _ in range(MANY)]
        await asyncio.gather(*(one.start() for one in many))
        await first.stop()
        await made.begun(1)
        # On a machine so busy that a lease runs out, a successor tries again: one after the other.
        reserved = await made.attempts(plan)
        assert len(reserved) == len(set(reserved))
        assert len(reserved) - await made.ended(plan) == 1
        await asyncio.gather(*(one.stop() for one in many))


@pytest.mark.scenario(66)
async def test_200_parallel_reserves_of_a_hundredth_take_a_hundred_on_postgresql(
    crowd: Crowding,
) -> None:
    """Scenario 66: proposed through four schedulers at once, with not a unit beyond the limit."""
    for _ in range(ROUNDS):
        made: Crowd = await crowd(4)
        many = [await made.router() for _ in range(4)]
        await asyncio.gather(*(one.start() for one in many))
        estimate = made.registry.current.processor("demo/echo@1").estimate["usd_micro"]
        plan = await made.apply(many[0], {"z": step("hold")}, estimate * 100)
        body = b'{"schema":"v1","params":{"do":"hold"}}'
        await made.artifacts.put(body)

        def propose(number: int, plan: str, cid: str, hold: int) -> cmd.Command:
            write_set = (SelectorSpec(kind="prefix", path=f"/artifacts/outputs/t{number}/"),)
            return cmd.ProposeTransition(
                plan=plan,
                by="me",
                proposal=cmd.Proposal(
                    transition=f"t{number}",
                    processor_ref="demo/echo@1",
                    mode="mock",
                    inputs=cid,
                    write_prefix=f"/artifacts/outputs/t{number}/{{execution_id}}/",
                    write_set=write_set,
                    hold={"usd_micro": hold},
                    timeout_ms=1000,
                ),
            )

        commands = [propose(number, plan, digest(body), estimate) for number in range(199)]
        work = [many[n % 4].submit(command) for n, command in enumerate(commands)]
        await asyncio.gather(*work)
        await made.begun(100)
        reserved = await made.attempts(plan)
        assert len(reserved) == len(set(reserved))
        assert len(reserved) - await made.ended(plan) == 100
        assert await made.used(plan) == estimate * 100
        await asyncio.gather(*(one.stop() for one in many))
