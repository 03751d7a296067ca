"""What inbox, register and hints of several schedulers promise, whatever they are made of."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

import asyncpg
import pytest

from theory_api.adapters.conftest import MIGRATIONS
from theory_api.adapters.memory.inbox import MemoryInbox, MemoryMail
from theory_api.adapters.memory.membership import MemoryMembership, MemoryRegister
from theory_api.adapters.memory.signals import MemorySignals
from theory_api.adapters.memory.truth import MemoryDatabase, MemoryTruth
from theory_api.adapters.sql.postgres import migrate
from theory_api.adapters.sql.postgres.inbox import PostgresInbox
from theory_api.adapters.sql.postgres.membership import PostgresMembership
from theory_api.adapters.sql.postgres.signals import PostgresSignals
from theory_api.adapters.sql.postgres.truth import PostgresTruth
from theory_api.adapters.tests.conftest import refused
from theory_api.ports.inbox import Inbox, InboxRow, Reply
from theory_api.ports.membership import Membership
from theory_api.ports.signals import Signals
from theory_api.ports.truth import INBOX, IdempotencyRow, TruthStore
from theory_api.tests.postgres import Cluster

Port = PostgresTruth | PostgresInbox | PostgresMembership | PostgresSignals
Kept = TypeVar("Kept", PostgresTruth, PostgresInbox, PostgresMembership, PostgresSignals)
SHARDS = ("s0", "s1", "s2")


@dataclass
class Ledger:
    """One database, and the ports of several processes to it."""

    truth: Callable[[], TruthStore]
    inbox: Callable[[], Inbox]
    members: Callable[[], Membership]
    signals: Callable[[], Signals]
    passes: Callable[[float], Awaitable[None]]
    """So many seconds ago is when everything happened that has happened."""


@pytest.fixture
def memory() -> Ledger:
    time = 0.0
    database = MemoryDatabase(now=lambda: time)
    mail, register, signals = MemoryMail(), MemoryRegister(), MemorySignals()

    async def passes(seconds: float) -> None:
        nonlocal time
        time += seconds

    return Ledger(
        lambda: MemoryTruth(database),
        lambda: MemoryInbox(database, mail),
        lambda: MemoryMembership(database, register),
        lambda: signals,
        passes,
    )


@pytest.fixture
async def postgresql(postgres: Cluster) -> AsyncIterator[Ledger]:
    url = postgres.database()
    await migrate.upgrade(url, MIGRATIONS)

    async def passes(seconds: float) -> None:
        admin = await asyncpg.connect(url)
        for table, column in (
            ("shard_lease", "renewed_at"),
            ("replica", "renewed_at"),
            ("inbox", "answered_at"),
        ):
            statement = f"UPDATE {table} SET {column} = {column} - make_interval(secs => $1)"  # noqa: S608
            await admin.execute(statement, seconds)
        await admin.close()

    made: list[Port] = []

    def keep(port: Kept) -> Kept:
        made.append(port)
        return port

    yield Ledger(
        lambda: keep(PostgresTruth(url)),
        lambda: keep(PostgresInbox(url)),
        lambda: keep(PostgresMembership(url)),
        lambda: keep(PostgresSignals(url)),
        passes,
    )
    for port in made:
        await port.close()


@pytest.fixture(params=["memory", "postgresql"])
def ledger(request: pytest.FixtureRequest) -> Ledger:
    found: Ledger = request.getfixturevalue(request.param)
    return found


def row(ident: str, shard: str = "s0", key: str | None = None) -> InboxRow:
    once = None if key is None else IdempotencyRow("acme me", key, "b3:1", b'{"done":1}')
    return InboxRow(id=ident, shard=shard, plan="/world/a/p", command=b"\x00{}", idempotency=once)


async def test_rows_come_out_as_they_went_in_and_in_their_order(ledger: Ledger) -> None:
    inbox, other = ledger.inbox(), ledger.inbox()
    rows = [row("b", key="k"), row("a"), row("c")]
    for one in rows:
        await inbox.put(one)
        await inbox.put(one)
    await inbox.put(row("d", "s1"))
    assert await other.pending("s0", limit=9) == rows
    assert await other.pending("s0", limit=2) == rows[:2]
    assert await other.pending("s2", limit=9) == []


async def test_a_row_is_answered_once_and_by_the_present_owner_alone(ledger: Ledger) -> None:
    inbox, other, truth = ledger.inbox(), ledger.inbox(), ledger.truth()
    await inbox.put(row("a"))
    await inbox.put(row("b"))
    answer = Reply(answer=b"first")
    await refused("ERR_NOT_WRITER", other.answer("a", answer, shard="s0", epoch=1))
    epoch = await truth.claim("s0", "o1")
    await refused("ERR_NOT_WRITER", other.answer("a", answer, shard="s0", epoch=epoch + 1))
    assert await inbox.reply("a") is None
    await other.answer("a", answer, shard="s0", epoch=epoch)
    await other.answer("a", Reply(error=b"second"), shard="s0", epoch=epoch)
    await other.answer("nobody", answer, shard="s0", epoch=epoch)
    assert await inbox.reply("a") == answer
    await ledger.passes(6)
    heir = ledger.truth()
    later = await heir.claim("s0", "o2")
    await refused("ERR_NOT_WRITER", other.answer("b", answer, shard="s0", epoch=epoch))
    await other.answer("b", Reply(error=b"heir"), shard="s0", epoch=later)
    assert await inbox.reply("b") == Reply(error=b"heir")
    await heir.release("s0", later)
    await inbox.put(row("c"))
    await refused("ERR_NOT_WRITER", other.answer("c", answer, shard="s0", epoch=later))


async def test_what_nobody_waits_for_is_withdrawn_but_not_what_was_answered(
    ledger: Ledger,
) -> None:
    inbox, truth = ledger.inbox(), ledger.truth()
    epoch = await truth.claim("s0", "o1")
    for name in ("a", "b"):
        await inbox.put(row(name))
    await inbox.answer("a", Reply(answer=b"x"), shard="s0", epoch=epoch)
    for name in ("a", "b", "c"):
        await inbox.withdraw(name)
    assert await inbox.pending("s0", limit=9) == []
    assert await inbox.reply("a") == Reply(answer=b"x")
    assert await inbox.reply("b") is None


async def test_old_answers_go_with_what_made_them_happen_once(ledger: Ledger) -> None:
    inbox, truth = ledger.inbox(), ledger.truth()
    epoch = await truth.claim("s0", "o1")
    for name in ("a", "b"):
        await inbox.put(row(name))
    once = [IdempotencyRow(scope, "a", "b", b"{}") for scope in (INBOX, "acme me")]
    await truth.append([], shard="s0", epoch=epoch, idempotency=once)
    await inbox.answer("a", Reply(answer=b"x"), shard="s0", epoch=epoch)
    assert await inbox.sweep("s0", older_s=600) == 0
    await ledger.passes(601)
    assert await inbox.sweep("s1", older_s=600) == 0
    assert await inbox.sweep("s0", older_s=600) == 1
    assert await inbox.sweep("s0", older_s=600) == 0
    assert await inbox.reply("a") is None
    assert await truth.idempotency(INBOX, "a") is None
    assert await truth.idempotency("acme me", "a") == once[1]
    assert [left.id for left in await inbox.pending("s0", limit=9)] == ["b"]


async def test_what_was_withdrawn_goes_too_with_what_it_made_happen_once_meanwhile(
    ledger: Ledger,
) -> None:
    inbox, truth = ledger.inbox(), ledger.truth()
    epoch = await truth.claim("s0", "o1")
    await inbox.put(row("a"))
    (taken,) = await inbox.pending("s0", limit=9)
    await inbox.withdraw("a")
    once = IdempotencyRow(INBOX, taken.id, "b", b"{}")
    await truth.append([], shard="s0", epoch=epoch, idempotency=[once])
    await inbox.answer("a", Reply(answer=b"late"), shard="s0", epoch=epoch)
    assert await inbox.reply("a") is None, "who withdrew it was told that nobody answered"
    await ledger.passes(601)
    assert await inbox.sweep("s0", older_s=600) == 1
    assert await truth.idempotency(INBOX, "a") is None


async def test_members_are_those_that_were_heard_of_within_a_lease(ledger: Ledger) -> None:
    one, two = ledger.members(), ledger.members()
    await one.renew("one")
    await two.renew("two")
    assert await one.members() == {"one", "two"}
    await ledger.passes(4)
    await one.renew("one")
    await ledger.passes(2)
    assert await two.members() == {"one"}
    await one.leave("one")
    await one.leave("one")
    assert await two.members() == frozenset()


async def test_owners_are_those_whose_lease_is_fresh(ledger: Ledger) -> None:
    members, truth = ledger.members(), ledger.truth()
    await members.establish(SHARDS, home="here")
    assert await members.owners() == {}
    first = await truth.claim("s0", "one")
    second = await truth.claim("s1", "one")
    assert await members.owners() == {"s0": "one", "s1": "one"}
    await truth.release("s0", first)
    assert await members.owners() == {"s1": "one"}
    await ledger.passes(4)
    await truth.renew("s1", second)
    await ledger.passes(2)
    assert await members.owners() == {"s1": "one"}
    await ledger.passes(6)
    assert await members.owners() == {}


async def test_what_was_decided_at_the_first_start_holds_for_good(ledger: Ledger) -> None:
    many = [ledger.members() for _ in range(4)]
    await asyncio.gather(*(one.establish(SHARDS, home="here") for one in many))
    more = await refused("ERR_CONFLICT", many[0].establish((*SHARDS, "s3"), home="here"))
    assert more.detail["asked"] == 4
    await refused("ERR_CONFLICT", many[1].establish(SHARDS, home="there"))
    await many[2].establish(SHARDS, home="here")


async def test_hints_reach_every_listener_of_every_process(ledger: Ledger) -> None:
    one, two = ledger.signals(), ledger.signals()
    heard: dict[str, set[str]] = {"one": set(), "two": set(), "gone": set()}
    one.listen(heard["one"].add)
    two.listen(heard["two"].add)
    two.listen(heard["gone"].add)()
    long = "plan /world/a/" + "p" * 1000
    async with asyncio.timeout(20):
        while not all(heard[name] >= {"inbox s0", long} for name in ("one", "two")):
            one.send("inbox s0", long)
            await asyncio.sleep(0.05)
    assert heard["gone"] == set()
