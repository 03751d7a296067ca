"""A whole scheduler over one kind of store, put together as the composition root does it."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

import asyncpg

from benchmarks.noop import NoopAdapter, registry
from theory_api.adapters.files.home import open_home
from theory_api.adapters.files.journalled import open_files
from theory_api.adapters.memory.artifacts import MemoryArtifacts
from theory_api.adapters.memory.intakes import MemoryIntakes
from theory_api.adapters.memory.read import MemoryReads
from theory_api.adapters.memory.scratch import MemoryScratch
from theory_api.adapters.memory.truth import MemoryDatabase, MemoryTruth
from theory_api.adapters.sql.postgres import migrate
from theory_api.adapters.sql.postgres.read import read_only as postgres_reads
from theory_api.adapters.sql.postgres.truth import PostgresTruth
from theory_api.adapters.sql.read import SqlReads, read_only
from theory_api.adapters.sql.truth import SqliteTruth
from theory_api.adapters.sql.upgrade import upgrade
from theory_api.adapters.system.clock import SystemClock
from theory_api.adapters.system.ids import fresh
from theory_api.delivery.pinned import PinnedSnapshots
from theory_api.observability.logs import configure
from theory_api.ports.artifacts import ArtifactStore
from theory_api.ports.scratch import Keeping, Scratch
from theory_api.ports.truth import ReadModel, TruthStore
from theory_api.scheduler.context import Context, Pace
from theory_api.scheduler.engine import Engine
from theory_api.services.plans import PlanCommands
from theory_api.settings import assets
from theory_api.wiring import collect_rarely
from theory_core import canonicalize, loads_strict, verify

STORES: Final = ("memory", "sqlite", "postgresql")
PAGE: Final = 1000


@dataclass(frozen=True, slots=True)
class Store:
    """Where the truth is kept: a kind of `STORES`, and a server's address for PostgreSQL."""

    kind: str
    url: str = ""


@dataclass(frozen=True, slots=True)
class House:
    """One scheduler and the doors that a user goes through."""

    engine: Engine
    plans: PlanCommands
    read: ReadModel
    artifacts: ArtifactStore


@contextlib.asynccontextmanager
async def open_house(
    store: Store, folder: Path, *, parallel: int, log_level: str = "info"
) -> AsyncIterator[House]:
    """A scheduler that serves commands until the block ends; its log goes to `folder`/log.

    With the store `memory` artifacts and notes are kept in memory too, and nothing is durable:
    that is the pure cost of the scheduler. Every other store keeps them in files.
    """
    async with contextlib.AsyncExitStack() as stack:
        log = stack.enter_context((folder / "log").open("w", encoding="utf-8"))
        configure(level=log_level, version="bench", stream=log)
        collect_rarely()
        clock, home = SystemClock(), open_home(folder / "home")
        artifacts: ArtifactStore = MemoryArtifacts()
        scratch: Scratch = MemoryScratch()
        keeping: Keeping | None = None
        opened = await open_stores(store, folder, stack)
        truth, read = opened.truth, opened.read
        if store.kind != "memory":
            files = await stack.enter_async_context(open_files(home))
            artifacts, scratch = files.artifacts, files.scratch
            keeping = files.scratch
        intakes = MemoryIntakes(artifacts)
        snapshots = PinnedSnapshots(artifacts, registry())
        adapter = NoopAdapter(intakes, clock.now)
        context = Context(
            world=read,
            artifacts=artifacts,
            scratch=scratch,
            keeping=keeping,
            intakes=intakes,
            snapshots=snapshots,
            adapters={adapter.name: adapter},
            clock=clock,
            platform="amd64",
            pace=Pace(parallel=parallel),
        )
        engine = Engine(truth, read, context, shard="main", owner="bench")
        await engine.start()
        stack.push_async_callback(engine.stop)
        yield House(engine, PlanCommands(engine, artifacts, snapshots, ci=False), read, artifacts)


@dataclass(frozen=True, slots=True)
class Opened:
    """A store's two sides, and the address of its database."""

    truth: TruthStore
    read: ReadModel
    address: str = ""


async def open_stores(store: Store, folder: Path, stack: contextlib.AsyncExitStack) -> Opened:
    """A new database of this kind; it is closed, and dropped from a server, with `stack`."""
    if store.kind == "memory":
        database = MemoryDatabase()
        return Opened(MemoryTruth(database), MemoryReads(database))
    truth: SqliteTruth | PostgresTruth
    if store.kind == "postgresql":
        address = await stack.enter_async_context(_fresh_database(store.url))
        await migrate.upgrade(address, assets("migrations"))
        truth, read = PostgresTruth(address), SqlReads(postgres_reads(address))
    else:
        home = open_home(folder / "home")
        address, lock = str(home.database), home.lock(home.database)
        await upgrade(home.database, assets("migrations"), lock)
        truth, read = SqliteTruth(home.database, lock), SqlReads(read_only(home.database))
    stack.push_async_callback(read.close)
    stack.push_async_callback(truth.close)
    return Opened(truth, read, address)


@contextlib.asynccontextmanager
async def _fresh_database(server: str) -> AsyncIterator[str]:
    """A database of its own on the server that an address names; dropped afterwards."""
    name = fresh("theory_bench_").replace("-", "")
    connection = await asyncpg.connect(server)
    try:
        await connection.execute(f'CREATE DATABASE "{name}" TEMPLATE template0 ENCODING UTF8')
        yield urlunsplit(urlsplit(server)._replace(path=f"/{name}"))
    finally:
        await connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
        await connection.close()


async def verified(read: ReadModel, plan: str) -> list[dict[str, Any]]:
    """A plan's events, once its exported ledger was verified; raises when it is not sound."""
    events: list[dict[str, Any]] = []
    lines: list[bytes] = []
    while page := await read.events(plan, after=len(events), limit=PAGE):
        events += [loads_strict(event.body) for event in page]
        lines += [
            canonicalize({"event": body, "hash": event.hash})
            for body, event in zip(events[-len(page) :], page, strict=True)
        ]
    head = await read.plan(plan)
    report = verify(lines, expect_head=(head.head_seq, head.head_hash), laws=True)
    if report.fault is not None or not report.anchored:
        message = f"{plan}: {report.fault}"
        raise RuntimeError(message)
    return events
