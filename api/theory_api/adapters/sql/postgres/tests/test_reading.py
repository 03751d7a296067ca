"""What an append reads does not grow with what the ledger and the shard hold already."""

from __future__ import annotations

import asyncpg

from theory_api.adapters.conftest import Story
from theory_api.adapters.sql.postgres.line import Work
from theory_api.adapters.sql.postgres.tests.conftest import Making
from theory_api.adapters.sql.postgres.truth import PostgresTruth
from theory_api.domain import events as ev
from theory_api.ports.truth import Append

# More than one page of each, and no statistics of them: nobody has analysed these tables.
OTHERS = """
INSERT INTO plan SELECT 'other' || n, shard, tenant, status, lane, created_at, updated_at,
  head_seq, head_hash, registry_snapshot, document, transitions, error_code
FROM plan, generate_series(1, 300) AS n WHERE plan.plan = $1
"""
EVENTS = """
INSERT INTO ledger_event SELECT 'other' || n, 1, kind, at, hash, body
FROM ledger_event, generate_series(1, 2000) AS n WHERE plan = $1 AND seq = 1
"""
READ = """
SELECT sum(seq_tup_read + idx_tup_fetch)::bigint FROM pg_stat_xact_user_tables
WHERE relname = ANY(ARRAY['plan', 'ledger_event', 'shard'])
"""
FEW = 20


async def rows_read(truth: PostgresTruth, batch: list[Append], epoch: int) -> int:
    """Rows of the ledger and of heads that one append reads, by the server's own count."""
    found = 0
    run = truth._appending.run

    async def counted(work: Work[None]) -> None:
        async def inside(connection: asyncpg.Connection) -> None:
            nonlocal found
            async with connection.transaction():
                # Counts of transactions before this one that were not told yet are among them.
                before = await connection.fetchval(READ)
                await work(connection)
                found = await connection.fetchval(READ) - before

        await run(inside)

    truth._appending.run = counted  # type: ignore[method-assign, assignment]
    await truth.append(batch, shard="s0", epoch=epoch)
    truth._appending.run = run  # type: ignore[method-assign]
    return found


async def test_an_append_reads_a_few_rows_of_a_large_ledger(
    store: Making, url: str, admin: asyncpg.Connection
) -> None:
    truth = store(url)
    epoch = await truth.claim("s0", "o1")
    one, two = Story("/world/acme/p1"), Story("/world/acme/p2")
    await truth.append([one.created(), two.created()], shard="s0", epoch=epoch)
    pause, resume = ev.PlanPaused(by="x", reason="x"), ev.PlanResumed(by="x", reason="x")

    def alone() -> list[Append]:
        """What moves one plan's head and nothing else."""
        append = one.append(pause, resume)
        append.changes.plan.pop("status")
        return [append]

    # The server plans each statement anew a few times, and keeps the plan it settles on.
    for _ in range(8):
        await truth.append(alone(), shard="s0", epoch=epoch)
        both = [one.append(pause, resume), two.append(pause, resume)]
        await truth.append(both, shard="s0", epoch=epoch)
    await admin.execute(OTHERS, one.plan)
    await admin.execute(EVENTS, one.plan)
    assert await rows_read(truth, alone(), epoch) < FEW
    both = [one.append(pause, resume), two.append(pause, resume)]
    assert await rows_read(truth, both, epoch) < FEW
    assert await truth.events(one.plan) == one.stored
