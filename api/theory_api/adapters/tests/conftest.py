"""Machines with one database each, whatever it is made of, for the contracts of truth."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import asyncpg
import pytest

from theory_api.adapters.conftest import MIGRATIONS
from theory_api.adapters.files.home import Home
from theory_api.adapters.files.lock import WriterLock
from theory_api.adapters.memory.read import MemoryReads
from theory_api.adapters.memory.truth import MemoryDatabase, MemoryTruth
from theory_api.adapters.sql.postgres import migrate
from theory_api.adapters.sql.postgres.read import read_only as postgres_reads
from theory_api.adapters.sql.postgres.truth import PostgresTruth
from theory_api.adapters.sql.read import SqlReads, read_only
from theory_api.adapters.sql.truth import SqliteTruth
from theory_api.ports.truth import ProjectionStore, ReadModel, TruthStore
from theory_api.tests.postgres import Cluster
from theory_core import TheoryError


class Store(TruthStore, ProjectionStore):
    """A store under test."""


@dataclass
class Machine:
    """One machine with one database; every `store` is a process of its own."""

    store: Callable[[], Any]
    read: ReadModel
    kill: Callable[[Any], Awaitable[None]]
    """The process of that store died; the store object lives on, as a zombie would."""


@pytest.fixture
def memory() -> Machine:
    database = MemoryDatabase()

    async def kill(_dead: MemoryTruth) -> None:
        database.bury("s0")

    return Machine(lambda: MemoryTruth(database), MemoryReads(database), kill)


@pytest.fixture
async def sqlite(home: Home) -> AsyncIterator[Machine]:
    locks: dict[int, WriterLock] = {}
    stores: list[SqliteTruth] = []

    def store() -> SqliteTruth:
        lock = home.lock()
        made = SqliteTruth(home.database, lock)
        locks[id(made)] = lock
        stores.append(made)
        return made

    async def kill(dead: SqliteTruth) -> None:
        locks[id(dead)].release()

    read = SqlReads(read_only(home.database))
    yield Machine(store, read, kill)
    for made in stores:
        await made.close()
    await read.close()


@pytest.fixture
async def postgresql(postgres: Cluster) -> AsyncIterator[Machine]:
    url = postgres.database()
    await migrate.upgrade(url, MIGRATIONS)
    stores: list[PostgresTruth] = []

    def store() -> PostgresTruth:
        made = PostgresTruth(url)
        stores.append(made)
        return made

    async def kill(_dead: PostgresTruth) -> None:
        """Its lease runs out, which takes seconds, done at once."""
        admin = await asyncpg.connect(url)
        await admin.execute("UPDATE shard_lease SET renewed_at = 'epoch'")
        await admin.close()

    read = SqlReads(postgres_reads(url))
    yield Machine(store, read, kill)
    for made in stores:
        await made.close()
    await read.close()


@pytest.fixture(params=["memory", "sqlite", "postgresql"])
def machine(request: pytest.FixtureRequest) -> Machine:
    found: Machine = request.getfixturevalue(request.param)
    return found


async def claimed(machine: Machine, owner: str = "o1") -> tuple[Store, int]:
    store: Store = machine.store()
    return store, await store.claim("s0", owner)


async def rows(read: ReadModel, plan: str) -> dict[str, object]:
    """Everything that is projected from a plan."""
    return {
        "plan": await read.plan(plan),
        "balance": await read.balance(plan),
        "transitions": await read.transitions(plan),
        "executions": await read.executions(plan),
        "artifacts": await read.artifacts(plan, "/artifacts/"),
    }


async def refused(code: str, what: Any) -> TheoryError:  # noqa: ANN401 - any awaitable
    with pytest.raises(TheoryError) as caught:
        await what
    assert caught.value.code == code
    return caught.value
