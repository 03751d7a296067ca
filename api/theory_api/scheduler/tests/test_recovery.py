"""A process that died: what the next one does about every execution it left open."""

# ruff: noqa: ANN401 - fields of a policy are of many types

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from theory_api.adapters.memory.truth import MemoryTruth
from theory_api.domain.tests.shelf import snapshot
from theory_api.ports.adapter import Standing
from theory_api.scheduler.outcome import decode
from theory_api.scheduler.tests.bench import Disk, House, settle, step, until
from theory_api.scheduler.tests.processors import Run, forever, well
from theory_core import TheoryError, canonicalize, loads_strict


async def _interrupted(**fields: Any) -> tuple[Disk, str, str]:
    """A house that died while `a` ran: disk, plan, execution."""
    house = House(registry=snapshot(**fields))
    await house.engine.start()
    house.processors.behaviours["long"] = [forever]
    plan = await house.apply({"a": step("long"), "b": step(depends_on=["a"])})
    await settle()
    (ident,) = house.processors.runs
    return await house.crash(), plan, ident


async def _settled(house: House, plan: str) -> list[tuple[str, str, dict[str, int] | None]]:
    rows = await house.reads.executions(plan)
    return [
        (row.execution_id, row.status, None if row.actual is None else dict(row.actual))
        for row in rows
    ]


async def test_work_that_never_started_is_voided_and_done_again() -> None:
    disk, plan, ident = await _interrupted()
    async with House(disk=disk) as house:
        assert await house.ended(plan) == "completed"
        first, *rest = await _settled(house, plan)
        assert first == (ident, "orphaned", {})
        assert [status for _, status, _ in rest] == ["succeeded", "succeeded"]
        assert (await house.kinds(plan)).count("budget.voided") == 1
        assert house.processors.released[0] == ident


async def test_work_that_may_have_started_costs_its_hold_and_is_done_again() -> None:
    disk, plan, ident = await _interrupted()
    house = House(disk=disk)
    house.processors.standings[ident] = Standing.GONE
    async with house:
        assert await house.ended(plan) == "completed"
        first, *rest = await _settled(house, plan)
        hold = dict(house.registry.current.processor("demo/echo@1").estimate)
        assert first == (ident, "orphaned", hold)
        assert len(rest) == 2
        assert house.processors.cancelled == []


async def test_work_that_still_runs_is_stopped_first() -> None:
    disk, plan, ident = await _interrupted()
    house = House(disk=disk)
    house.processors.standings[ident] = Standing.RUNNING
    async with house:
        assert house.processors.cancelled == [ident]
        assert await house.ended(plan) == "completed"


async def test_work_that_cannot_be_stopped_keeps_the_scheduler_from_starting() -> None:
    disk, _, ident = await _interrupted()
    house = House(disk=disk)
    house.processors.standings[ident] = Standing.RUNNING

    async def unstoppable(_: str) -> bool:
        return False

    house.processors.cancel = unstoppable  # type: ignore[method-assign,assignment]
    with pytest.raises(TheoryError, match="cannot be stopped") as caught:
        await house.engine.start()
    assert caught.value.code == "ERR_UNAVAILABLE"
    await house.engine.stop()


async def test_orphans_are_repeated_as_often_as_the_policy_allows() -> None:
    once = {"max_attempts": 1, "backoff_ms": [1], "jitter_permille": 0, "retry_on": []}
    disk, plan, ident = await _interrupted(retry=once)
    house = House(disk=disk, registry=snapshot(retry=once))
    house.processors.standings[ident] = Standing.GONE
    async with house:
        assert await house.ended(plan) == "failed"
        assert await house.statuses(plan) == {"a": "failed", "b": "skipped"}


async def test_what_is_admitted_while_the_scheduler_stops_is_not_started() -> None:
    house = House()
    await house.engine.start()
    house.truth.let(1)
    plan = await house.apply({"a": step()})
    await settle()
    stopping = asyncio.create_task(house.engine.stop())
    await settle()
    house.truth.gate.set()
    await stopping
    assert "execution.started" in await house.kinds(plan)
    assert house.processors.runs == {}
    house.disk.database.bury("s")
    async with House(disk=house.disk) as second:
        assert await second.ended(plan) == "completed"
        assert (await second.kinds(plan)).count("budget.voided") == 1


async def test_an_outcome_that_was_noted_is_settled_as_noted_and_not_repeated() -> None:
    house = House()
    await house.engine.start()

    async def done(run: Run) -> dict[str, Any]:
        envelope = await well(run)
        house.truth.gate.clear()  # the note is written, the commit of it never happens
        return envelope

    house.processors.behaviours["done"] = [done]
    plan = await house.apply({"a": step("done")})
    await settle()
    (ident,) = house.processors.runs
    assert ident in house.disk.scratch.notes
    house.truth.faults = [(TheoryError("ERR_UNAVAILABLE", "power cut", {}), False)]
    house.truth.gate.set()
    disk = await house.crash()
    assert "execution.succeeded" not in await house.kinds(plan)
    async with House(disk=disk) as second:
        assert await second.ended(plan) == "completed"
        assert second.processors.runs == {}
        kinds = await second.kinds(plan)
        assert kinds.count("budget.settled") == kinds.count("execution.started") == 1
        assert disk.scratch.notes == {}


