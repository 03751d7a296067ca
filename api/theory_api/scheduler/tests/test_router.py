"""Commands find the owner of their plan, are done once, and answered by nobody else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from theory_api.domain import commands as cmd
from theory_api.domain.values import ControlOp, SelectorSpec
from theory_api.ports.inbox import InboxRow
from theory_api.ports.truth import INBOX, IdempotencyRow
from theory_api.scheduler.answer import Answer, outcome, reply
from theory_api.scheduler.engine import Engine
from theory_api.scheduler.shards import shard_of, shards
from theory_api.scheduler.tenure import LeasePace
from theory_api.scheduler.tests.bench import settle, step
from theory_api.scheduler.tests.processors import Run, forever
from theory_api.scheduler.tests.replicas import Ledger, Replica, code
from theory_api.scheduler.verification import Verified
from theory_api.services.plans import Applied
from theory_core import TheoryError, digest


@pytest.fixture
async def ledger() -> AsyncIterator[Ledger]:
    made = Ledger()
    yield made
    await made.close()


async def pair(ledger: Ledger) -> tuple[Replica, Replica]:
    """Two replicas, the second of which owns two of four shards."""
    one, two = await ledger.replica(), await ledger.replica()
    await ledger.passes(20)
    assert len(one.ownership.owned) == len(two.ownership.owned) == 2
    return one, two


def named(replica: Replica, number: int = 0) -> str:
    """The name of a plan that this replica owns."""
    names = (f"p{n}" for n in range(10_000))
    mine = [n for n in names if shard_of(f"/world/acme/{n}", shards(4)) in replica.ownership.owned]
    return mine[number]


def topup(plan: str, amount: int = 1) -> cmd.Command:
    return cmd.TopUp(plan=plan, by="me", amount={"usd_micro": amount})


def pause(plan: str) -> cmd.Command:
    return cmd.PausePlan(plan=plan, by="me", reason="wait")


def row(key: str, body: str = "b") -> IdempotencyRow:
    return IdempotencyRow(scope="acme me", key=key, body=body, answer=b'{"done":true}')


async def long(ledger: Ledger, through: Replica, name: str) -> str:
    """A plan that goes on until somebody ends it."""
    ledger.behaviours.setdefault("long", []).extend([forever] * 99)
    plan = await ledger.until(through.apply(name, {"a": step("long")}))
    await settle()
    return plan


async def test_any_replica_takes_a_plan_and_its_owner_runs_it(ledger: Ledger) -> None:
    one, two = await pair(ledger)
    for number in range(3):
        plan = await ledger.until(one.apply(named(two, number), {"a": step()}))
        assert await ledger.until(one.router.wait(plan)) == "completed"
        assert ledger.owner(plan) is two
    assert not one.runs
    assert len(two.runs) == 3


async def test_an_answer_through_the_inbox_is_the_answer_of_the_owner(ledger: Ledger) -> None:
    one, two = await pair(ledger)
    plan = await long(ledger, one, named(two))
    here = await ledger.until(two.router.submit(topup(plan)))
    there = await ledger.until(one.router.submit(topup(plan)))
    assert here.events == there.events == ("budget.topped_up",)
    assert there.seq == here.seq + 1
    nothing = await ledger.until(one.router.submit(cmd.ResumePlan(plan=plan, by="me", reason="go")))
    assert nothing.events == ()
    gone = one.router.submit(pause("/world/acme/" + named(two, 5)))
    assert await code(ledger.until(gone)) == "ERR_NOT_FOUND"


async def test_a_document_applied_through_two_replicas_is_one_plan(ledger: Ledger) -> None:
    one, two = await pair(ledger)
    name = named(two)

    async def applied(replica: Replica) -> Applied:
        document = {
            "schema": "theory.plan.v1",
            "plan": name,
            "budget": {"usd_micro": 1000},
            "transitions": {"a": step()},
        }
        return await replica.plans.apply(document, tenant="acme", by="me")

    both = await ledger.until(asyncio.gather(applied(one), applied(two)))
    assert sorted(one.created for one in both) == [False, True]


@pytest.mark.scenario(88)
async def test_a_client_s_key_makes_a_command_happen_once_whoever_is_asked(ledger: Ledger) -> None:
    one, two = await pair(ledger)
    plan = await long(ledger, one, named(two))
    first = await ledger.until(one.router.submit(topup(plan), idempotency=row("k")))
    again = [
        await ledger.until(replica.router.submit(topup(plan), idempotency=row("k")))
        for replica in (one, two)
    ]
    assert first.events == ("budget.topped_up",)
    assert [answer.replayed for answer in again] == [b'{"done":true}'] * 2
    other = row("k", "another body")
    for replica in (one, two):
        refused = code(ledger.until(replica.router.submit(topup(plan), idempotency=other)))
        assert await refused == "ERR_IDEMPOTENCY_MISMATCH"
    assert ledger.kinds(plan).count("budget.topped_up") == 1


async def test_commands_of_one_plan_are_done_in_the_order_in_which_they_came(
    ledger: Ledger,
) -> None:
    one, two = await pair(ledger)
    plan = await long(ledger, one, named(two))
    before = len(ledger.kinds(plan))
    work: list[asyncio.Task[Answer]] = []
    for number in range(30):
        kind = cmd.PausePlan if number % 2 == 0 else cmd.ResumePlan
        command = kind(plan=plan, by="me", reason=str(number))
        work.append(asyncio.create_task(one.router.submit(command)))
        await asyncio.sleep(0)
    await ledger.until(asyncio.gather(*work))
    assert ledger.kinds(plan)[before:] == ["plan.paused", "plan.resumed"] * 15


@pytest.mark.scenario(2)
async def test_an_owner_that_dies_between_commit_and_answer_is_answered_for(
    ledger: Ledger,
) -> None:
    """The command is done once, and its caller is told what it came to."""
    one, two = await pair(ledger)
    plan = await long(ledger, one, named(two))
    before = len(ledger.kinds(plan))
    two.inbox.answering.clear()
    asked = asyncio.ensure_future(one.router.submit(topup(plan)))
    while len(ledger.kinds(plan)) == before:
        await settle()
        ledger.clock.skip()
    two.freeze()
    answer = await ledger.until(asked)
    assert answer.events == ("budget.topped_up",)
    assert answer.seq == before + 1
    assert ledger.kinds(plan).count("budget.topped_up") == 1
    assert ledger.owner(plan) is one


async def test_a_command_whose_owner_died_first_is_done_by_the_next(ledger: Ledger) -> None:
    one, two = await pair(ledger)
    plan = await long(ledger, one, named(two))
    two.freeze()
    began = ledger.clock.monotonic()
    answer = await ledger.until(one.router.submit(topup(plan)))
    assert answer.events == ("budget.topped_up",)
    assert ledger.clock.monotonic() - began < 10


async def test_a_command_that_nobody_takes_is_given_up_and_withdrawn(ledger: Ledger) -> None:
    one, two = await pair(ledger)
    plan = await long(ledger, one, named(two))
    two.inbox.taking.clear()
    began = ledger.clock.monotonic()
    assert await code(ledger.until(one.router.submit(topup(plan)))) == "ERR_UNAVAILABLE"
    assert 15 <= ledger.clock.monotonic() - began < 16
    two.inbox.taking.set()
    await ledger.passes(5)
    assert "budget.topped_up" not in ledger.kinds(plan)
    assert all(entry.answered is not None for entry in ledger.mail.entries.values())


async def test_a_replica_that_stops_withdraws_what_it_waits_for(ledger: Ledger) -> None:
    one, two = await pair(ledger)
    plan = await long(ledger, one, named(two))
    two.inbox.taking.clear()
    asked = asyncio.ensure_future(code(one.router.submit(topup(plan))))
    await settle()
    await ledger.until(one.router.stop())
    assert await ledger.until(asked) == "ERR_UNAVAILABLE"
    assert all(entry.answered is not None for entry in ledger.mail.entries.values())


async def test_what_a_former_owner_refuses_reaches_nobody(ledger: Ledger) -> None:
    """A process that slept through its lease judges by a state of yesterday."""
    one, two = await pair(ledger)
    name = named(two)
    two.freeze()
    await ledger.passes(10)
    plan = await long(ledger, one, name)
    tenure = two.ownership.serving(shard_of(plan, shards(4)))
    assert tenure is not None
    assert not tenure.held
    two.thaw()
    asked = asyncio.ensure_future(two.router.submit(pause(plan)))
    answer = await ledger.until(asked)
    assert answer.events == ("plan.paused",)


@pytest.mark.scenario(92)
async def test_events_are_seen_on_every_replica_in_order_and_across_owners(
    ledger: Ledger,
) -> None:
    one, two = await pair(ledger)
    plan = await long(ledger, one, named(two))
    seen: dict[str, list[int]] = {"one": [], "two": []}

    async def read(name: str, replica: Replica) -> None:
        async for event in replica.router.subscribe(plan):
            seen[name].append(event.seq)

    readers = [asyncio.create_task(read(*each)) for each in (("one", one), ("two", two))]
    for _ in range(3):
        await ledger.until(one.router.submit(topup(plan)))
    two.freeze()
    await ledger.until(one.router.submit(topup(plan)))
    two.thaw()
    await ledger.until(two.router.submit(topup(plan)))
    await ledger.until(two.plans.cancel(plan, by="me", reason="enough"))
    await ledger.until(asyncio.gather(*readers))
    events = list(range(1, len(ledger.kinds(plan)) + 1))
    assert seen == {"one": events, "two": events}


async def test_a_replica_tells_the_age_of_what_it_verified_longest_ago(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, _ = await pair(ledger)
    first, second = (one.ownership.serving(name) for name in sorted(one.ownership.owned))
    assert first is not None
    assert second is not None
    walks = {first.engine: Verified(3.0, 1, 9, ()), second.engine: None}
    monkeypatch.setattr(Engine, "verified", property(walks.get))
    assert one.router.served.verified_age_s is None, "one shard was never walked over to the end"
    walks[second.engine] = Verified(7.5, 0, 0, ())
    assert one.router.served.verified_age_s == 7.5


@pytest.mark.parametrize("before", [True, False], ids=["before it reads", "while it reads"])
async def test_a_replica_that_waits_for_a_plan_set_aside_elsewhere_is_told_why_it_never_ends(
    ledger: Ledger, *, before: bool
) -> None:
    one, two = await pair(ledger)
    plan = await long(ledger, one, named(two))
    fault = TheoryError("ERR_CHAIN_BROKEN", "event 2 does not match its hash", {"seq": 2})
    tenure = two.ownership.serving(shard_of(plan, shards(4)))
    assert tenure is not None
    if before:
        tenure.engine.set_aside(plan, fault)

    async def read() -> list[int]:
        return [event.seq async for event in one.router.subscribe(plan)]

    waiting = [asyncio.create_task(code(one.router.wait(plan))), asyncio.create_task(code(read()))]
    await ledger.passes(25)
    assert any(waiter.done() for waiter in waiting) == before
    tenure.engine.set_aside(plan, fault)
    assert (one.router.served.aside, two.router.served.aside) == (0, 1)
    told = await ledger.until(asyncio.gather(*waiting))
    assert told == ["ERR_CHAIN_BROKEN"] * 2
    await ledger.passes(1)
    assert one.router._enquiries.faults == {}, "who reads no more keeps no word of it"


async def test_an_owner_that_does_not_answer_ends_no_wait(ledger: Ledger) -> None:
    one, two = await pair(ledger)
    plan = await long(ledger, one, named(two))
    two.inbox.taking.clear()
    waiting = asyncio.create_task(one.router.wait(plan))
    await ledger.passes(60)
    assert not waiting.done()
    two.inbox.taking.set()
    await ledger.until(one.plans.cancel(plan, by="me", reason="enough"))
    assert await ledger.until(waiting) == "cancelled"


async def test_without_a_single_hint_everything_is_only_slower(ledger: Ledger) -> None:
    one, two = await pair(ledger)
    ledger.signals.send = lambda *_: None  # type: ignore[method-assign]
    plan = await long(ledger, one, named(two))

    async def read() -> list[int]:
        return [event.seq async for event in one.router.subscribe(plan)]

    reader = asyncio.create_task(read())
    for _ in range(3):
        await ledger.until(one.router.submit(topup(plan)))
    await ledger.until(one.plans.cancel(plan, by="me", reason="enough"))
    assert await ledger.until(reader) == list(range(1, len(ledger.kinds(plan)) + 1))


async def test_a_command_of_another_version_is_refused_and_blocks_nobody(ledger: Ledger) -> None:
    one, two = await pair(ledger)
    plan = await long(ledger, one, named(two))
    shard = shard_of(plan, shards(4))
    await one.router._inbox.put(
        InboxRow(id="odd", shard=shard, plan=plan, command=b'{"v":"theory.command.v9"}')
    )
    answer = await ledger.until(one.router.submit(topup(plan)))
    assert answer.events == ("budget.topped_up",)
    told = await one.router._inbox.reply("odd")
    assert told is not None
    with pytest.raises(TheoryError, match="another version"):
        outcome(told)


async def test_answered_rows_are_removed_with_what_made_them_happen_once(ledger: Ledger) -> None:
    brief = LeasePace(kept_s=3.0, sweep_s=1.0)
    one, two = await ledger.replica(pace=brief), await ledger.replica(pace=brief)
    await ledger.passes(20)
    plan = await long(ledger, one, named(two))
    await ledger.until(one.router.submit(topup(plan)))
    await ledger.until(one.router.submit(topup(plan), idempotency=row("k")))
    assert len(ledger.mail.entries) >= 2
    assert any(scope == INBOX for scope, _ in ledger.database.requests)
    await ledger.passes(10)
    assert ledger.mail.entries == {}
    assert list(ledger.database.requests) == [("acme me", "k")]


@pytest.mark.parametrize("own", [True, False])
def test_an_outcome_is_read_as_it_was_written(*, own: bool) -> None:
    """Law: `outcome(reply(a)) == a`."""
    answer = Answer("/world/a/p", 7, events=("plan.paused",))
    assert outcome(reply(answer, own=own)) == answer
    error = TheoryError("ERR_BUDGET_EXCEEDED", "no", {"dimension": "tokens", "ask": 3})
    with pytest.raises(TheoryError, match="no") as caught:
        outcome(reply(error, own=own))
    assert (caught.value.code, caught.value.detail) == (error.code, error.detail)
    replayed = Answer("/world/a/p", 0, replayed=b'{"plan":"/world/a/p","seq":7}')
    told = outcome(reply(replayed, own=own))
    assert told == (Answer("/world/a/p", 7) if own else replayed)


@pytest.mark.scenario(4)
async def test_64_schedulers_admit_one_transition_once(ledger: Ledger) -> None:
    """Scenario 4: exactly one winner, and the others write nothing."""
    ledger.shards = 1
    first = await ledger.replica("first", parallel=0)
    ledger.behaviours["long"] = [forever] * 99
    plan = await ledger.until(first.apply("p1", {"a": step("long")}))
    first.freeze()
    many = [Replica(ledger, f"r{number}") for number in range(64)]
    ledger.replicas += many
    ledger.clock.time += 6
    await ledger.until(asyncio.gather(*(one.start() for one in many)))
    await settle()
    kinds = ledger.kinds(plan)
    assert kinds.count("transition.admitted") == kinds.count("budget.reserved") == 1
    assert sum(len(one.ownership.owned) for one in many) == 1
    assert sum(len(one.runs) for one in many) == 1
    first.thaw()
    await ledger.until(ledger.owner(plan).plans.cancel(plan, by="me", reason="enough"))


@pytest.mark.scenario(66)
async def test_200_parallel_reserves_of_a_hundredth_take_a_hundred(ledger: Ledger) -> None:
    """Scenario 66: through several replicas, with not a unit beyond the limit."""
    many = [await ledger.replica() for _ in range(4)]
    started: list[str] = []

    async def hold(run: Run) -> dict[str, object]:
        started.append(run.execution_id)
        return await forever(run)

    ledger.behaviours["hold"] = [hold] * 300
    plan = await ledger.until(many[0].apply("p1", {"z": step("hold")}, budget={"usd_micro": 1000}))
    body = b'{"schema":"v1","params":{"do":"hold"}}'
    await ledger.artifacts.put(body)
    estimate = dict(many[0].registry.current.processor("demo/echo@1").estimate)
    work = [
        many[number % 4].router.submit(
            cmd.ProposeTransition(
                plan=plan,
                by="me",
                proposal=cmd.Proposal(
                    transition=f"t{number}",
                    processor_ref="demo/echo@1",
                    mode="mock",
                    inputs=digest(body),
                    write_prefix=f"/artifacts/outputs/t{number}/{{execution_id}}/",
                    write_set=(SelectorSpec(kind="prefix", path=f"/artifacts/outputs/t{number}/"),),
                    hold={"usd_micro": 10},
                    timeout_ms=1000,
                ),
            )
        )
        for number in range(200)
    ]
    await ledger.until(asyncio.gather(*work))
    await settle()
    tables = ledger.database.plans[plan]
    reserved = tables.balances["usd_micro"]
    assert reserved.reserved + reserved.spent <= 1000
    assert ledger.kinds(plan).count("budget.reserved") == len(started)
    assert (1000 - estimate["usd_micro"]) // 10 + 1 == len(started)
    await ledger.until(many[1].plans.cancel(plan, by="me", reason="enough"))
    await ledger.until(many[2].router.wait(plan))
    ended = tables.balances["usd_micro"]
    assert ended.reserved == 0


async def test_a_reader_hears_of_an_end_that_came_just_before_its_process_took_the_shard(
    ledger: Ledger,
) -> None:
    one, two = await pair(ledger)
    plan = await long(ledger, two, named(two))
    waiting = asyncio.create_task(one.router.wait(plan))
    await ledger.passes(3)
    send = ledger.signals.send
    ledger.signals.send = lambda *topics: send(  # type: ignore[method-assign]
        *(topic for topic in topics if not topic.startswith("plan "))
    )
    command = cmd.CancelPlan(plan=plan, by="me", reason="x")
    cancelling = asyncio.create_task(two.router.submit(command))
    for _ in range(40):
        await settle()
        if cancelling.done() and ledger.kinds(plan)[-1] == "plan.cancelled":
            break
        ledger.clock.skip()
    stopping = asyncio.create_task(two.router.stop())
    await ledger.until(stopping)
    ledger.replicas.remove(two)
    await ledger.passes(30)
    assert await asyncio.wait_for(waiting, 1) == "cancelled"


async def test_a_control_given_to_any_replica_reaches_the_run_at_its_owner(ledger: Ledger) -> None:
    one, two = await pair(ledger)
    plan = await long(ledger, one, named(two))
    (name,) = two.runs

    async def control(op: ControlOp, budget: dict[str, int] | None = None) -> Answer:
        steered = one.plans.control(plan, name, op, by="me", reason="seen", budget=budget)
        return await ledger.until(steered)

    assert (await control("pause")).events == ("execution.controlled",)
    await settle()
    (processors,) = [at for at in two.processors.values() if name in at.runs]
    assert processors.steered == [(name, "pause")]
    assert (await control("pause")).events == ()
    processors.steers = frozenset()
    assert await code(control("resume")) == "ERR_CONFLICT"
    assert await code(control("set_budget", {"cpu_ms": 101})) == "ERR_CONFLICT"
    assert (await control("cancel")).events == ("execution.controlled",)
    assert await ledger.until(one.router.wait(plan)) == "failed"
    assert (await control("cancel")).events == ()
    assert not one.runs
