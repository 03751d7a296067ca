"""Many want the same at once: one admission, the rest of a budget, one key."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from functools import partial
from typing import Any, Final

import asyncpg
import pytest

from theory_api.adapters.conftest import MIGRATIONS, Story
from theory_api.adapters.sql.postgres import migrate
from theory_api.adapters.sql.postgres.payload import projected
from theory_api.adapters.sql.postgres.read import read_only
from theory_api.adapters.sql.postgres.truth import PostgresTruth
from theory_api.adapters.sql.read import SqlReads
from theory_api.adapters.system.clock import SystemClock
from theory_api.adapters.tests.conftest import Machine, claimed
from theory_api.domain import commands as cmd
from theory_api.domain import events as ev
from theory_api.domain.projection import BalanceMove, Changes
from theory_api.domain.tests.book import PLAN, Book, creation, proposal
from theory_api.ports.truth import Append, IdempotencyRow, ReadModel
from theory_api.scheduler.writer import Writer
from theory_api.tests.postgres import Cluster
from theory_api.tests.tables import Table
from theory_core import TheoryError, verify

ROUNDS: Final = int(os.environ.get("THEORY_CONTENTION", "5"))
STORES: Final = 16
EACH: Final = 4
"""Contenders with one store between them: 64 in all."""
ASKED: Final = 200
SHARE: Final = 10
LIMIT: Final = SHARE * ASKED // 2
SAME_KEY: Final = 50

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600 + 10 * ROUNDS)]

Told = dict[str, str]
"""Contender -> `won`, or the code of its refusal."""


async def outcome(ask: Callable[[], Awaitable[object]]) -> str:
    """`won`, or the code of the refusal; what may work a moment later is asked again."""
    while True:
        try:
            await ask()
        except TheoryError as error:
            if error.code != "ERR_UNAVAILABLE":
                return error.code
        else:
            return "won"


async def taken(store: PostgresTruth, owner: str) -> int:
    """The epoch under which a shard was taken from its owner, however many others take it, too."""
    while True:
        try:
            return await store.claim("s0", owner)
        except TheoryError as error:
            if error.code != "ERR_UNAVAILABLE":
                raise


def prepared(plan: str) -> tuple[Story, list[Append]]:
    """A plan with one transition that waits."""
    story = Story(plan)
    return story, [story.created(tokens=SHARE), story.append(story.proposed("t"))]


def contender(plan: str, name: str) -> tuple[Story, Append]:
    """The same admission at the same head; only its last event tells who wrote it."""
    story, _ = prepared(plan)
    admission = story.started("t", tokens=SHARE)
    return story, story.append(*admission, ev.PlanPaused(by="local", reason=name))


async def begin(store: Any, epoch: int, plan: str) -> None:  # noqa: ANN401 - any store
    """Have the database hold the plan up to the moment of its admission."""
    for append in prepared(plan)[1]:
        await store.append([append], shard="s0", epoch=epoch)


async def contend(store: Any, epoch: int, plan: str, names: list[str]) -> Told:  # noqa: ANN401
    """All of them at once, through one store."""
    appends = [[contender(plan, name)[1]] for name in names]
    asks = [partial(store.append, append, shard="s0", epoch=epoch) for append in appends]
    return dict(zip(names, await asyncio.gather(*map(outcome, asks)), strict=True))


async def judged(read: ReadModel, plan: str, told: Told) -> list[str]:
    """What is wrong after a round."""
    won = [name for name, what in told.items() if what == "won"]
    strange = set(told.values()) - {"won", "ERR_CONFLICT", "ERR_NOT_WRITER"}
    faults = [f"{plan}: {code}" for code in strange]
    if len(won) != 1:
        return [*faults, f"{plan}: {len(won)} winners: {Counter(told.values())}"]
    events = await read.events(plan)
    if events != contender(plan, won[0])[0].stored:
        faults.append(f"{plan}: the ledger is not the winner's")
    lines = [b'{"event":%b,"hash":"%b"}\n' % (e.body, e.hash.encode()) for e in events]
    if (fault := verify(b"".join(lines)).fault) is not None:
        faults.append(f"{plan}: {fault}")
    balance = [(row.reserved, row.spent) for row in await read.balance(plan)]
    if balance != [(SHARE, 0)]:
        faults.append(f"{plan}: {balance}")
    return faults


def tell(table: Table, title: str, found: Counter[str], faults: list[str]) -> None:
    """One line for all rounds."""
    heads = ("rounds", "contenders", "admitted", "head moved", "epoch over", "anomalies")
    codes = [found[code] for code in ("won", "ERR_CONFLICT", "ERR_NOT_WRITER")]
    table(title, [heads, (ROUNDS, STORES * EACH, *codes, len(faults))])


@pytest.mark.scenario(4, 5)
async def test_one_of_64_owners_with_stale_and_competing_epochs_admits(
    postgres: Cluster, table: Table
) -> None:
    """Every store claims the shard from the others while all append at the same head."""
    url = postgres.database()
    await migrate.upgrade(url, MIGRATIONS)
    stores = [PostgresTruth(url, lease=timedelta(0)) for _ in range(STORES)]
    read = SqlReads(read_only(url))
    faults: list[str] = []
    found: Counter[str] = Counter()

    async def owner(number: int, plan: str) -> Told:
        epoch = await taken(stores[number], f"o{number}")
        names = [f"{number}.{part}" for part in range(EACH)]
        return await contend(stores[number], epoch, plan, names)

    for turn in range(ROUNDS):
        plan = f"/world/acme/p{turn}"
        await begin(stores[0], await taken(stores[0], "o0"), plan)
        shares = await asyncio.gather(*(owner(number, plan) for number in range(STORES)))
        told = {name: what for share in shares for name, what in share.items()}
        faults += await judged(read, plan, told)
        found.update(told.values())
    for store in stores:
        await store.close()
    await read.close()
    tell(table, "64 owners, one transition, PostgreSQL", found, faults)
    assert not faults, "\n".join(faults)


@pytest.mark.scenario(4)
async def test_one_of_64_appends_of_one_owner_at_one_head_admits(
    machine: Machine, table: Table
) -> None:
    store, epoch = await claimed(machine)
    faults: list[str] = []
    found: Counter[str] = Counter()
    for turn in range(ROUNDS):
        plan = f"/world/acme/p{turn}"
        await begin(store, epoch, plan)
        told = await contend(store, epoch, plan, [str(n) for n in range(STORES * EACH)])
        faults += await judged(machine.read, plan, told)
        found.update(told.values())
    tell(table, f"One owner, 64 appends at one head, {type(store).__name__}", found, faults)
    assert not faults, "\n".join(faults)


@pytest.mark.scenario(66)
async def test_of_200_moves_of_a_hundredth_the_database_lets_100_through(
    postgres: Cluster, table: Table
) -> None:
    """The guard alone, over many connections, without the writer that would not even ask."""
    url = postgres.database()
    await migrate.upgrade(url, MIGRATIONS)
    pool = await asyncpg.create_pool(url, min_size=STORES, max_size=STORES)
    granted: list[int] = []
    over = 0
    for turn in range(ROUNDS):
        plan = f"/world/acme/p{turn}"
        store = PostgresTruth(url)
        epoch = await store.claim("s0", "o1")
        await store.append([Story(plan).created(tokens=LIMIT)], shard="s0", epoch=epoch)
        await store.close()
        moves = Changes(moves=[BalanceMove("tokens", reserved=SHARE, guarded=True)])
        given = projected([(plan, moves)])

        async def reserve(given: str = given) -> bool:
            try:
                await pool.execute("SELECT theory_project($1)", given)
            except asyncpg.PostgresError as error:
                if error.sqlstate == "TH003":
                    return False
                raise
            return True

        granted.append(sum(await asyncio.gather(*(reserve() for _ in range(ASKED)))))
        held = await pool.fetchval("SELECT reserved FROM balance WHERE plan = $1", plan)
        assert held == SHARE * granted[-1]
        over = max(over, held - LIMIT)
    await pool.close()
    faults = sum(count != ASKED // 2 for count in granted)
    heads = ("rounds", "reserves asked", "granted", "most overspent", "anomalies")
    row = (ROUNDS, ROUNDS * ASKED, sum(granted), over, faults)
    table("Guarded moves of one balance, PostgreSQL", [heads, row])
    assert not faults, granted


@contextlib.asynccontextmanager
async def writing(store: Any, epoch: int) -> AsyncIterator[Writer]:  # noqa: ANN401 - any store
    """A writer at work."""
    writer = Writer(store, SystemClock(), shard="s0", epoch=epoch, on_commit=lambda _commit: None)
    loop = asyncio.create_task(writer.run())
    try:
        yield writer
    finally:
        loop.cancel()
        await asyncio.wait({loop})


@pytest.mark.scenario(66)
async def test_of_200_admissions_of_a_hundredth_the_writer_lets_100_through(
    machine: Machine, table: Table
) -> None:
    """What does not fit waits: it is neither admitted nor refused."""
    names = [f"t{number}" for number in range(ASKED)]
    steps = tuple(proposal(name, hold={"usd_micro": SHARE}) for name in names)
    book = Book(*steps, limit={"usd_micro": LIMIT})
    store, epoch = await claimed(machine)
    admitted, faults, over = 0, 0, 0
    for turn in range(ROUNDS):
        plan = f"{PLAN}-{turn}"
        async with writing(store, epoch) as writer:
            await writer.submit(creation(*steps, plan=plan, limit={"usd_micro": LIMIT}))
            asked = [book.admission(name, plan=plan, epoch=epoch) for name in names]
            answers = await asyncio.gather(*map(writer.submit, asked))
        granted = [answer for answer in answers if answer.events]
        (balance,) = await machine.read.balance(plan)
        over = max(over, balance.reserved + balance.spent - LIMIT)
        right = len(granted) == ASKED // 2 and (balance.reserved, balance.spent) == (LIMIT, 0)
        faults += not right
        admitted += len(granted)
    heads = ("rounds", "admissions asked", "granted", "most overspent", "anomalies")
    row = (ROUNDS, ROUNDS * ASKED, admitted, over, faults)
    table(f"A budget for half of what is asked, {type(store).__name__}", [heads, row])
    assert not faults


@pytest.mark.scenario(88)
async def test_50_requests_with_one_key_have_one_effect(machine: Machine, table: Table) -> None:
    store, epoch = await claimed(machine)
    faults = 0
    async with writing(store, epoch) as writer:
        await writer.submit(creation(proposal("a"), limit={"usd_micro": 100}))
        for turn in range(ROUNDS):
            row = IdempotencyRow("acme/me", f"k{turn}", "body", b'{"done":true}')
            command = cmd.TopUp(plan=PLAN, by="me", amount={"usd_micro": 1})
            ask = partial(writer.submit, command, row)
            told = Counter(await asyncio.gather(*(outcome(ask) for _ in range(SAME_KEY))))
            again = await writer.submit(command, row)
            (balance,) = await machine.read.balance(PLAN)
            once = told["won"] == 1 and told["ERR_IDEMPOTENCY_IN_FLIGHT"] == SAME_KEY - 1
            same = again.replayed == row.answer and balance.limit == 100 + turn + 1
            faults += not (once and same)
    heads = ("rounds", "requests", "effects", "anomalies")
    title = f"One key, {SAME_KEY} requests at once, {type(store).__name__}"
    table(title, [heads, (ROUNDS, ROUNDS * SAME_KEY, ROUNDS, faults)])
    assert not faults
