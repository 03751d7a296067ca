"""Several schedulers share the shards of one ledger, and lose them only to one another."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from theory_api.domain import commands as cmd
from theory_api.ports.truth import Append, IdempotencyRow
from theory_api.scheduler.engine import Engine
from theory_api.scheduler.shards import shard_of, shards
from theory_api.scheduler.tests.bench import settle, step
from theory_api.scheduler.tests.processors import Run, forever, well
from theory_api.scheduler.tests.replicas import Ledger, Replica, code
from theory_core import TheoryError


@pytest.fixture
async def ledger() -> AsyncIterator[Ledger]:
    made = Ledger()
    yield made
    await made.close()


def plans(shard: str, count: int = 1) -> list[str]:
    """Names of plans that live on a shard of four."""
    found: list[str] = []
    number = 0
    while len(found) < count:
        number += 1
        if shard_of(f"/world/acme/p{number}", shards(4)) == shard:
            found.append(f"p{number}")
    return found


async def patient(run: Run) -> dict[str, Any]:
    """Succeed once told to."""
    await run.stopped.wait()
    return await well(run)


def everything(ledger: Ledger) -> list[str]:
    return sorted(name for one in ledger.replicas for name in one.ownership.owned)


async def test_the_first_scheduler_owns_every_shard(ledger: Ledger) -> None:
    one = await ledger.replica()
    assert one.ownership.owned == ("s0", "s1", "s2", "s3")


async def test_shards_are_shared_among_those_that_are_alive(ledger: Ledger) -> None:
    for _ in range(4):
        await ledger.replica()
    await ledger.passes(60)
    assert everything(ledger) == ["s0", "s1", "s2", "s3"]
    assert [len(one.ownership.owned) for one in ledger.replicas] == [1, 1, 1, 1]


async def test_a_shard_on_which_something_runs_is_not_handed_over(ledger: Ledger) -> None:
    one = await ledger.replica()
    ledger.behaviours["long"] = [patient] * 4
    for shard in shards(4):
        await ledger.until(one.apply(plans(shard)[0], {"a": step("long")}))
    await settle()
    two = await ledger.replica()
    await ledger.passes(60)
    assert len(one.ownership.owned) == 4
    for run in [run for held in one.processors.values() for run in held.runs.values()][:3]:
        run.stopped.set()
    await ledger.passes(60)
    assert (len(one.ownership.owned), len(two.ownership.owned)) == (2, 2)
    assert two.runs == set()


async def test_who_leaves_in_order_is_followed_at_once(ledger: Ledger) -> None:
    one = await ledger.replica()
    two = await ledger.replica()
    await ledger.passes(60)
    began = ledger.clock.monotonic()
    await ledger.until(one.router.stop())
    while len(two.ownership.owned) < 4:
        await settle()
        ledger.clock.skip()
    assert ledger.clock.monotonic() - began < 1.5


async def _killed(ledger: Ledger, victim: Replica) -> float:
    """Seconds until everything that a dead process owned is served by others."""
    victim.freeze()
    began = ledger.clock.monotonic()
    others = [one for one in ledger.replicas if one is not victim]
    while sum(len(one.ownership.owned) for one in others) < ledger.shards:
        await settle()
        ledger.clock.skip()
    return ledger.clock.monotonic() - began


async def test_the_shards_of_a_dead_process_are_served_again_within_ten_seconds(
    ledger: Ledger,
) -> None:
    one, two, three = [await ledger.replica() for _ in range(3)]
    await ledger.passes(60)
    assert await _killed(ledger, one) < 8
    assert len(two.ownership.owned) == len(three.ownership.owned) == 2


@pytest.mark.scenario(6)
async def test_a_process_that_wakes_after_its_lease_commits_nothing(ledger: Ledger) -> None:
    """Its epoch is over: what it had decided is dropped, and its shards are somebody else's."""
    one = await ledger.replica()
    two = await ledger.replica(resident=True)
    await ledger.passes(60)
    shard = one.ownership.owned[0]
    name = plans(shard)[0]
    await ledger.until(one.apply(name, {"a": step(depends_on=[])}))
    await ledger.passes(5)
    names = plans(shard, 3)
    ledger.behaviours["long"] = [forever] * 9
    plan = await ledger.until(one.apply(names[1], {"a": step("long")}))
    await settle()
    one.freeze()
    asked = asyncio.ensure_future(
        one.router.submit(cmd.TopUp(plan=plan, by="me", amount={"usd_micro": 1}))
    )
    await ledger.passes(60)
    assert shard in two.ownership.owned
    before = ledger.kinds(plan)
    one.thaw()
    answer = await ledger.until(asked)
    assert ledger.kinds(plan).count("budget.topped_up") == 1
    assert answer.events == ("budget.topped_up",)
    assert ledger.kinds(plan)[: len(before)] == before
    await ledger.passes(5)
    assert shard not in one.ownership.owned
    assert ledger.kinds(plan).count("execution.orphaned") == 1


