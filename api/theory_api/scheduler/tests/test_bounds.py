"""What must not stop, outlive or outgrow a scheduler: odd plans, lost answers, its own stops."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest
import structlog

from theory_api.scheduler import admitting
from theory_api.scheduler.tests.bench import House, data_of, output_of, settle, step, until
from theory_api.scheduler.tests.processors import Run, forever, well
from theory_core import TheoryError


async def test_a_run_whose_own_frame_passes_its_hold_is_stopped_by_a_cancel_that_waits() -> None:
    async def dear(run: Run) -> dict[str, Any]:
        await run.frame("Event", phase="thinking", usage={"usd_micro": 12})
        return await forever(run)

    async with House() as house:
        over, processors = asyncio.Event(), house.processors
        invoke, cancel = processors.invoke, processors.cancel

        async def invoked(**request: Any) -> Mapping[str, Any]:  # noqa: ANN401
            try:
                return await invoke(**request)
            finally:
                over.set()

        async def cancelled(execution_id: str) -> bool:
            await cancel(execution_id)
            await over.wait()
            return True

        processors.invoke, processors.cancel = invoked, cancelled  # type: ignore[method-assign]
        processors.behaviours["dear"] = [dear]
        plan = await house.apply({"a": step("dear")})
        assert await until(house.clock, house.engine.wait(plan), skips=50) == "failed"
        (failed,) = await data_of(house, plan, "execution.failed")
        assert failed["error"]["code"] == "ERR_BUDGET_EXCEEDED"


async def test_nothing_starts_where_only_commands_are_served() -> None:
    house = House(admitting=False)
    async with house:
        plan = await house.apply({"a": step()})
        other = await house.apply({"a": step()}, plan="p2")
        await house.plans.cancel(other, by="me", reason="enough")
        await settle()
        assert await house.statuses(plan) == {"a": "pending"}
        assert await house.ended(other) == "cancelled"
        assert house.processors.prepared == []


async def test_an_execution_whose_settlement_was_in_doubt_is_released_and_told_once() -> None:
    async with House() as house:
        go = asyncio.Event()

        async def slow(run: Run) -> dict[str, Any]:
            await go.wait()
            return await well(run)

        house.processors.behaviours["slow"] = [slow]
        plan = await house.apply({"a": step("slow")})
        await settle()
        house.truth.faults.append((TheoryError("ERR_UNAVAILABLE", "no answer", {}), True))
        with structlog.testing.capture_logs() as lines:
            go.set()
            assert await house.ended(plan) == "completed"
            while house.clock.skip():
                await settle()
        assert house.processors.released == list(house.processors.runs)
        assert [line["event"] for line in lines].count("execution.settle") == 1


async def test_a_goal_whose_answers_no_event_can_hold_is_refused_with_its_place() -> None:
    path = "/artifacts/" + "/".join(letter * 200 for letter in "abc") + "/"
    goal = [{"name": "artifact.exists@1", "params": {"path": f"{path}{n}"}} for n in range(250)]
    async with House() as house:
        with pytest.raises(TheoryError) as caught:
            await house.apply({"a": step()}, goal=goal)
        assert caught.value.code == "ERR_PLAN_INVALID"
        assert str(caught.value.detail["place"]).startswith("$.goal[")
        plan = await house.apply({"a": step()}, goal=goal[:120])
        assert await house.ended(plan) == "failed"


async def test_inputs_that_fit_no_frame_refuse_their_transition_and_nothing_else() -> None:
    async def many(run: Run) -> dict[str, Any]:
        return await run.succeed({f"{'n' * 200}{n:04d}": b"" for n in range(2_000)})

    async with House() as house:
        house.processors.behaviours["many"] = [many]
        inputs = {f"x{n}": output_of("a", "outputs/") for n in range(16)}
        hold = {"cpu_ms": 100, "latency_ms": 1000, "io_bytes": 900_000, "usd_micro": 10}
        plan = await house.apply({"a": step("many", estimate=hold), "b": step(inputs=inputs)})
        assert await house.ended(plan) == "failed"
        assert await house.statuses(plan) == {"a": "succeeded", "b": "refused"}
        (refused,) = await data_of(house, plan, "transition.refused")
        assert refused["error"]["code"] == "ERR_TOO_LARGE"
        after = await house.apply({"a": step()}, plan="p2")
        assert await house.ended(after) == "completed"


async def test_preparations_that_failed_in_a_row_are_forgotten_after_one_that_did_not() -> None:
    def faults(count: int) -> list[TheoryError]:
        return [TheoryError("ERR_UNAVAILABLE", "no network", {}) for _ in range(count)]

    async with House() as house:
        house.processors.unprepared = faults(2)
        assert await house.ended(await house.apply({"a": step()})) == "completed"
        key = ("process", "demo/echo@1", "mock")
        gathering = house.engine._runner._gathering  # type: ignore[union-attr]
        assert key not in gathering._failures


async def test_a_wide_plan_is_not_searched_while_no_place_is_free(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with House(parallel=1) as house:
        house.processors.behaviours["long"] = [forever]
        plan = await house.apply({f"t{n}": step("long") for n in range(50)})
        await settle()
        looked: list[str] = []
        monkeypatch.setattr(admitting, "why", lambda _state, name: looked.append(name))
        await house.plans.topup(plan, by="me", amount={"usd_micro": 1})
        await settle()
        assert looked == []
        held = house.engine.blocked(plan, "t49")
        assert held is not None
        assert held.condition == "execution.capacity"
        await house.plans.cancel(plan, by="me", reason="enough")
        assert await house.ended(plan) == "cancelled"
