"""How long a scheduler takes to be ready after its last owner died, with and without kept folds.

    python -m benchmarks.recovery --plans 1000 --events 1000 --open 10

Builds a database once: plans with ledgers of the length asked for, some executions of each still
open. Then starts an engine over it: ready is when commands are taken (every open plan folded, its
chain verified), decided when every execution left open is settled.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import shutil
import sqlite3
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from theory_api.adapters.files.home import open_home
from theory_api.adapters.memory.artifacts import MemoryArtifacts
from theory_api.adapters.memory.intakes import MemoryIntakes
from theory_api.adapters.memory.scratch import MemoryScratch
from theory_api.adapters.sql.postgres import migrate
from theory_api.adapters.sql.postgres.read import read_only as postgres_reads
from theory_api.adapters.sql.postgres.truth import PostgresTruth
from theory_api.adapters.sql.read import SqlReads, read_only
from theory_api.adapters.sql.truth import SqliteTruth
from theory_api.adapters.sql.upgrade import upgrade
from theory_api.adapters.system.clock import SystemClock
from theory_api.delivery.pinned import PinnedSnapshots
from theory_api.delivery.snapshot import load_registry
from theory_api.domain import events as ev
from theory_api.domain.projection import project
from theory_api.domain.values import Output, Policy, Retry, SelectorSpec
from theory_api.observability.logs import configure
from theory_api.ports.adapter import Measurement, Standing, SteeringOp
from theory_api.ports.truth import Append, StoredEvent
from theory_api.scheduler.context import Context
from theory_api.scheduler.engine import Engine
from theory_api.scheduler.folding import freeze, refold
from theory_api.settings import assets
from theory_core import EVENT_VERSION, Chain, digest, execution_id

Truth = SqliteTruth | PostgresTruth

SHARD: Final = "main"
CID: Final = digest(b"")
HOLD: Final[dict[str, int]] = {"usd_micro": 10, "cpu_ms": 100}
RULES: Final = Policy(
    ref="bench@1",
    on_refused="fail",
    on_breach="fail",
    lease_ms=60_000,
    retry=Retry(max_attempts=3, backoff_ms=(1000,), jitter_permille=0, retry_on=("ERR_ORPHANED",)),
)


class Gone:
    """An adapter whose every execution died with its owner; nothing of it can be invoked."""

    name = "process"
    enforced = frozenset({"cpu_ms"})
    steers: frozenset[SteeringOp] = frozenset()

    async def prepare(
        self, *, ref: str, mode: str, pinned: str | None, on_progress: Callable[[str], None]
    ) -> None:
        """Nothing to make."""

    async def invoke(self, **_given: object) -> Mapping[str, Any]:
        """Never called: nothing new is admitted here."""
        raise NotImplementedError

    async def cancel(self, _execution_id: str) -> bool:
        """Nothing runs."""
        return True

    async def steer(self, execution_id: str, op: SteeringOp) -> None:
        """Nothing here can stand still."""
        raise NotImplementedError((execution_id, op))

    def measured(self, _execution_id: str) -> Measurement:
        """Nothing is known."""
        return Measurement()

    async def standing(self, _execution_id: str) -> Standing:
        """They may have started."""
        return Standing.GONE

    async def remembered(self) -> tuple[str, ...]:
        """Nothing is kept."""
        return ()

    async def release(self, execution_id: str) -> None:
        """Nothing is kept."""

    async def close(self) -> None:
        """Nothing runs."""


@dataclass(frozen=True, slots=True)
class Size:
    """How much there is to recover."""

    plans: int
    events: int
    """Of each plan."""
    open: int
    """Executions of each plan that were running."""
    tail: int
    """Events of each plan after its fold."""


def story(plan: str, size: Size) -> list[ev.Event]:
    """One plan's events: transitions that succeeded, then some that run, then some that wait."""
    done = (size.events - 1 - 5 * size.open) // 10
    told: list[ev.Event] = [created(size.events)]
    for place in range(done):
        name = f"t{place}"
        told += [proposed(name), *started(plan, name), *succeeded(plan, name)]
    for place in range(size.open):
        name = f"u{place}"
        told += [proposed(name), *started(plan, name)]
    while len(told) < size.events:
        told.append(proposed(f"v{len(told)}"))
    return told


def created(transitions: int) -> ev.Event:
    """A plan with room for everything."""
    return ev.PlanCreated(
        schema="theory.plan.v1",
        document=CID,
        transitions=transitions,
        limit=dict.fromkeys(HOLD, 10**12),
        policy=RULES,
        lane="build",
        registry_snapshot=CID,
        goal=(),
        invariants=(),
        by="bench",
    )