async def test_a_note_stays_until_its_settle_is_stored_whoever_reports_it() -> None:
    house = House()
    await house.engine.start()

    async def done(run: Run) -> dict[str, Any]:
        envelope = await well(run)
        house.truth.gate.clear()
        return envelope

    house.processors.behaviours["done"] = [done]
    plan = await house.apply({"a": step("done")})
    await settle()
    (note,) = house.disk.scratch.notes.values()
    runner = house.engine._runner
    assert runner is not None
    again = asyncio.create_task(runner.complete(plan, decode(note)))
    await settle()
    house.truth.faults = [(TheoryError("ERR_UNAVAILABLE", "power cut", {}), False)]
    house.truth.let(1)
    await settle()
    assert list(house.disk.scratch.notes.values()) == [note]
    house.truth.gate.set()
    assert await house.ended(plan) == "completed"
    await until(house.clock, again)
    assert house.disk.scratch.notes == {}
    assert (await house.kinds(plan)).count("budget.settled") == 1
    await house.engine.stop()


async def test_a_note_that_is_not_readable_is_a_fault_of_the_storage() -> None:
    disk, _, ident = await _interrupted()
    for note in (b"{", canonicalize({"execution_id": ident})):
        disk.scratch.notes[ident] = note
        house = House(disk=disk)
        with pytest.raises(TheoryError, match="not readable") as caught:
            await house.engine.start()
        assert caught.value.code == "ERR_STORAGE"
        await house.engine.stop()
        disk.database.bury("s")


async def test_a_cancellation_is_finished_by_the_next_owner() -> None:
    house = House()
    await house.engine.start()

    async def deaf(run: Run) -> dict[str, Any]:
        del run
        await house.clock.sleep(10**6)
        raise AssertionError

    house.processors.behaviours["deaf"] = [deaf]
    plan = await house.apply({"a": step("deaf"), "b": step(depends_on=["a"])})
    await settle()
    await house.plans.cancel(plan, by="me", reason="enough")
    (ident,) = house.processors.runs
    disk = await house.crash()
    second = House(disk=disk)
    second.processors.standings[ident] = Standing.GONE
    async with second:
        assert await second.ended(plan) == "cancelled"
        assert await second.statuses(plan) == {"a": "cancelled", "b": "cancelled"}


async def test_an_adapter_that_is_not_configured_any_more_is_named() -> None:
    disk, _, _ = await _interrupted()
    house = House(disk=disk)
    object.__setattr__(house.context, "adapters", {})
    with pytest.raises(TheoryError, match="adapter process") as caught:
        await house.engine.start()
    assert caught.value.code == "ERR_UNAVAILABLE"
    await house.engine.stop()


async def test_a_ledger_that_was_changed_is_not_taken_up() -> None:
    disk, plan, _ = await _interrupted()
    events = disk.database.plans[plan].events
    spoilt = loads_strict(events[1].body)
    spoilt["data"]["hold"] = {"usd_micro": 1}
    changed = type(events[1])(
        plan, 2, events[1].kind, events[1].at, canonicalize(spoilt), events[1].hash
    )
    events[1] = changed
    house = House(disk=disk)
    with pytest.raises(TheoryError, match="event 2 of") as caught:
        await house.engine.start()
    assert caught.value.code == "ERR_CHAIN_BROKEN"
    await house.engine.stop()


async def test_a_second_process_is_not_the_writer() -> None:
    async with House() as house:
        second = House(disk=house.disk)
        second.engine._owner = "another process"
        with pytest.raises(TheoryError) as caught:
            await second.engine.start()
        assert caught.value.code == "ERR_NOT_WRITER"
        await second.engine.stop()


@pytest.mark.parametrize("moment", range(1, 25))
async def test_a_death_at_any_commit_leads_to_the_same_artifacts_and_one_settle_each(
    moment: int,
) -> None:
    """Law: whatever was settled is not repeated, whatever was not is, and every hold returns."""
    work = {
        "a": step(inputs={"n": 1}),
        "b": step(inputs={"n": 2}, depends_on=["a"]),
        "c": step(inputs={"n": 3}, depends_on=["a"]),
    }
    disk, plan, deaths = Disk(), "/world/acme/p1", 0
    for life in range(4):
        house = House(disk=disk)
        await house.engine.start()
        if life == 0:
            await house.apply(work)
        if life < 3:
            for _ in range(moment * (life + 1)):
                await house_step(house)
            row = await house.reads.plan(plan)
            deaths += row.status == "active"
            await house.crash()
            continue
        assert await house.ended(plan) == "completed"
        rows = await house.reads.artifacts(plan, "/artifacts/outputs/")
        bodies = sorted(
            [disk.artifacts.blobs[row.cid] for row in rows if row.path.endswith("outputs/x")]
        )
        assert bodies == [b'{"n":1}', b'{"n":2}', b'{"n":3}']
        kinds = await house.kinds(plan)
        ends = kinds.count("budget.settled") + kinds.count("budget.voided")
        assert kinds.count("execution.started") == ends
        assert kinds.count("execution.succeeded") == 3
        balance = await house.reads.balance(plan)
        executions = await house.reads.executions(plan)
        for one in balance:
            booked = sum((row.actual or {}).get(one.dimension, 0) for row in executions)
            assert (one.reserved, one.spent) == (0, booked)
        await house.engine.stop()
    claimed = MemoryTruth(disk.database)
    assert await claimed.claim("s", "me") == 5


async def house_step(house: House) -> None:
    """Three turns of the loop, and the clock if nobody else is awake."""
    for _ in range(3):
        await asyncio.sleep(0)
    if not house.engine._writer or not house.engine._writer._inbox:
        house.clock.skip()
