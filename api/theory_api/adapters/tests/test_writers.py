"""The single writer over every store: who wins, what is held, what is spent, after whatever."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest

from theory_api.adapters.system.clock import SystemClock
from theory_api.adapters.tests.conftest import Machine, Store, refused
from theory_api.domain import commands as cmd
from theory_api.domain.state import PlanState
from theory_api.domain.tests.book import BROKE, CID, PLAN, creation, policy, proposal
from theory_api.domain.values import SelectorSpec
from theory_api.ports.truth import IdempotencyRow
from theory_api.scheduler.answer import Answer
from theory_api.scheduler.writer import Writer
from theory_core import TheoryError, canonicalize, execution_id, loads_strict, verify

pytestmark = pytest.mark.timeout(300)


@asynccontextmanager
async def working(store: Store, epoch: int, shard: str = "s0") -> AsyncIterator[Writer]:
    """A writer of a shard at work."""
    writer = Writer(store, SystemClock(), shard=shard, epoch=epoch, on_commit=lambda _commit: None)
    loop = asyncio.create_task(writer.run())
    try:
        yield writer
    finally:
        loop.cancel()
        await asyncio.wait({loop})


def admit(name: str, attempt: int = 1, epoch: int = 1) -> cmd.Admit:
    ident = execution_id(PLAN, name, attempt)
    prefix = f"/artifacts/outputs/demo-echo-v1/{ident}/"
    return cmd.Admit(
        plan=PLAN,
        transition=name,
        attempt=attempt,
        execution_id=ident,
        write_prefix=prefix,
        write_set=(SelectorSpec(kind="prefix", path=prefix),),
        inputs=CID,
        inputs_hash=CID,
        adapter="process",
        env_fingerprint="cpu:1",
        owner="o1",
        epoch=epoch,
    )


def fail(name: str, used: int | None, attempt: int = 1, outcome: str = "failed") -> cmd.Complete:
    """An attempt's end, with what was measured of it."""
    usage = cmd.Usage(measured={} if used is None else {"usd_micro": used})
    ident = execution_id(PLAN, name, attempt)
    return cmd.Complete(
        plan=PLAN,
        execution_id=ident,
        outcome=outcome,
        usage=usage,
        error=BROKE,
        envelope=CID,
        receipt=CID,
    )


def top_up(amount: int, plan: str = PLAN) -> cmd.TopUp:
    return cmd.TopUp(plan=plan, by="me", amount={"usd_micro": amount})


def steps(count: int, hold: int = 10) -> tuple[cmd.Proposal, ...]:
    return tuple(proposal(f"t{place}", hold={"usd_micro": hold}) for place in range(count))


async def kinds(machine: Machine) -> list[str]:
    return [event.kind for event in await machine.read.events(PLAN, limit=100_000)]


async def sound(machine: Machine, state: PlanState) -> None:
    """The ledger verifies, and rows, fold and ledger tell one budget."""
    events = await machine.read.events(PLAN, limit=100_000)
    lines = [
        canonicalize({"event": loads_strict(event.body), "hash": event.hash}) for event in events
    ]
    assert verify(lines).fault is None
    told = [loads_strict(event.body) for event in events]
    settled = [each["data"]["actual"] for each in told if each["kind"] == "budget.settled"]
    held = [attempt.hold["usd_micro"] for attempt in state.open.values()]
    (row,) = await machine.read.balance(PLAN)
    assert row.spent == sum(actual["usd_micro"] for actual in settled)
    assert row.spent == state.spent.get("usd_micro", 0)
    assert row.reserved == sum(held) == state.reserved.get("usd_micro", 0)
    assert row.limit == state.limit["usd_micro"]


def held(writer: Writer) -> PlanState:
    state = writer.state(PLAN)
    assert state is not None
    return state


async def together(writer: Writer, commands: Sequence[cmd.Command]) -> list[Answer | BaseException]:
    return await asyncio.gather(*map(writer.submit, commands), return_exceptions=True)