def proposed(name: str) -> ev.Event:
    """A transition."""
    prefix = "/artifacts/outputs/bench-work-v1/{execution_id}/"
    return ev.TransitionProposed(
        transition=name,
        processor_ref="bench/work@1",
        mode="mock",
        inputs=CID,
        depends_on=(),
        write_prefix=prefix,
        write_set=(SelectorSpec(kind="prefix", path=prefix),),
        admission=(),
        success=(),
        hold=HOLD,
        timeout_ms=60_000,
        by="bench",
    )


def _about(plan: str, name: str) -> ev.About:
    ident = execution_id(plan, name, 1)
    return {"execution_id": ident, "transition": name, "attempt": 1}


def started(plan: str, name: str) -> tuple[ev.Event, ...]:
    """An attempt is admitted and starts."""
    about = _about(plan, name)
    prefix = f"/artifacts/outputs/bench-work-v1/{about['execution_id']}/"
    leased = (SelectorSpec(kind="prefix", path=prefix),)
    return (
        ev.TransitionAdmitted(**about, write_prefix=prefix, write_set=leased, inputs_hash=CID),
        ev.LeaseAcquired(**about, selectors=leased, duration_ms=60_000, epoch=1),
        ev.BudgetReserved(**about, hold=HOLD, duration_ms=60_000, owner="o", epoch=1),
        ev.ExecutionStarted(
            **about,
            processor_ref="bench/work@1",
            adapter="process",
            mode="mock",
            timeout_ms=60_000,
            inputs=CID,
            inputs_hash=CID,
            env_fingerprint="cpu:1",
            registry_snapshot=CID,
        ),
    )


def succeeded(plan: str, name: str) -> tuple[ev.Event, ...]:
    """An attempt delivers one artifact and is paid."""
    about = _about(plan, name)
    path = f"/artifacts/outputs/bench-work-v1/{about['execution_id']}/outputs/a"
    output = Output(path=path, cid=CID, size_bytes=0, mime="text/plain")
    return (
        ev.ArtifactProduced(**about, part=1, parts=1, outputs=(output,)),
        ev.ExecutionSucceeded(
            **about,
            envelope=CID,
            receipt=CID,
            outputs_index=CID,
            outputs=1,
            output_bytes=0,
            duration_ms=3,
        ),
        ev.BudgetSettled(**about, hold=HOLD, actual=HOLD, basis={}, receipt=CID),
        ev.LeaseReleased(**about),
        ev.TransitionSucceeded(**about),
    )


async def build(truth: Truth, size: Size) -> None:
    """Fill an empty store; the folds stand `tail` events before the heads."""
    epoch = await truth.claim(SHARD, "builder")
    for number in range(size.plans):
        plan = f"/world/bench/p{number:06d}"
        told = story(plan, size)
        numbered = [
            (seq, f"2026-11-21T04:25:{seq // 10**6:02d}.{seq % 10**6:06d}Z", event)
            for seq, event in enumerate(told, start=1)
        ]
        wires = [
            {
                "v": EVENT_VERSION,
                "plan": plan,
                "seq": seq,
                "at": at,
                "kind": event.KIND,
                "data": event.data(),
            }
            for seq, at, event in numbered
        ]
        sealed = Chain(plan=plan).append(wires)
        stored = [
            StoredEvent(plan, seq, event.KIND, at, body, hashed)
            for (seq, at, event), (body, hashed) in zip(numbered, sealed, strict=True)
        ]
        cut = len(stored) - size.tail
        for first, last in ((0, cut), (cut, len(stored))):
            if first < last:
                changes = project(plan, numbered[first:last])
                share = Append(plan, first, tuple(stored[first:last]), changes)
                await truth.append([share], shard=SHARD, epoch=epoch)
            if first == 0:
                await truth.folds.put([freeze(await refold(truth, plan))])
    await truth.release(SHARD, epoch)


