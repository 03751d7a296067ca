"""Events per second into the ledger, beside raw inserts of the same rows into a bare table.

    python -m benchmarks.append --store sqlite --database-url postgresql://user@127.0.0.1/postgres

Ours: stamped, chained and hashed, projected, fenced and compared with the head, in one transaction.
With 100 events a commit the next batch is chained while one commits, as the writer does it; with
one event the time of a commit is the whole way. Raw: finished rows, one statement, one transaction.
Both take turns on one machine and one server.
"""

from __future__ import annotations

import asyncio
import sqlite3
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, closing
from pathlib import Path
from typing import Any, Final

import asyncpg

from benchmarks.house import Store, open_stores
from benchmarks.measure import arguments, percentile, report, stores
from theory_api.adapters.sql.columns import to_raw
from theory_api.adapters.sql.statements import SESSION
from theory_api.adapters.system.clock import SystemClock
from theory_api.domain import events as ev
from theory_api.domain.projection import project
from theory_api.domain.state import PlanState
from theory_api.domain.values import Policy, Retry, Verdict
from theory_api.ports.truth import Append, StoredEvent, TruthStore
from theory_api.scheduler.folding import Folded
from theory_api.scheduler.sealing import seal
from theory_core import Chain, digest

PLAN: Final = "/world/bench/append"
_CID: Final = digest(b"")
_ROUND_S: Final = 1.0
_POLICY: Final = Policy(
    ref="default@1",
    on_refused="fail",
    on_breach="fail",
    lease_ms=1000,
    retry=Retry(max_attempts=1, backoff_ms=(), jitter_permille=0, retry_on=()),
)
_CREATED: Final = ev.PlanCreated(
    schema="theory.plan.v1",
    document=_CID,
    transitions=0,
    limit={"tokens": 1},
    policy=_POLICY,
    lane="build",
    registry_snapshot=_CID,
    goal=(),
    invariants=(),
    by="bench",
)
_CHECKED: Final = ev.PredicateChecked(
    scope="goal",
    verdict=Verdict(
        name="artifact.exists@1",
        params={"path": "/artifacts/outputs/bench-noop-v1/x0123456789abcdef/outputs/report.txt"},
        verdict="true",
        reason="/artifacts/outputs/bench-noop-v1/x0123456789abcdef/outputs/report.txt is there",
        at_seq=1,
    ),
)

Commit = Callable[[int], Awaitable[None]]
"""Appends this many events; more than one may still be on their way when it returns."""

_DDL: Final = """
CREATE TABLE raw_event (plan text, seq bigint, kind text NOT NULL, at text NOT NULL,
  hash {bytes} NOT NULL, body {bytes} NOT NULL, PRIMARY KEY (plan, seq)){rest}
"""
_UNNEST: Final = """
INSERT INTO raw_event
SELECT * FROM unnest($1::text[], $2::bigint[], $3::text[], $4::text[], $5::bytea[], $6::bytea[])
"""


class Rows:
    """Finished rows, like those that our side makes, and whoever counts them."""

    def __init__(self) -> None:
        folded = Folded(PlanState(plan=PLAN), Chain(plan=PLAN))
        event = sealed(folded, [_CREATED, _CHECKED])[1]
        self._made = 0
        self._rest = (event.kind, event.at, to_raw(event.hash), event.body)

    def next(self, count: int) -> list[tuple[str, int, str, str, bytes, bytes]]:
        """The next so many."""
        begin, self._made = self._made, self._made + count
        return [(PLAN, seq, *self._rest) for seq in range(begin, self._made)]


def sealed(folded: Folded, events: list[ev.Event]) -> list[StoredEvent]:
    """Events chained onto a plan."""
    return seal(folded, tuple(events), SystemClock().now)