async def test_a_process_that_slept_between_its_commit_and_the_start_starts_nothing(
    ledger: Ledger,
) -> None:
    """Its successor found nothing of the execution and voided it: nobody would pay for it."""
    one = await ledger.replica()
    two = await ledger.replica()
    await ledger.passes(60)
    shard, append = one.ownership.owned[0], one.truth.append

    async def sleeping(
        batch: Sequence[Append],
        *,
        shard: str,
        epoch: int,
        idempotency: Sequence[IdempotencyRow] = (),
    ) -> None:
        await append(batch, shard=shard, epoch=epoch, idempotency=idempotency)
        if any(event.kind == "execution.started" for share in batch for event in share.events):
            one.freeze()
            await one.machine.going.wait()

    one.truth.append = sleeping  # type: ignore[method-assign]
    ledger.behaviours["long"] = [patient] * 9
    plan = await ledger.until(one.apply(plans(shard)[0], {"a": step("long")}))
    await ledger.passes(20)
    assert ledger.owner(plan) is two
    assert ledger.kinds(plan).count("budget.voided") == 1
    one.thaw()
    await ledger.passes(20)
    assert one.runs == set()
    assert len(two.runs) == 1


@pytest.mark.scenario(5)
async def test_who_cannot_hear_the_store_stops_what_runs_before_others_begin(
    ledger: Ledger,
) -> None:
    one = await ledger.replica()
    two = await ledger.replica()
    await ledger.passes(60)
    shard = one.ownership.owned[0]
    ledger.behaviours["long"] = [forever] * 9
    plan = await ledger.until(one.apply(plans(shard)[0], {"a": step("long")}))
    await settle()
    (ident,) = one.runs
    one.cut()
    await ledger.passes(7)
    assert one.ownership.serving(shard) is None
    await ledger.passes(5)
    assert ledger.owner(plan) is two
    assert ident not in two.runs
    assert ledger.kinds(plan).count("execution.started") == 2


async def test_a_shard_that_cannot_be_taken_up_here_is_served_by_another(ledger: Ledger) -> None:
    one = Replica(ledger, "one")
    ledger.replicas.append(one)
    made, attempts = one.engine, list[float]()

    def broken(name: str) -> Engine:
        engine = made(name)
        if name == "s2":
            attempts.append(ledger.clock.monotonic())
            engine._context.adapters["process"].remembered = lost  # type: ignore[method-assign]
        return engine

    async def lost() -> tuple[str, ...]:
        raise TheoryError("ERR_CHAIN_BROKEN", "broken", {})

    one.ownership._engine = broken
    await ledger.until(one.start())
    assert one.ownership.owned == ("s0", "s1", "s3")
    assert one.ownership.faults == {"s2": "ERR_CHAIN_BROKEN"}
    await ledger.passes(30)
    pauses = [after - before for before, after in itertools.pairwise(attempts)]
    assert len(pauses) >= 3
    assert all(later > earlier * 1.3 for earlier, later in itertools.pairwise(pauses))
    two = await ledger.replica("two")
    await ledger.passes(60)
    assert "s2" in two.ownership.owned


async def test_a_renewal_that_breaks_ends_the_tenure_and_not_the_process(ledger: Ledger) -> None:
    one = await ledger.replica()
    renew = one.truth.renew

    async def broken(shard: str, epoch: int) -> None:
        if shard == "s1" and epoch == 1:
            raise ValueError(shard)
        await renew(shard, epoch)

    one.truth.renew = broken  # type: ignore[method-assign]
    await ledger.passes(2.5)
    assert one.ownership.serving("s1") is None
    assert one.ownership.faults == {"s1": "ERR_INTERNAL"}
    await ledger.passes(5)
    assert one.ownership.owned == ("s0", "s1", "s2", "s3")
    assert one.router.fault is None


async def test_another_number_of_shards_is_refused(ledger: Ledger) -> None:
    await ledger.replica()
    other = Replica(ledger, "other")
    assert await code(other.members.establish(shards(8), home="here")) == "ERR_CONFLICT"
    assert await code(other.members.establish(shards(4), home="there")) == "ERR_CONFLICT"
    assert await code(other.members.establish(shards(4), home="here")) == ""


async def test_a_visitor_takes_nothing_while_residents_are_there(ledger: Ledger) -> None:
    resident = await ledger.replica()
    visitor = await ledger.replica(resident=False)
    await ledger.passes(30)
    assert not visitor.ownership.owned
    plan = await ledger.until(visitor.apply("p1", {"a": step()}))
    assert await ledger.until(visitor.router.wait(plan)) == "completed"
    assert resident.runs
    assert not visitor.runs


async def test_a_visitor_alone_serves_everything_and_leaves_it(ledger: Ledger) -> None:
    visitor = await ledger.replica(resident=False)
    assert len(visitor.ownership.owned) == 4
    resident = await ledger.replica()
    await ledger.passes(30)
    assert len(resident.ownership.owned) == 4
    assert not visitor.ownership.owned
