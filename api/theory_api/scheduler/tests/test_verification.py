"""Going over all ledgers: what somebody changed is found, said, and stops one plan alone."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from theory_api.ports.truth import PlanRow
from theory_api.scheduler.tests.bench import Clock, House, settle, step
from theory_api.scheduler.verification import PAGE, REST_S, Verification, in_a_thread
from theory_core import Report, TheoryError, verify


async def judge(lines: list[bytes], before: tuple[int, str] | None) -> Report:
    """At once, so that the test's clock alone tells time."""
    return verify(lines, expect_prev=before)


async def walked(house: House, **given: object) -> tuple[Verification, dict[str, TheoryError]]:
    """One walk over all ledgers."""
    found: dict[str, TheoryError] = {}
    made = Verification(house.reads, house.clock, judge=judge, **given)  # type: ignore[arg-type]

    def on_fault(plan: str, fault: TheoryError) -> None:
        found[plan] = fault

    walk = asyncio.create_task(made.run(on_fault))
    while made.newest is None and not walk.done():
        await settle()
        house.clock.skip()
    walk.cancel()
    await asyncio.wait({walk})
    return made, found


async def finished(house: House, *names: str) -> list[str]:
    plans = []
    for name in names:
        plan = await house.apply({"a": step(), "b": step(depends_on=["a"])}, plan=name)
        assert await house.ended(plan) == "completed"
        plans.append(plan)
    return plans


async def test_sound_ledgers_are_counted_and_their_verdict_grows_old() -> None:
    async with House() as house:
        await finished(house, "p1", "p2")
        made, found = await walked(house)
        assert found == {}
        newest = made.newest
        assert newest is not None
        events = sum(len(tables.events) for tables in house.disk.database.plans.values())
        assert (newest.plans, newest.events, newest.faults) == (2, events, ())
        house.clock.time += 90
        again = made.newest
        assert again is not None
        assert again.age_s == newest.age_s + 90


@pytest.mark.scenario(21)
async def test_an_edited_event_of_a_finished_plan_is_found_and_the_plan_set_aside() -> None:
    async with House() as house:
        plan, other = await finished(house, "p1", "p2")
        events = house.disk.database.plans[plan].events
        events[4] = replace(events[4], body=events[4].body.replace(b'"seq":5', b'"seq": 5'))
        made, found = await walked(house)
        assert list(found) == [plan]
        assert (found[plan].code, found[plan].detail) == (
            "ERR_CHAIN_BROKEN",
            {"plan": plan, "seq": 5},
        )
        assert made.newest is not None
        assert (made.newest.plans, made.newest.faults) == (2, (plan,))
        house.engine.set_aside(plan, found[plan])
        with pytest.raises(TheoryError, match="does not verify"):
            await house.plans.cancel(plan, by="me", reason="enough")
        assert list(house.engine.aside) == [plan]
        with pytest.raises(TheoryError) as caught:
            await house.plans.cancel(other, by="me", reason="enough")
        assert caught.value.code == "ERR_CONFLICT"


@pytest.mark.scenario(24)
@pytest.mark.parametrize("cut", [1, 200])
async def test_a_ledger_without_its_tail_does_not_reach_its_head(cut: int) -> None:
    async with House() as house:
        (plan,) = await finished(house, "p1")
        events = house.disk.database.plans[plan].events
        row = await house.reads.plan(plan)

        async def plans(**given: object) -> list[PlanRow]:
            return [] if given["after"] else [row]

        house.reads.plans = plans  # type: ignore[method-assign]
        del events[-cut:]
        _, found = await walked(house)
        assert found[plan].detail["seq"] == len(events) + 1


async def test_a_plan_of_somebody_else_is_left_to_them() -> None:
    async with House() as house:
        plan, _ = await finished(house, "p1", "p2")
        made, _ = await walked(house, mine=lambda name: name == plan)
        assert made.newest is not None
        assert made.newest.plans == 1


async def test_a_store_that_is_away_ends_a_walk_without_a_verdict_and_the_next_has_one() -> None:
    async with House() as house:
        await finished(house, "p1")
        whole, house.reads.events = house.reads.events, away  # type: ignore[method-assign,assignment]
        made = Verification(house.reads, house.clock, judge=judge)
        walk = asyncio.create_task(made.run(lambda *_: None))
        await settle()
        assert made.newest is None
        house.reads.events = whole  # type: ignore[method-assign]
        began = house.clock.time
        while made.newest is None:
            await settle()
            house.clock.skip()
        assert house.clock.time - began >= REST_S
        walk.cancel()
        await asyncio.wait({walk})


async def away(*_: object, **__: object) -> list[object]:
    """No answer."""
    raise TheoryError("ERR_UNAVAILABLE", "the store is away")


async def test_pages_are_verified_one_on_top_of_the_other_in_a_thread() -> None:
    async with House() as house:
        work = {f"t{n}": step() for n in range(PAGE // 4)}
        plan = await house.apply(work, budget={"usd_micro": 10**6, "cpu_ms": 10**7})
        assert await house.ended(plan) == "completed"
        assert len(house.disk.database.plans[plan].events) > 2 * PAGE

        class Quick(Clock):
            async def sleep(self, seconds: float) -> None:
                del seconds
                await asyncio.sleep(0)

        made = Verification(house.reads, Quick(), judge=in_a_thread)
        walk = asyncio.create_task(made.run(lambda *_: None))
        async with asyncio.timeout(60):
            while made.newest is None:  # noqa: ASYNC110 - nobody tells the end of a walk
                await asyncio.sleep(0.01)
        walk.cancel()
        await asyncio.wait({walk})
        assert made.newest.faults == ()


async def test_an_engine_tells_what_its_walk_found() -> None:
    async with House() as house:
        assert house.engine.verified is None
        assert house.engine.served.verified_age_s is None
        await finished(house, "p1")
        made, _ = await walked(house)
        house.engine._verification = made
        found = house.engine.verified
        assert found is not None
        assert found.plans == 1
        assert house.engine.served.verified_age_s is not None
