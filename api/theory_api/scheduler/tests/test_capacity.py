"""Places for executions: none stays empty while a plan waits, and none wakes more than it must."""

from __future__ import annotations

from theory_api.scheduler.capacity import Capacity
from theory_api.scheduler.tests.bench import House, settle, step
from theory_api.scheduler.tests.processors import forever


def test_a_place_that_becomes_free_calls_one_plan() -> None:
    capacity, running, called = Capacity(2), {"a", "b"}, list[str]()
    seats = capacity.join(running, called.append)
    assert all(seats.crowded(f"p{n}") for n in range(5))
    seats.freed()
    assert called == []
    running.discard("a")
    seats.freed()
    assert called == ["p0"]
    seats.freed()
    assert called == ["p0", "p1"]


def test_plans_of_a_scheduler_that_left_are_not_called() -> None:
    capacity, called = Capacity(1), list[str]()
    gone, here = capacity.join({"a"}, called.append), capacity.join(set(), called.append)
    assert gone.crowded("p1")
    assert here.crowded("p2")
    gone.leave()
    assert called == ["p2"]


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