async def ours(store: TruthStore) -> Commit:
    """What a writer does with decided events."""
    epoch = await store.claim("main", "bench")
    folded = Folded(PlanState(plan=PLAN), Chain(plan=PLAN))

    flight: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    flight.set_result(None)

    async def commit(events: list[ev.Event]) -> None:
        nonlocal flight
        for _ in range(0 if flight.done() else 3):
            await asyncio.sleep(0)  # What flies is sent before the next batch is chained.
        stored = sealed(folded, events)
        numbered = [(one.seq, one.at, event) for one, event in zip(stored, events, strict=True)]
        append = Append(PLAN, folded.state.seq, tuple(stored), project(PLAN, numbered))
        folded.state.seq += len(events)
        await flight
        flight = asyncio.ensure_future(store.append([append], shard="main", epoch=epoch))
        if len(events) == 1:
            await flight

    await commit([_CREATED])
    return lambda count: commit([_CHECKED] * count)


async def raw_postgres(url: str, stack: AsyncExitStack) -> Commit:
    """One prepared `unnest` insert a commit; a plain insert for a single row."""
    connection = await asyncpg.connect(url)
    stack.push_async_callback(connection.close)
    await connection.execute(_DDL.format(bytes="bytea", rest=""))
    many = await connection.prepare(_UNNEST)
    one = await connection.prepare("INSERT INTO raw_event VALUES ($1, $2, $3, $4, $5, $6)")
    rows = Rows()

    async def commit(count: int) -> None:
        found = rows.next(count)
        if count == 1:
            await one.fetch(*found[0])
        else:
            await many.fetch(*map(list, zip(*found, strict=True)))

    return commit


async def raw_sqlite(file: Path, stack: AsyncExitStack) -> Commit:
    """One `executemany` a commit, in the loop's own thread, with our settings."""
    connection = stack.enter_context(closing(sqlite3.connect(file, isolation_level=None)))
    for statement in SESSION:
        connection.execute(statement).close()
    connection.execute(_DDL.format(bytes="blob", rest=" WITHOUT ROWID"))
    rows = Rows()

    async def commit(count: int) -> None:
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany("INSERT INTO raw_event VALUES (?, ?, ?, ?, ?, ?)", rows.next(count))
        connection.execute("COMMIT")

    return commit


async def timed(commit: Commit, count: int) -> list[float]:
    """Seconds of each commit during one round."""
    taken: list[float] = []
    until = time.perf_counter() + _ROUND_S
    while (began := time.perf_counter()) < until:
        await commit(count)
        taken.append(time.perf_counter() - began)
    return taken


async def run(store: Store, folder: Path, rounds: int) -> list[dict[str, Any]]:
    """Both sides in turns, with 100 events a commit and with one."""
    async with AsyncExitStack() as stack:
        opened = await open_stores(store, folder, stack)
        raw = (
            await raw_postgres(opened.address, stack)
            if store.kind == "postgresql"
            else await raw_sqlite(folder / "raw.db", stack)
        )
        sides = {"ours": await ours(opened.truth), "raw": raw}
        found = []
        for count in (100, 1):
            taken: dict[str, list[float]] = {name: [] for name in sides}
            for _ in range(rounds):
                for name, commit in sides.items():
                    taken[name] += await timed(commit, count)
            row: dict[str, Any] = {"store": store.kind, "events_per_commit": count}
            for name, each in taken.items():
                row[f"{name}_per_s"] = count * len(each) / sum(each)
                row[f"{name}_p50_ms"] = percentile(each, 0.5) * 1000
            row["rate_ratio"] = row["ours_per_s"] / row["raw_per_s"]
            row["p50_ratio"] = row["ours_p50_ms"] / row["raw_p50_ms"]
            found.append(row)
    return found


def main() -> None:
    """Measure as the command line says."""
    given = arguments(__doc__).parse_args()
    found = []
    for store in stores(given):
        if store.kind != "memory":
            with tempfile.TemporaryDirectory() as folder:
                found += asyncio.run(run(store, Path(folder), max(given.runs, 3)))
    report("append", found, given.out)


if __name__ == "__main__":
    main()