async def measure(
    truth: Truth, reads: SqlReads, *, folds: bool, registry: Path
) -> dict[str, float | int | bool]:
    """Start an engine; seconds until it is ready, and until everything is decided."""
    artifacts = MemoryArtifacts()
    context = Context(
        world=reads,
        artifacts=artifacts,
        scratch=MemoryScratch(),
        intakes=MemoryIntakes(artifacts),
        snapshots=PinnedSnapshots(artifacts, load_registry(registry)),
        adapters={"process": Gone()},
        clock=SystemClock(),
        platform="amd64",
        folds=truth.folds if folds else None,
    )
    engine = Engine(
        truth,
        reads,
        context,
        shard=SHARD,
        owner="successor",
        admitting=False,
    )
    began, cpu = time.monotonic(), time.process_time()
    await engine.start()
    ready, ready_cpu = time.monotonic() - began, time.process_time() - cpu
    left = engine.undecided
    while engine.undecided:  # noqa: ASYNC110 - nobody tells the end of it
        await asyncio.sleep(0.02)
    decided = time.monotonic() - began
    await engine.stop()
    return {
        "folds": folds,
        "ready_s": round(ready, 2),
        "ready_cpu_s": round(ready_cpu, 2),
        "undecided_when_ready": left,
        "decided_s": round(decided, 2),
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }


async def on_sqlite(size: Size, folder: Path, work: Callable[..., Awaitable[Any]]) -> Any:  # noqa: ANN401
    """Do something with the store of a folder."""
    home = open_home(folder)
    await upgrade(home.database, assets("migrations"), home.lock())
    truth, reads = SqliteTruth(home.database, home.lock()), SqlReads(read_only(home.database))
    try:
        return await work(truth, reads, size)
    finally:
        await truth.close()
        await reads.close()


async def on_postgres(size: Size, url: str, work: Callable[..., Awaitable[Any]]) -> Any:  # noqa: ANN401
    """Do something with the store at an address."""
    await migrate.upgrade(url, assets("migrations"))
    truth, reads = PostgresTruth(url), SqlReads(postgres_reads(url))
    try:
        return await work(truth, reads, size)
    finally:
        await truth.close()
        await reads.close()


def child(call: Callable[[], Awaitable[Any]]) -> Any:  # noqa: ANN401
    """Run in a process of its own, so that its peak memory is its own."""
    reader, writer = os.pipe()
    number = os.fork()
    if number == 0:
        os.close(reader)
        with (Path(os.devnull)).open("w") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        told = json.dumps(asyncio.run(call()))  # type: ignore[arg-type]
        os.write(writer, told.encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as answer:
        text = answer.read()
    os.waitpid(number, 0)
    return json.loads(text)


def main() -> None:
    """Build, then start with and without folds, each over a copy of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--plans", type=int, default=1000)
    parser.add_argument("--events", type=int, default=1000, help="of each plan")
    parser.add_argument("--open", type=int, default=10, help="executions of each plan left open")
    parser.add_argument("--tail", type=int, default=50, help="events of each plan after its fold")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--database-url", help="an empty PostgreSQL database; with folds, once")
    parser.add_argument("--out", type=Path, help="folder for recovery.json")
    given = parser.parse_args()
    configure(level="error", version="bench", secrets=())
    size = Size(given.plans, given.events, given.open, given.tail)
    registry = assets("registry")

    async def built(truth: Truth, _reads: SqlReads, size: Size) -> None:
        await build(truth, size)

    async def with_folds(truth: Truth, reads: SqlReads, _size: Size) -> Any:  # noqa: ANN401
        return await measure(truth, reads, folds=True, registry=registry)

    async def without(truth: Truth, reads: SqlReads, _size: Size) -> Any:  # noqa: ANN401
        return await measure(truth, reads, folds=False, registry=registry)

    rows: list[dict[str, Any]] = []
    if given.database_url:
        child(lambda: on_postgres(size, given.database_url, built))
        rows.append(child(lambda: on_postgres(size, given.database_url, with_folds)))
    else:
        with tempfile.TemporaryDirectory() as scratch:
            source = Path(scratch) / "source"
            child(lambda: on_sqlite(size, source, built))
            with sqlite3.connect(source / "theory.db") as connection:
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            connection.close()
            for _ in range(given.rounds):
                for work in (with_folds, without):
                    copy = Path(scratch) / "copy"
                    shutil.copytree(source, copy)
                    rows.append(child(lambda work=work, copy=copy: on_sqlite(size, copy, work)))  # type: ignore[misc]
                    shutil.rmtree(copy)
    for row in rows:
        sys.stdout.write("  ".join(f"{name} {value}" for name, value in row.items()) + "\n")
    if given.out is not None:
        given.out.mkdir(parents=True, exist_ok=True)
        body = {"size": vars(given) | {"out": str(given.out)}, "rows": rows}
        (given.out / "recovery.json").write_text(json.dumps(body, indent=1) + "\n")


if __name__ == "__main__":
    main()