@pytest.mark.scenario(4, 6)
async def test_of_two_owners_in_a_row_the_later_admits_and_the_earlier_writes_nothing(
    machine: Machine,
) -> None:
    old: Store = machine.store()
    old_epoch = await old.claim("s0", "o1")
    async with working(old, old_epoch) as zombie:
        await zombie.submit(creation(*steps(1)))
        await machine.kill(old)
        new: Store = machine.store()
        epoch = await new.claim("s0", "o2")
        async with working(new, epoch) as heir:
            await heir.load(PLAN)
            first, second = await asyncio.gather(
                zombie.submit(admit("t0", epoch=old_epoch)),
                heir.submit(admit("t0", epoch=epoch)),
                return_exceptions=True,
            )
            assert isinstance(first, TheoryError)
            assert first.code == "ERR_NOT_WRITER"
            assert isinstance(second, Answer)
            assert "transition.admitted" in second.events
            await refused("ERR_NOT_WRITER", zombie.submit(admit("t0")))
            assert (await kinds(machine)).count("budget.reserved") == 1
            await sound(machine, held(heir))


@pytest.mark.scenario(88)
async def test_one_key_for_two_plans_of_two_writers_is_one_effect_and_stops_neither(
    machine: Machine,
) -> None:
    """Whoever commits second is told so, and what commits beside it is not disturbed."""
    store: Store = machine.store()
    plans = tuple(f"/world/acme/p{place}" for place in range(2))
    epochs = [await store.claim(f"s{place}", "o1") for place in range(2)]
    async with (
        working(store, epochs[0], "s0") as first,
        working(store, epochs[1], "s1") as second,
    ):
        writers = tuple(zip(plans, (first, second), strict=True))
        for plan, writer in writers:
            await writer.submit(creation(*steps(1), plan=plan))
        for turn in range(10):
            key = [IdempotencyRow("acme/me", f"k{turn}", plan, b'"done"') for plan in plans]
            asked = [
                writer.submit(top_up(1, plan), key[place])
                for place, (plan, writer) in enumerate(writers)
            ]
            beside = [writer.submit(top_up(1000, plan)) for plan, writer in writers]
            told = await asyncio.gather(*asked, *beside, return_exceptions=True)
            refusals = [answer for answer in told if isinstance(answer, TheoryError)]
            assert [refusal.code for refusal in refusals] == ["ERR_IDEMPOTENCY_MISMATCH"]
            assert all(isinstance(answer, Answer) for answer in told[2:])
        limits = [(await machine.read.balance(plan))[0].limit for plan in plans]
        assert sum(limit or 0 for limit in limits) == 2 * (100 + 10_000) + 10


@pytest.mark.scenario(4)
async def test_of_eight_writers_that_believe_in_the_same_head_one_admits(machine: Machine) -> None:
    store: Store = machine.store()
    epoch = await store.claim("s0", "o1")
    for turn in range(5):
        name = f"t{turn}"
        async with working(store, epoch) as first:
            if not turn:
                await first.submit(creation(*steps(5)))
        writers = [
            Writer(store, SystemClock(), shard="s0", epoch=epoch, on_commit=lambda _: None)
            for _ in range(8)
        ]
        for writer in writers:
            await writer.load(PLAN)
        loops = [asyncio.create_task(writer.run()) for writer in writers]
        asked = await asyncio.gather(
            *(writer.submit(admit(name)) for writer in writers), return_exceptions=True
        )
        won = [answer for answer in asked if isinstance(answer, Answer)]
        lost = [error.code for error in asked if isinstance(error, TheoryError)]
        assert (len(won), lost) == (1, ["ERR_NOT_WRITER"] * 7)
        assert (await kinds(machine)).count("budget.reserved") == turn + 1
        for loop in loops:
            loop.cancel()
        await asyncio.wait(loops)


@pytest.mark.scenario(66)
async def test_of_200_parallel_reserves_of_a_hundredth_exactly_100_succeed(
    machine: Machine,
) -> None:
    store: Store = machine.store()
    async with working(store, await store.claim("s0", "o1")) as writer:
        await writer.submit(creation(*steps(200, hold=1), limit={"usd_micro": 100}))
        asked = await together(writer, [admit(f"t{place}") for place in range(200)])
        assert sum(bool(isinstance(one, Answer) and one.events) for one in asked) == 100
        assert (await machine.read.balance(PLAN))[0].reserved == 100
        await sound(machine, held(writer))


@pytest.mark.scenario(67)
async def test_what_is_charged_beyond_the_hold_is_booked_told_and_stops_admissions(
    machine: Machine,
) -> None:
    store: Store = machine.store()
    async with working(store, await store.claim("s0", "o1")) as writer:
        rules = policy(on_breach="pause", attempts=1)
        await writer.submit(creation(*steps(3), policy=rules))
        await writer.submit(admit("t0"))
        over = await writer.submit(fail("t0", used=95))
        assert over.events[1:3] == ("budget.settled", "budget.breached")
        assert (await machine.read.balance(PLAN))[0].spent == 95
        resumed = cmd.ResumePlan(plan=PLAN, by="me", reason="go on")
        await writer.submit(resumed)
        assert (await writer.submit(admit("t1"))).events == ()
        await writer.submit(top_up(5))
        assert "budget.reserved" in (await writer.submit(admit("t1"))).events
        await sound(machine, held(writer))


