"""Places for executions: none stays empty while a plan waits, and none wakes more than it must."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from theory_api.domain.tests.shelf import snapshot
from theory_api.scheduler.capacity import Capacity, Pool
from theory_api.scheduler.tests.bench import House, data_of, settle, step
from theory_api.scheduler.tests.processors import Run, forever, well
from theory_api.services.reasons import reasons

ECHO = ("demo/echo@1", "process")


def test_a_place_that_becomes_free_calls_one_plan() -> None:
    capacity, called = Capacity(2), list[str]()
    seats = capacity.join(called.append)
    seats.take("a", *ECHO)
    seats.take("b", *ECHO)
    assert all(seats.crowded(f"p{n}") for n in range(5))
    seats.freed()
    assert called == []
    seats.free("a")
    assert called == ["p0"]
    seats.freed()
    assert called == ["p0", "p1"]


def test_plans_of_a_scheduler_that_left_are_not_called() -> None:
    capacity, called = Capacity(1), list[str]()
    gone, here = capacity.join(called.append), capacity.join(called.append)
    gone.take("a", *ECHO)
    assert gone.crowded("p1")
    assert here.crowded("p2")
    gone.leave()
    assert called == ["p2"]


def test_a_pool_is_full_by_the_executions_of_every_scheduler_and_of_that_adapter_alone() -> None:
    capacity, called = Capacity(9), list[str]()
    one, other = capacity.join(called.append), capacity.join(called.append)
    pool, elsewhere = Pool(*ECHO, 2), Pool("demo/echo@1", "local", 2)
    one.take("a", *ECHO)
    other.take("b", *ECHO)
    assert one.full("p1", pool)
    assert other.full("p2", pool)
    assert not one.full("p1", elsewhere)
    assert not one.full("p1", Pool("demo/strict@1", "process", 1))
    one.freed()
    assert called == []
    other.free("b")
    assert called == ["p1"]
    one.freed()
    assert called == ["p1", "p2"]


def test_whoever_waits_for_a_pool_is_not_called_before_the_process_has_a_place() -> None:
    capacity, called = Capacity(2), list[str]()
    seats = capacity.join(called.append)
    seats.take("a", *ECHO)
    assert seats.full("p1", Pool(*ECHO, 1))
    seats.take("b", "demo/strict@1", "process")
    seats.take("c", "demo/strict@1", "process")
    seats.free("a")
    assert called == []
    seats.free("b")
    assert called == ["p1"]


def test_who_has_waited_longest_is_called_first_whatever_it_waits_for() -> None:
    capacity, called = Capacity(1), list[str]()
    seats = capacity.join(called.append)
    seats.take("a", *ECHO)
    assert seats.crowded("any")
    assert seats.full("pool", Pool(*ECHO, 1))
    seats.free("a")
    assert called == ["any"]


def test_a_plan_that_was_declared_less_waits_longer_and_holds_nobody_up() -> None:
    capacity, called = Capacity(9), list[str]()
    seats = capacity.join(called.append)
    seats.take("a", *ECHO)
    seats.take("b", *ECHO)
    assert seats.full("old", Pool(*ECHO, 1))
    assert seats.full("new", Pool(*ECHO, 2))
    seats.free("a")
    assert called == ["new"]
    seats.free("b")
    assert called == ["new", "old"]


async def test_every_plan_has_its_turn_on_one_place() -> None:
    async with House(parallel=1) as house:
        plans = [await house.apply({"a": step(), "b": step()}, plan=f"p{n}") for n in range(8)]
        for plan in plans:
            assert await house.ended(plan) == "completed"


async def test_a_plan_that_ends_while_it_waits_leaves_its_turn_to_the_next() -> None:
    async with House(parallel=1) as house:
        house.processors.behaviours["long"] = [forever]
        first = await house.apply({"a": step("long")}, plan="p1")
        await settle()
        second = await house.apply({"a": step()}, plan="p2")
        third = await house.apply({"a": step()}, plan="p3")
        await settle()
        await house.plans.cancel(second, by="local", reason="enough")
        await house.plans.cancel(first, by="local", reason="enough")
        assert await house.ended(third) == "completed"


async def test_of_a_processor_no_more_run_at_once_than_it_declares_over_all_plans() -> None:
    async with House(parallel=9, registry=snapshot(concurrency=2)) as house:

        async def slowly(run: Run) -> dict[str, Any]:
            await house.clock.sleep(0.1)
            return await well(run)

        house.processors.behaviours["slow"] = [slowly]
        work = {name: step("slow") for name in "abc"}
        house.processors.shut["mock"] = asyncio.Event()
        plans = [await house.apply(work, plan=f"p{n}") for n in range(4)]
        await settle()
        house.processors.shut["mock"].set()
        for plan in plans:
            assert await house.ended(plan) == "completed"
        assert house.processors.most == 2
        assert len(house.processors.runs) == 12


async def test_a_full_processor_holds_up_no_other_and_why_names_it() -> None:
    async with House(parallel=9, registry=snapshot(concurrency=1)) as house:
        house.processors.behaviours["long"] = [forever]
        other = step(processor_ref="demo/strict@1", inputs={"text": {"$attach": "text"}})
        work = {"a": step("long"), "b": step(), "c": other}
        plan = await house.apply(work, text=b"text")
        await settle()
        assert (await house.statuses(plan))["c"] == "succeeded"
        state = house.engine.state(plan)
        assert state is not None
        found = reasons(state, house.reads, house.disk.artifacts, house.engine.blocked)
        told = {why.transition: why async for why in found}
        assert told["b"].condition == "processor.concurrency"
        assert told["b"].reason == (
            "waits for a place of demo/echo@1 on process, which runs 1 at once"
        )
        assert told["b"].detail == {
            "processor_ref": "demo/echo@1",
            "adapter": "process",
            "most": 1,
        }
        await house.plans.cancel(plan, by="me", reason="enough")
        assert await house.ended(plan) == "cancelled"


async def test_an_execution_that_is_taken_up_by_a_new_owner_has_a_place_of_its_processor() -> None:
    house = House(registry=snapshot(concurrency=1))
    house.processors.behaviours["long"] = [forever]
    async with house:
        plan = await house.apply({"a": step("long"), "b": step()})
        await settle()
        disk = await house.crash()
    registry = snapshot(concurrency=1)
    async with House(disk=disk, registry=registry) as after:
        assert await after.ended(plan) in {"completed", "failed"}
        assert after.processors.most <= 1


@pytest.mark.parametrize("said", [False, True], ids=["nothing", "something"])
async def test_a_run_that_its_runtime_had_no_place_for_is_voided_and_tried_again(
    *, said: bool
) -> None:
    """One of which a runtime said anything has begun, whatever it says of it later."""

    async def refuse(run: Run) -> dict[str, Any]:
        if said:
            await run.frame("Ack", execution_id=run.execution_id, state="running")
        return run.fail("ERR_RATE_LIMITED")

    again = {"max_attempts": 2, "backoff_ms": [200], "jitter_permille": 0}
    registry = snapshot(retry=again | {"retry_on": ["ERR_RATE_LIMITED"]})
    async with House(registry=registry) as house:
        house.processors.behaviours["refused"] = [refuse, well]
        plan = await house.apply({"a": step("refused")})
        assert await house.ended(plan) == "completed"
        kinds = await house.kinds(plan)
        assert kinds.count("budget.voided") == (0 if said else 1)
        assert kinds.count("budget.settled") == (2 if said else 1)
        (retried,) = await data_of(house, plan, "transition.retried")
        assert retried["error"]["code"] == "ERR_RATE_LIMITED"
