"""Whole plans through the scheduler: what runs, what waits, what is refused, in which order."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from theory_api.domain.tests.shelf import snapshot
from theory_api.scheduler.gathering import PREPARATIONS
from theory_api.scheduler.tests.bench import (
    House,
    balances,
    data_of,
    output_of,
    settle,
    step,
    until,
)
from theory_api.scheduler.tests.processors import Run, badly, forever, well
from theory_core import TheoryError, canonicalize, loads_strict, verify


async def test_a_plan_runs_to_its_end_and_leaves_a_sound_ledger() -> None:
    goal = [{"name": "artifact.exists@1", "params": {"transition": "c", "path": "outputs/x"}}]
    async with House() as house:
        plan = await house.apply(
            {
                "a": step(inputs={"text": {"$attach": "text"}}),
                "b": step(inputs={"text": output_of("a")}),
                "c": step(inputs={"all": [output_of("a"), output_of("b", "outputs/")]}),
            },
            text=b"hello",
            goal=goal,
        )
        assert await house.ended(plan) == "completed"
        stored = await house.reads.events(plan, limit=10_000)
        lines = [
            canonicalize({"event": loads_strict(event.body), "hash": event.hash})
            for event in stored
        ]
        report = verify(lines, laws=True)
        assert (report.fault, report.count) == (None, len(stored))
        kinds = [event.kind for event in stored]
        assert kinds.count("budget.settled") == kinds.count("execution.started") == 3
        assert all(held == 0 for held, _ in (await balances(house, plan)).values())
        consumed = await data_of(house, plan, "artifact.consumed")
        (read,) = consumed[0]["inputs"]
        assert read["path"] == "/artifacts/attachments/text"
        assert set(house.processors.released) == set(house.processors.runs)
        assert house.disk.scratch.notes == {}
        assert house.engine.state(plan) is None


async def test_every_execution_leaves_its_records() -> None:
    async with House() as house:
        plan = await house.apply({"a": step()})
        await house.ended(plan)
        (ident,) = house.processors.runs
        paths = [row.path for row in await house.reads.artifacts(plan, "/artifacts/")]
        prefix = f"/artifacts/outputs/demo-echo-v1/{ident}/"
        assert paths == [
            f"/artifacts/execution/{ident}/determinism.json",
            f"/artifacts/execution/{ident}/trace.jsonl",
            f"{prefix}outputs.json",
            f"{prefix}outputs/x",
        ]
        (settled,) = await data_of(house, plan, "budget.settled")
        row = await house.reads.artifact(plan, paths[0])
        assert row is not None
        assert settled["receipt"] == row.cid
        assert settled["actual"]["usd_micro"] == 1
        assert settled["basis"]["usd_micro"] == "reported"
        assert settled["basis"]["cpu_ms"] == settled["basis"]["io_bytes"] == "measured"


async def test_two_transitions_that_end_together_are_both_seen_by_the_goal() -> None:
    goal = [
        {"name": "artifact.exists@1", "params": {"transition": name, "path": "outputs/x"}}
        for name in "ab"
    ]
    async with House() as house:
        plan = await house.apply({"a": step(), "b": step()}, goal=goal)
        assert await house.ended(plan) == "completed"


async def test_nothing_is_proposed_on_what_is_decided_and_not_committed() -> None:
    goal = [
        {"name": "artifact.exists@1", "params": {"transition": name, "path": "outputs/x"}}
        for name in "abc"
    ]
    doors = {name: asyncio.Event() for name in "ab"}

    async def guarded(run: Run) -> dict[str, Any]:
        await doors[run.params["door"]].wait()
        return await well(run)

    async with House() as house:
        house.processors.behaviours["guarded"] = [guarded]
        work = {name: step("guarded", inputs={"door": name}) for name in "ab"}
        plan = await house.apply(work | {"c": step(inputs={"x": output_of("b")})}, goal=goal)
        await settle()
        house.truth.gate.clear()
        for door in doors.values():  # the end of a is on its way, that of b is decided behind it
            door.set()
            await settle()
        house.truth.let(1)
        await settle()
        state = house.engine.state(plan)
        assert state is not None
        assert list(state.candidates) == ["c"]
        assert (await house.statuses(plan))["b"] == "applying"
        house.truth.gate.set()
        assert await house.ended(plan) == "completed"


async def test_what_a_failing_processor_says_ends_the_transition_and_the_plan() -> None:
    async with House() as house:
        house.processors.behaviours["fail"] = [badly]
        plan = await house.apply({"a": step("fail"), "b": step(depends_on=["a"])})
        assert await house.ended(plan) == "failed"
        assert await house.statuses(plan) == {"a": "failed", "b": "skipped"}
        (failed,) = await data_of(house, plan, "plan.failed")
        assert failed["error"]["code"] == "ERR_PROVIDER"
        row = await house.reads.plan(plan)
        assert row.error_code == "ERR_PROVIDER"
        settled = await data_of(house, plan, "budget.settled")
        assert [entry["actual"]["usd_micro"] for entry in settled] == [10, 10], (
            "unknown is the hold"
        )


async def test_a_retry_waits_for_its_delay_and_says_so() -> None:
    async with House() as house:
        house.processors.behaviours["flaky"] = [badly, well]
        plan = await house.apply({"a": step("flaky")})
        await settle()
        assert len(house.processors.runs) == 1
        blocked = house.engine.blocked(plan, "a")
        assert blocked is not None
        assert blocked.condition == "retry.delay"
        before = house.clock.time
        assert await house.ended(plan) == "completed"
        assert house.clock.time - before == pytest.approx(0.2)
        assert len(house.processors.runs) == 2
        assert (await house.kinds(plan)).count("budget.settled") == 2


async def test_a_false_success_predicate_fails_what_ran() -> None:
    unmet = {"success": [{"name": "file.count_min@1", "params": {"path": "outputs", "count": 2}}]}
    async with House() as house:
        plan = await house.apply({"a": step(predicates=unmet)})
        assert await house.ended(plan) == "failed"
        (failed,) = await data_of(house, plan, "transition.failed")
        assert failed["error"]["code"] == "ERR_PREDICATE_FAILED"
        (checked,) = await data_of(house, plan, "predicate.checked")
        assert (checked["scope"], checked["verdict"]["verdict"]) == ("success", "false")
        assert "1 of 2" in checked["verdict"]["reason"]


async def test_an_admission_predicate_that_is_false_waits_without_an_event() -> None:
    never = {"admission": [{"name": "artifact.exists@1", "params": {"path": "/artifacts/x"}}]}
    async with House() as house:
        plan = await house.apply({"a": step(predicates=never)})
        await settle()
        count = len(await house.kinds(plan))
        for _ in range(5):
            house.clock.skip()
            await settle()
        assert len(await house.kinds(plan)) == count
        blocked = house.engine.blocked(plan, "a")
        assert blocked is not None
        assert blocked.condition == "artifact.exists@1"
        await house.plans.cancel(plan, by="me", reason="enough")
        assert await house.ended(plan) == "cancelled"


async def test_room_on_the_disk_is_waited_for_and_seen_without_an_event() -> None:
    room = {"admission": [{"name": "disk.space_available@1", "params": {"free_bytes": 100}}]}
    async with House() as house:
        house.disk.artifacts.free = 99
        plan = await house.apply({"a": step(predicates=room)})
        await settle()
        count = len(await house.kinds(plan))
        blocked = house.engine.blocked(plan, "a")
        assert blocked is not None
        assert (blocked.condition, "99 bytes" in blocked.reason) == ("disk.space_available@1", True)
        house.disk.artifacts.free = 100
        assert len(await house.kinds(plan)) == count
        house.clock.skip()
        assert await house.ended(plan) == "completed"


async def test_an_input_that_nothing_will_write_is_refused_before_anything_is_spent() -> None:
    async with House() as house:
        plan = await house.apply(
            {"a": step(inputs={"x": {"$artifact": "/artifacts/nowhere"}}), "b": step()}
        )
        assert await house.ended(plan) == "failed"
        statuses = await house.statuses(plan)
        assert statuses["a"] == "refused"
        (refused,) = await data_of(house, plan, "transition.refused")
        assert refused["error"]["code"] == "ERR_INPUTS"
        assert "/artifacts/nowhere" in refused["error"]["message"]


async def test_an_input_that_another_transition_writes_is_waited_for() -> None:
    here = {"write_prefix": "/artifacts/films/{execution_id}/"}
    async with House(parallel=1) as house:
        whole = {"films": {"$artifact": "/artifacts/films/"}}
        plan = await house.apply({"a": step(inputs=whole), "b": step(**here)})
        assert await house.ended(plan) == "completed"


async def test_an_input_is_not_given_up_while_its_writer_waits_for_a_place() -> None:
    async with House(parallel=1) as house:
        house.processors.behaviours["long"] = [forever]
        house.processors.shut["real"] = asyncio.Event()
        here = {"write_prefix": "/artifacts/films/{execution_id}/"}
        whole = {"films": {"$artifact": "/artifacts/films/"}}
        plan = await house.apply({"a": step(inputs=whole, mode="real"), "b": step(**here)})
        await settle()
        other = await house.apply({"a": step("long")}, plan="p2")
        await settle()
        assert house.processors.busy == 1
        house.processors.shut["real"].set()
        await settle()
        assert await house.statuses(plan) == {"a": "pending", "b": "pending"}
        await house.plans.cancel(other, by="me", reason="enough")
        assert await house.ended(other) == "cancelled"
        assert await house.ended(plan) == "completed"


async def test_inputs_that_do_not_fit_once_resolved_are_refused() -> None:
    async with House() as house:
        inputs = {"text": output_of("a", "outputs/")}
        strict = {"processor_ref": "demo/strict@1"}
        with pytest.raises(TheoryError, match=r"\$\.transitions\.b\.inputs") as caught:
            await house.apply({"a": step(), "b": step(inputs=inputs, **strict)})
        assert caught.value.code == "ERR_INPUTS"


async def test_a_plan_too_small_for_its_work_fails_before_an_adapter_is_asked() -> None:
    async with House() as house:
        plan = await house.apply({"a": step()}, budget={"usd_micro": 9})
        assert await house.ended(plan) == "failed"
        assert house.processors.prepared == []
        assert "budget.reserved" not in await house.kinds(plan)
        (failed,) = await data_of(house, plan, "plan.failed")
        assert failed["error"]["detail"] == {"dimension": "usd_micro", "ask": 10, "headroom": 9}


@pytest.mark.parametrize("parallel", [1, 2, 3])
async def test_no_more_executions_run_at_once_than_there_are_places(parallel: int) -> None:
    async with House(parallel=parallel) as house:

        async def slowly(run: Run) -> dict[str, Any]:
            await house.clock.sleep(0.1)
            return await well(run)

        house.processors.behaviours["slow"] = [slowly]
        work = {name: step("slow") for name in "abc"}
        house.processors.shut["mock"] = asyncio.Event()
        plans = [await house.apply(work, plan=f"p{n}") for n in range(4)]
        await settle()
        house.processors.shut["mock"].set()  # all that found a place free go on at once
        for plan in plans:
            assert await house.ended(plan) == "completed"
        assert house.processors.most == parallel
        assert len(house.processors.runs) == 12


async def test_who_waits_for_a_place_is_told_so() -> None:
    async with House(parallel=1) as house:
        house.processors.behaviours["long"] = [forever]
        plan = await house.apply({"a": step("long"), "b": step()})
        await settle()
        blocked = house.engine.blocked(plan, "b")
        assert blocked is not None
        assert blocked.condition == "execution.capacity"
        await house.plans.cancel(plan, by="me", reason="enough")
        await house.ended(plan)


async def test_a_lease_is_held_until_its_attempt_has_settled() -> None:
    shared = [
        {"kind": "prefix", "path": "/artifacts/outputs/demo-echo-v1/{execution_id}/"},
        {"kind": "exact", "path": "/artifacts/shared"},
    ]
    async with House() as house:
        plan = await house.apply({name: step(write_set=shared) for name in "abc"})
        assert await house.ended(plan) == "completed"
        assert house.processors.most == 1


async def test_an_adapter_is_told_the_image_that_the_plans_lane_pins() -> None:
    image = "sha256:" + "a" * 64
    async with House(registry=snapshot(pins={"main": {"demo/echo@1": {"amd64": image}}})) as house:
        house.context.adapters["place"] = house.processors  # type: ignore[index]
        plan = await house.apply({"a": step(adapter="place")}, lane="main")
        other = await house.apply({"a": step()}, plan="p2")
        for one in (plan, other):
            await house.ended(one)
        assert house.processors.pinned == [f"theory/demo@{image}", None]


async def test_an_adapter_that_cannot_be_prepared_now_is_asked_again() -> None:
    async with House() as house:
        offline = TheoryError("ERR_UNAVAILABLE", "no network", {})
        house.processors.unprepared = [offline, offline]
        plan = await house.apply({"a": step()})
        await settle()
        blocked = house.engine.blocked(plan, "a")
        assert blocked is not None
        assert blocked.condition == "adapter.available"
        assert await house.ended(plan) == "completed"
        assert "no network" in [notice.text for notice in house.notices]


async def test_what_an_adapter_cannot_run_is_refused_after_a_few_tries() -> None:
    async with House() as house:
        offline = TheoryError("ERR_UNAVAILABLE", "no network", {})
        house.processors.unprepared = [offline] * PREPARATIONS
        first = await house.apply({"a": step()})
        assert await house.ended(first) == "failed"
        second = await house.apply({"a": step(adapter="modal")}, plan="p2")
        assert await house.ended(second) == "failed"
        for plan, words in ((first, "no network"), (second, "no adapter 'modal'")):
            (refused,) = await data_of(house, plan, "transition.refused")
            assert refused["error"]["code"] == "ERR_ADAPTER_INVOCATION"
            assert words in refused["error"]["message"]
            assert "budget.reserved" not in await house.kinds(plan)


async def test_a_preparation_that_never_ends_is_given_up_after_its_time_and_a_few_tries() -> None:
    async with House() as house:
        house.processors.shut["mock"] = asyncio.Event()
        began = house.clock.monotonic()
        plan = await house.apply({"a": step()})
        assert await house.ended(plan) == "failed"
        bound_s = PREPARATIONS * house.context.pace.prepare_s
        assert bound_s <= house.clock.monotonic() - began < bound_s + 60
        refused = await data_of(house, plan, "transition.refused")
        assert "was not ready after 1800 s" in refused[0]["error"]["message"]
        assert house.engine.fault is None


async def test_a_refusal_pauses_where_the_policy_says_so() -> None:
    async with House(registry=snapshot(on_refused="pause")) as house:
        plan = await house.apply({"a": step(adapter="modal"), "b": step()})
        await settle()
        assert (await house.reads.plan(plan)).status == "paused"
        await house.plans.resume(plan, by="me", reason="go on")
        assert await house.ended(plan) == "failed"
        assert await house.statuses(plan) == {"a": "refused", "b": "succeeded"}


async def test_waiting_for_a_plan_ends_with_the_engine() -> None:
    house = House()
    await house.engine.start()
    house.processors.behaviours["long"] = [forever]
    plan = await house.apply({"a": step("long")})
    waiting = asyncio.create_task(house.engine.wait(plan))
    await settle()
    await house.engine.stop()
    with pytest.raises(TheoryError) as caught:
        await waiting
    assert caught.value.code == "ERR_UNAVAILABLE"
    with pytest.raises(TheoryError) as caught:
        await house.plans.pause(plan, by="me", reason="x")
    assert caught.value.code == "ERR_UNAVAILABLE"


async def test_a_reader_that_leaves_leaves_nothing_behind() -> None:
    async with House() as house:
        house.processors.behaviours["long"] = [forever]
        plan = await house.apply({"a": step("long")})

        async def read() -> None:
            async for _ in house.engine.subscribe(plan):
                pass

        reader = asyncio.create_task(read())
        await settle()
        reader.cancel()
        await asyncio.wait({reader})
        assert reader.cancelled()
        assert house.engine._hub._channels == {}
        await house.plans.cancel(plan, by="me", reason="enough")
        assert await house.ended(plan) == "cancelled"


async def test_before_its_start_an_engine_takes_nothing() -> None:
    house = House()
    assert (house.engine.turned, house.engine.state("/world/acme/p1")) == (0.0, None)
    assert house.engine.blocked("/world/acme/p1", "a") is None
    with pytest.raises(TheoryError) as caught:
        await house.apply({"a": step()})
    assert caught.value.code == "ERR_UNAVAILABLE"
    await until(house.clock, house.engine.stop())
