"""Control of a run that goes on: stopped for good, standing still, going on, allowed less."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from theory_api.domain.tests.shelf import snapshot
from theory_api.domain.values import ControlOp
from theory_api.ports.adapter import Standing
from theory_api.scheduler.tests.bench import House, balances, data_of, settle, step
from theory_api.scheduler.tests.processors import Run, forever
from theory_core import TheoryError

AGAIN = {"max_attempts": 9, "backoff_ms": [1], "jitter_permille": 0}
RETRIES = AGAIN | {"retry_on": ["ERR_CANCELLED", "ERR_ORPHANED", "ERR_BUDGET_EXCEEDED"]}


async def stubborn(run: Run) -> dict[str, Any]:
    """Go on whatever it is told."""
    await asyncio.get_running_loop().create_future()
    return run.fail()


async def running(house: House, **steps: Any) -> tuple[str, str]:  # noqa: ANN401 - a document
    """A plan whose step `a` goes on, and the name of its execution."""
    house.processors.behaviours.setdefault("long", [forever])
    plan = await house.apply({"a": step("long")} | steps)
    await settle()
    (name,) = [one for one, run in house.processors.runs.items() if run.params.get("do") == "long"]
    return plan, name


async def control(
    house: House, plan: str, name: str, op: ControlOp, budget: dict[str, int] | None = None
) -> tuple[str, ...]:
    answer = await house.plans.control(plan, name, op, by="me", reason="seen", budget=budget)
    await settle()
    return answer.events


async def pass_time(house: House, seconds: float) -> None:
    until = house.clock.time + seconds
    while house.clock.time < until:
        await settle()
        assert house.clock.skip()
    await settle()


async def test_a_cancelled_execution_stops_for_good_and_its_plan_goes_on() -> None:
    async with House(registry=snapshot(retry=RETRIES)) as house:
        plan, name = await running(house, b=step(depends_on=["a"]), c=step(), d=step("slow"))
        assert await control(house, plan, name, "cancel") == ("execution.controlled",)
        assert await house.ended(plan) == "failed"
        statuses = await house.statuses(plan)
        assert statuses == {"a": "cancelled", "b": "skipped", "c": "succeeded", "d": "succeeded"}
        (told,) = await data_of(house, plan, "execution.controlled")
        assert (told["op"], told["by"], told["execution_id"]) == ("cancel", "me", name)
        assert "transition.retried" not in await house.kinds(plan)
        assert (await balances(house, plan))["usd_micro"][0] == 0
        assert await control(house, plan, name, "cancel") == ()


async def test_a_cancel_that_nobody_confirms_keeps_the_hold_and_ends_in_no_retry() -> None:
    async with House(registry=snapshot(retry=RETRIES)) as house:
        house.processors.behaviours["long"] = [stubborn]
        plan, name = await running(house)
        house.processors.unstoppable.add(name)
        await control(house, plan, name, "cancel")
        await pass_time(house, 2 * house.context.pace.stop_grace_s)
        assert "execution.orphaned" in await house.kinds(plan)
        assert (await balances(house, plan))["usd_micro"] == (10, 0)
        house.processors.unstoppable.clear()
        assert await house.ended(plan) == "failed"
        assert await house.statuses(plan) == {"a": "cancelled"}


async def test_a_cancel_outlives_the_owner_that_was_told_of_it() -> None:
    """Law: what was decided is carried out by whoever owns the plan then."""
    first = House(registry=snapshot(retry=RETRIES))
    await first.engine.start()
    first.processors.behaviours["long"] = [stubborn]
    plan, name = await running(first)
    first.processors.unstoppable.add(name)
    await control(first, plan, name, "cancel")
    disk = await first.crash()
    house = House(disk=disk, registry=snapshot(retry=RETRIES))
    house.processors.standings[name] = Standing.GONE
    await house.engine.start()
    assert await house.ended(plan) == "failed"
    assert await house.statuses(plan) == {"a": "cancelled"}
    assert house.processors.runs == {}
    await house.engine.stop()


@pytest.mark.parametrize("op", ["cancel", "pause", "resume"])
async def test_what_is_taken_up_by_a_new_owner_does_what_was_wanted_before(op: ControlOp) -> None:
    first = House(registry=snapshot(retry=RETRIES))
    await first.engine.start()
    first.processors.behaviours["long"] = [stubborn]
    plan, name = await running(first)
    first.processors.unstoppable.add(name)
    if op == "resume":
        await control(first, plan, name, "pause")
        first.processors.unsteerable += [TheoryError("ERR_UNAVAILABLE", "away", {})] * 99
    await control(first, plan, name, op)
    disk = await first.crash()
    house = House(disk=disk, registry=snapshot(retry=RETRIES))
    house.processors.behaviours["long"] = [forever]
    house.processors.standings[name] = Standing.ATTACHABLE
    await house.engine.start()
    await settle()
    if op != "cancel":
        assert house.processors.steered == [(name, op)]
        await control(house, plan, name, "cancel")
    assert await house.ended(plan) == "failed"
    assert await house.statuses(plan) == {"a": "cancelled"}
    await house.engine.stop()


async def test_a_pause_stops_the_deadline_and_its_usage_is_metered_all_the_same() -> None:
    async with House(registry=snapshot(retry=AGAIN | {"retry_on": []})) as house:
        plan, name = await running(house)
        run, pace = house.processors.runs[name], house.context.pace
        bound = run.payload["timeout_s"] + pace.overtime_s
        await control(house, plan, name, "pause")
        assert house.processors.steered == [(name, "pause")]
        assert (await house.reads.execution(name, plan=plan)).status == "paused"
        await pass_time(house, 3 * bound)
        await control(house, plan, name, "resume")
        assert house.processors.steered[-1] == (name, "resume")
        assert (await house.reads.execution(name, plan=plan)).status == "running"
        await pass_time(house, bound - 5)
        assert "execution.failed" not in await house.kinds(plan)
        await control(house, plan, name, "pause")
        run.usage["cpu_ms"] = 150
        assert await house.ended(plan) == "failed"
        (failed,) = await data_of(house, plan, "execution.failed")
        assert failed["error"]["detail"] == {"dimension": "cpu_ms", "hold": 100}


async def test_the_rest_of_the_time_runs_out_once_a_run_goes_on() -> None:
    async with House(registry=snapshot(retry=AGAIN | {"retry_on": []})) as house:
        plan, name = await running(house)
        bound = house.processors.runs[name].payload["timeout_s"] + house.context.pace.overtime_s
        await control(house, plan, name, "pause")
        await pass_time(house, bound)
        await control(house, plan, name, "resume")
        began = house.clock.time
        assert await house.ended(plan) == "failed"
        (failed,) = await data_of(house, plan, "execution.failed")
        assert failed["error"]["code"] == "ERR_TIMEOUT"
        assert bound - 5 <= house.clock.time - began <= bound + 5


async def test_a_pause_that_finds_no_run_yet_is_told_again_until_it_is_taken() -> None:
    async with House() as house:
        plan, name = await running(house)
        away = TheoryError("ERR_UNAVAILABLE", "not there yet", {})
        house.processors.unsteerable += [away, away, away]
        await control(house, plan, name, "pause")
        assert house.processors.steered == []
        await pass_time(house, 5)
        assert house.processors.steered == [(name, "pause")]
        house.processors.unsteerable += [away] * 50
        await control(house, plan, name, "resume")
        await control(house, plan, name, "pause")
        await pass_time(house, 1)
        assert house.processors.steered == [(name, "pause")]
        del house.processors.unsteerable[:]
        await pass_time(house, 5)
        assert house.processors.steered == [(name, "pause")] * 2
        await control(house, plan, name, "cancel")
        assert await house.ended(plan) == "failed"


async def test_an_adapter_that_cannot_steer_refuses_before_anything_is_written() -> None:
    async with House() as house:
        plan, name = await running(house)
        house.processors.steers = frozenset()
        with pytest.raises(TheoryError, match="cannot have a run stand still") as caught:
            await control(house, plan, name, "pause")
        assert caught.value.code == "ERR_CONFLICT"
        assert "execution.controlled" not in await house.kinds(plan)
        assert await control(house, plan, name, "set_budget", {"cpu_ms": 50})
        assert await control(house, plan, name, "cancel")


@pytest.mark.parametrize("stated", [True, False])
async def test_a_lower_budget_stops_what_used_more_and_the_hold_stays(stated: bool) -> None:  # noqa: FBT001
    async def thrifty(run: Run) -> dict[str, Any]:
        await run.frame("Event", phase="work", usage={"usd_micro": 6})
        return await forever(run)

    async with House(registry=snapshot(retry=AGAIN | {"retry_on": []})) as house:
        house.processors.behaviours["long"] = [thrifty]
        plan, name = await running(house)
        house.processors.runs[name].usage["cpu_ms"] = 60
        await pass_time(house, 1)
        assert "execution.failed" not in await house.kinds(plan)
        lower = {"usd_micro": 5} if stated else {"cpu_ms": 50}
        await control(house, plan, name, "set_budget", lower)
        assert (await balances(house, plan))["usd_micro"] == (10, 0)
        assert await house.ended(plan) == "failed"
        (failed,) = await data_of(house, plan, "execution.failed")
        ((dimension, most),) = lower.items()
        assert failed["error"]["code"] == "ERR_BUDGET_EXCEEDED"
        assert failed["error"]["detail"] == {"dimension": dimension, "budget": most}
        (settled,) = await data_of(house, plan, "budget.settled")
        assert settled["hold"]["cpu_ms"] == 100
        assert settled["actual"]["cpu_ms"] == 60
        assert "budget.breached" not in await house.kinds(plan)
