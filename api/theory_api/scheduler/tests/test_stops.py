"""What is stopped: cancelled plans, runs beyond their hold, runs that nobody meters."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import pytest

from theory_api.domain.tests.shelf import snapshot
from theory_api.ports.adapter import Standing
from theory_api.scheduler.tests.bench import (
    Disk,
    House,
    balances,
    data_of,
    settle,
    step,
    until,
)
from theory_api.scheduler.tests.processors import Run, forever
from theory_core import TheoryError


async def test_a_cancelled_plan_waits_until_what_runs_has_stopped() -> None:
    async with House() as house:
        house.processors.behaviours["long"] = [forever]
        plan = await house.apply({"a": step("long"), "b": step(depends_on=["a"])})
        await settle()
        assert house.processors.busy == 1
        await house.plans.cancel(plan, by="me", reason="enough")
        assert await house.ended(plan) == "cancelled"
        assert await house.statuses(plan) == {"a": "cancelled", "b": "cancelled"}
        assert (await balances(house, plan))["usd_micro"] == (0, 10)
        assert "execution.cancelled" in await house.kinds(plan)


async def test_a_stop_reaches_an_adapter_that_had_not_started_yet() -> None:
    async with House() as house:
        house.processors.behaviours["long"] = [forever]
        house.processors.door.clear()
        plan = await house.apply({"a": step("long")})
        await settle()
        await house.plans.cancel(plan, by="me", reason="enough")
        await settle()
        assert house.processors.runs == {}
        assert len(house.processors.cancelled) == 1
        house.processors.door.set()
        assert await house.ended(plan) == "cancelled"


async def test_a_plan_cancelled_before_the_call_is_never_called_and_pays_nothing() -> None:
    async with House() as house:
        house.engine._runner.entitled = lambda: False  # type: ignore[union-attr]
        plan = await house.apply({"a": step()})
        await settle()
        assert "execution.started" in await house.kinds(plan)
        await house.plans.cancel(plan, by="me", reason="enough")
        house.engine._runner.entitled = lambda: True  # type: ignore[union-attr]
        assert await house.ended(plan) == "cancelled"
        assert house.processors.runs == {}
        assert "budget.voided" in await house.kinds(plan)
        assert "budget.settled" not in await house.kinds(plan)
        assert (await balances(house, plan))["usd_micro"] == (0, 0)


async def test_work_that_goes_on_elsewhere_is_called_though_its_plan_is_cancelled() -> None:
    first = House()
    await first.engine.start()
    first.processors.behaviours["long"] = [forever]
    plan = await first.apply({"a": step("long")})
    await settle()
    (name,) = first.processors.runs
    disk = await first.crash()
    house = House(disk=disk)
    house.processors.behaviours["long"] = [forever]
    house.processors.standings[name] = Standing.ATTACHABLE
    house.engine.entitled = lambda: False
    starting = asyncio.ensure_future(house.engine.start())
    await until(house.clock, starting)
    await house.plans.cancel(plan, by="me", reason="enough")
    await settle()
    house.engine._runner.entitled = lambda: True  # type: ignore[union-attr]
    assert await house.ended(plan) == "cancelled"
    assert set(house.processors.runs) == {name}
    assert "budget.settled" in await house.kinds(plan)
    await house.engine.stop()


@pytest.mark.scenario(67)
async def test_a_run_that_passes_its_hold_is_stopped_and_pays_what_was_measured() -> None:
    async def hungry(run: Run) -> dict[str, Any]:
        run.usage["cpu_ms"] = 150
        return await forever(run)

    async with House() as house:
        house.processors.behaviours["hungry"] = [hungry]
        plan = await house.apply({"a": step("hungry")})
        assert await house.ended(plan) == "failed"
        (failed,) = await data_of(house, plan, "execution.failed")
        assert failed["error"]["code"] == "ERR_BUDGET_EXCEEDED"
        assert failed["error"]["detail"] == {"dimension": "cpu_ms", "hold": 100}
        (settled,) = await data_of(house, plan, "budget.settled")
        assert settled["actual"]["cpu_ms"] == 150
        assert settled["basis"]["cpu_ms"] == "measured"
        (breached,) = await data_of(house, plan, "budget.breached")
        assert breached["excess"] == {"cpu_ms": 50}


@pytest.mark.scenario(67)
async def test_usage_that_a_run_states_beyond_its_hold_stops_it_and_is_booked() -> None:
    async def dear(run: Run) -> dict[str, Any]:
        await run.frame("Event", phase="thinking", progress=0.5, usage={"usd_micro": 8})
        await run.frame("Event", phase="thinking", usage={"usd_micro": 12})
        return await forever(run)

    async with House() as house:
        house.processors.behaviours["dear"] = [dear]
        plan = await house.apply({"a": step("dear")})
        assert await house.ended(plan) == "failed"
        (settled,) = await data_of(house, plan, "budget.settled")
        assert settled["actual"]["usd_micro"] == 12
        assert [notice.progress for notice in house.notices if notice.phase == "thinking"] == [
            0.5,
            None,
        ]


async def test_a_meter_that_fails_stops_the_engine_and_its_run() -> None:
    async def broken(run: Run) -> dict[str, Any]:
        run.usage["cpu_ms"] = "many"  # type: ignore[assignment]
        return await forever(run)

    house = House()
    await house.engine.start()
    house.processors.behaviours["broken"] = [broken]
    plan = await house.apply({"a": step("broken")})
    with pytest.raises(TheoryError) as caught:
        await house.ended(plan)
    assert caught.value.code == "ERR_INTERNAL"
    assert house.processors.busy == 0
    await house.engine.stop()


@pytest.mark.scenario(15)
async def test_a_drained_run_settles_with_what_it_used_and_counts_for_no_policy() -> None:
    retry = {"backoff_ms": [200], "jitter_permille": 0, "retry_on": ["ERR_ORPHANED"]}
    registry = snapshot(retry={**retry, "max_attempts": 1})
    disk: Disk | None = None
    used: list[str] = []
    plan = ""
    for _ in range(3):
        house = House(disk=disk, registry=registry)
        await house.engine.start()
        house.processors.behaviours["long"] = [forever]
        if not plan:
            plan = await house.apply({"a": step("long")})
        runs = house.processors.runs
        while not runs:
            await settle()
            house.clock.skip()
        await until(house.clock, house.engine.drain())
        (settled,) = (await data_of(house, plan, "budget.settled"))[len(used) :]
        used.append(settled["basis"]["cpu_ms"])
        assert (await house.kinds(plan))[-1] == "transition.retried"
        disk = await house.crash()
    assert used == ["measured"] * 3
    async with House(disk=disk, registry=registry) as last:
        assert await last.ended(plan) == "completed"


@pytest.mark.parametrize(
    ("raised", "code"),
    [
        (ValueError("no"), "ERR_INTERNAL"),
        (TheoryError("ERR_DOCKER", "no", {}), "ERR_ADAPTER_INVOCATION"),
    ],
)
async def test_an_adapter_that_raises_ends_its_own_attempt_and_nothing_else(
    raised: Exception, code: str
) -> None:
    async def broken(_run: Run) -> dict[str, Any]:
        raise raised

    async with House() as house:
        house.processors.behaviours["broken"] = [broken]
        plan = await house.apply({"a": step("broken"), "b": step()}, plan="p1")
        assert await house.ended(plan) == "failed"
        assert await house.statuses(plan) == {"a": "failed", "b": "succeeded"}
        (failed,) = await data_of(house, plan, "execution.failed")
        assert failed["error"]["code"] == code
        settled = await data_of(house, plan, "budget.settled")
        (mine,) = [one for one in settled if one["transition"] == "a"]
        assert (mine["actual"]["usd_micro"], mine["basis"]["usd_micro"]) == (10, "hold")
        assert len(house.processors.cancelled) == 1, "whatever it left is stopped"
        assert house.engine.fault is None


async def test_what_an_adapter_that_raised_left_running_keeps_its_hold() -> None:
    async def broken(run: Run) -> dict[str, Any]:
        run.adapter.unstoppable.add(run.execution_id)
        raise ValueError

    async with House(registry=snapshot(retry=ONCE)) as house:
        house.processors.behaviours["broken"] = [broken]
        plan = await house.apply({"a": step("broken")})
        await settle()
        assert (await house.kinds(plan))[-1] == "execution.orphaned"
        assert (await balances(house, plan))["usd_micro"] == (10, 0)
        house.processors.unstoppable.clear()
        assert await house.ended(plan) == "failed"


async def test_an_adapter_that_cannot_be_closed_keeps_no_shard(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def stuck() -> None:
        raise OSError

    house = House()
    await house.engine.start()
    monkeypatch.setattr(house.processors, "close", stuck)
    await house.engine.stop()
    assert house.disk.database.shards["s"].owner is None
    assert isinstance(house.engine.fault, OSError)


async def hanging(run: Run) -> dict[str, Any]:
    """Never return, and not even be cancelled at once."""
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.get_running_loop().create_future()
    await asyncio.get_running_loop().create_future()
    return run.fail()


async def test_an_adapter_that_never_returns_is_stopped_from_outside_when_its_time_is_over() -> (
    None
):
    async with House(registry=snapshot(retry=ONCE)) as house:
        house.processors.behaviours["hang"] = [hanging]
        plan = await house.apply({"a": step("hang"), "b": step()})
        began = house.clock.time
        assert await house.ended(plan) == "failed"
        pace, job = house.context.pace, next(iter(house.processors.runs.values()))
        bound = job.payload["timeout_s"] + pace.overtime_s
        waited = house.clock.time - began
        assert bound <= waited <= bound + 2 * pace.stop_grace_s + 1
        (failed,) = await data_of(house, plan, "execution.failed")
        assert failed["error"]["code"] == "ERR_TIMEOUT"
        assert len(house.processors.cancelled) > 1
        assert (await balances(house, plan))["usd_micro"][0] == 0
        assert await house.statuses(plan) == {"a": "failed", "b": "succeeded"}


ONCE = {"max_attempts": 1, "backoff_ms": [1], "jitter_permille": 0, "retry_on": []}


@pytest.mark.scenario(69)
async def test_a_stop_that_nobody_confirms_ends_as_an_orphan_and_its_hold_stays() -> None:
    async with House(registry=snapshot(retry=ONCE)) as house:
        house.processors.behaviours["hang"] = [hanging]
        plan = await house.apply({"a": step("hang"), "b": step(depends_on=["a"])})
        await settle()
        (ident,) = house.processors.runs
        house.processors.unstoppable.add(ident)
        await house.plans.cancel(plan, by="me", reason="enough")
        until_s = house.clock.time + house.context.pace.stop_grace_s
        while "execution.orphaned" not in await house.kinds(plan):
            await settle()
            assert house.clock.skip()
        assert until_s <= house.clock.time <= until_s + 2
        (orphaned,) = await data_of(house, plan, "execution.orphaned")
        assert orphaned["error"]["code"] == "ERR_ORPHANED"
        hold = dict(house.registry.current.processor("demo/echo@1").estimate)
        assert (await balances(house, plan))["cpu_ms"] == (hold["cpu_ms"], 0)
        assert (await house.statuses(plan))["a"] == "applying"
        # The place is free: others run while the reaper goes on.
        other = await house.apply({"c": step()}, plan="p2")
        assert await house.ended(other) == "completed"
        house.processors.runs[ident].usage["cpu_ms"] = 3 * hold["cpu_ms"]
        house.processors.unstoppable.clear()
        assert await house.ended(plan) == "cancelled"
        assert (await balances(house, plan))["cpu_ms"] == (0, 3 * hold["cpu_ms"])
        assert (await balances(house, plan))["usd_micro"] == (0, hold["usd_micro"])
        assert ident in house.processors.released


async def test_an_adapter_that_says_itself_that_something_still_runs_is_believed() -> None:
    async def escaped(run: Run) -> dict[str, Any]:
        house.processors.unstoppable.add(run.execution_id)
        return run.fail("ERR_ORPHANED")

    async with House(registry=snapshot(retry=ONCE)) as house:
        house.processors.behaviours["escape"] = [escaped]
        plan = await house.apply({"a": step("escape")})
        await settle()
        assert (await house.kinds(plan))[-1] == "execution.orphaned"
        for _ in range(20):
            house.clock.skip()
            await settle()
        assert (await house.kinds(plan))[-1] == "execution.orphaned"
        house.processors.unstoppable.clear()
        assert await house.ended(plan) == "failed"
        assert (await house.kinds(plan)).count("budget.settled") == 1


async def test_a_cancel_that_hangs_or_is_refused_is_no_confirmation() -> None:
    async with House(registry=snapshot(retry=ONCE)) as house:
        house.processors.behaviours["hang"] = [hanging]
        answers = [None, TheoryError("ERR_UNAVAILABLE", "no way there", {}), None]
        asked: list[str] = []

        async def cancel(name: str) -> bool:
            asked.append(name)
            answer = answers.pop(0) if answers else True
            if answer is None:
                await asyncio.get_running_loop().create_future()
            if isinstance(answer, TheoryError):
                raise answer
            return True

        house.processors.cancel = cancel  # type: ignore[method-assign,assignment]
        plan = await house.apply({"a": step("hang")})
        await settle()
        await house.plans.cancel(plan, by="me", reason="enough")
        assert await house.ended(plan) == "cancelled"
        kinds = await house.kinds(plan)
        assert kinds.count("execution.orphaned") == 1
        assert kinds.count("budget.settled") == 1
        assert len(asked) > 3