@pytest.mark.scenario(68)
@pytest.mark.parametrize("first", ["failed", "void"])
async def test_a_second_settle_or_release_changes_nothing_whoever_sends_it(
    machine: Machine, first: str
) -> None:
    store: Store = machine.store()
    async with working(store, await store.claim("s0", "o1")) as writer:
        await writer.submit(creation(*steps(2), policy=policy(attempts=1)))
        await writer.submit(admit("t0"))
        await writer.submit(fail("t0", used=4, outcome=first))
        before = await kinds(machine)
        again = [fail("t0", used=9, outcome=how) for how in ("failed", "void", "orphaned")]
        told: list[str] = []
        for late in await together(writer, [*again, *again]):
            assert isinstance(late, Answer)
            told.extend(late.events)
        # A result of what was given up without one is told, once, and settles nothing.
        assert told == (["execution.duplicate"] if first == "void" else [])
        before = [*before, *told]
    await machine.kill(store)
    heir: Store = machine.store()
    async with working(heir, await heir.claim("s0", "o2")) as writer:
        assert (await writer.submit(again[0])).events == ()
        assert await kinds(machine) == before
        (row,) = await machine.read.balance(PLAN)
        assert (row.reserved, row.spent) == (0, 0 if first == "void" else 4)
        await sound(machine, held(writer))


@pytest.mark.scenario(70)
async def test_a_budget_is_raised_while_reservations_are_open_and_never_lowered(
    machine: Machine,
) -> None:
    store: Store = machine.store()
    async with working(store, await store.claim("s0", "o1")) as writer:
        await writer.submit(creation(*steps(3), limit={"usd_micro": 15}))
        assert (await writer.submit(admit("t0"))).events
        assert (await writer.submit(admit("t1"))).events == ()
        for lower in (-1, -15, 0):
            await refused("ERR_PLAN_INVALID", writer.submit(top_up(lower)))
        raised, admitted = await together(writer, [top_up(5), admit("t1")])
        assert isinstance(raised, Answer)
        assert isinstance(admitted, Answer)
        assert "budget.reserved" in admitted.events
        assert (await writer.submit(admit("t2"))).events == ()
        (row,) = await machine.read.balance(PLAN)
        assert (row.limit, row.reserved, row.spent) == (20, 20, 0)
        await sound(machine, held(writer))


@pytest.mark.scenario(73)
async def test_after_1000_failed_executions_the_budget_is_what_it_was_without_what_was_used(
    machine: Machine,
) -> None:
    draw = random.Random(73)  # noqa: S311 - amounts, not secrets
    store: Store = machine.store()
    names = [f"t{place}" for place in range(500)]
    used = {(name, attempt): draw.randrange(11) for name in names for attempt in (1, 2)}
    async with working(store, await store.claim("s0", "o1")) as writer:
        await writer.submit(creation(*steps(500), limit={"usd_micro": 15_000}))
        for attempt in (1, 2):
            await together(writer, [admit(name, attempt) for name in names])
            assert (await machine.read.balance(PLAN))[0].reserved == 5000
            ends = [fail(name, used[name, attempt], attempt) for name in names]
            assert all(isinstance(end, Answer) for end in await together(writer, ends))
        (row,) = await machine.read.balance(PLAN)
        assert (row.reserved, row.spent) == (0, sum(used.values()))
        assert (await kinds(machine)).count("budget.settled") == 1000
        assert held(writer).counts == {"failed": 500}
        await sound(machine, held(writer))


@pytest.mark.scenario(74)
async def test_whatever_a_process_knew_is_lost_and_the_budget_is_not(machine: Machine) -> None:
    store: Store = machine.store()
    admitted = 0
    for place in range(15):
        async with working(store, await store.claim("s0", f"o{place}")) as writer:
            if not place:
                await writer.submit(creation(*steps(15)))
            admitted += bool((await writer.submit(admit(f"t{place}"))).events)
            await sound(machine, held(writer))
        await machine.kill(store)
        store = machine.store()
    assert admitted == 10
    (row,) = await machine.read.balance(PLAN)
    assert (row.limit, row.reserved) == (100, 100)
