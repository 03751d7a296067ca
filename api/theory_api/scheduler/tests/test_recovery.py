"""A process that died: what the next one does about every execution it left open."""

# ruff: noqa: ANN401 - fields of a policy are of many types

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from theory_api.adapters.memory.truth import MemoryTruth
from theory_api.domain.tests.shelf import snapshot
from theory_api.ports.adapter import Standing
from theory_api.scheduler import closing
from theory_api.scheduler.evaluation import evaluate
from theory_api.scheduler.outcome import decode
from theory_api.scheduler.tests.bench import (
    Disk,
    House,
    balances,
    data_of,
    settle,
    step,
    until,
)
from theory_api.scheduler.tests.processors import Run, badly, forever, well
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


@pytest.mark.scenario(1)
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


@pytest.mark.scenario(69)
async def test_work_that_cannot_be_stopped_keeps_its_hold_and_its_plan_goes_on() -> None:
    disk, plan, ident = await _interrupted()
    house = House(disk=disk)
    house.processors.standings[ident] = Standing.RUNNING
    house.processors.unstoppable.add(ident)
    async with house:
        other = await house.apply({"c": step()}, plan="p2")
        assert await house.ended(other) == "completed"
        hold = dict(house.registry.current.processor("demo/echo@1").estimate)
        reserved = {name: pair[0] for name, pair in (await balances(house, plan)).items()}
        assert {name: reserved[name] for name in hold} == hold
        assert (await house.kinds(plan))[-1] == "execution.orphaned"
        await house.plans.pause(plan, by="me", reason="wait")
        await house.plans.resume(plan, by="me", reason="go on")
        house.processors.unstoppable.clear()
        assert await house.ended(plan) == "completed"
        assert (await _settled(house, plan))[0] == (ident, "orphaned", hold)
        kinds = await house.kinds(plan)
        assert kinds.count("execution.orphaned") == 1
        assert kinds.count("budget.settled") == kinds.count("execution.started")


@pytest.mark.scenario(69)
async def test_an_orphan_that_nobody_reaped_is_reaped_by_the_next_owner() -> None:
    disk, plan, ident = await _interrupted()
    house = House(disk=disk)
    house.processors.standings[ident] = Standing.RUNNING
    house.processors.unstoppable.add(ident)
    await until(house.clock, house.engine.start())
    await settle()
    assert (await house.kinds(plan))[-1] == "execution.orphaned"
    third = House(disk=await house.crash())
    async with third:
        # Nothing is known of it here any more: it did start once, so it costs its hold.
        assert await third.ended(plan) == "completed"
        hold = dict(third.registry.current.processor("demo/echo@1").estimate)
        assert (await _settled(third, plan))[0] == (ident, "orphaned", hold)
        assert (await third.kinds(plan)).count("budget.voided") == 0


async def test_work_that_goes_on_elsewhere_is_taken_up_again_and_not_repeated() -> None:
    disk, plan, ident = await _interrupted()
    house = House(disk=disk)
    house.processors.standings[ident] = Standing.ATTACHABLE
    house.processors.behaviours["long"] = [well]
    async with house:
        assert await house.ended(plan) == "completed"
        assert ident in house.processors.runs
        assert [status for _, status, _ in await _settled(house, plan)] == ["succeeded"] * 2
        assert (await house.kinds(plan)).count("execution.started") == 2


@pytest.mark.parametrize("stops", [True, False], ids=["at once", "later"])
async def test_work_that_goes_on_elsewhere_without_an_order_is_stopped_and_pays_its_hold(
    monkeypatch: pytest.MonkeyPatch, *, stops: bool
) -> None:
    disk, plan, ident = await _interrupted()
    house = House(disk=disk)
    house.processors.standings[ident] = Standing.ATTACHABLE
    if not stops:
        house.processors.unstoppable.add(ident)
    (started,) = await data_of(house, plan, "execution.started")
    get = disk.artifacts.get

    async def rotten(cid: str, *, max_bytes: int = 8 << 20) -> bytes:
        if cid == started["inputs"]:
            raise TheoryError("ERR_ARTIFACT_DIGEST", "the bytes rotted", {})
        return await get(cid, max_bytes=max_bytes)

    monkeypatch.setattr(disk.artifacts, "get", rotten)
    async with house:
        if not stops:
            await settle()
            house.clock.skip()
            await settle()
            assert (await house.kinds(plan))[-1] == "execution.orphaned"
            assert (await balances(house, plan))["usd_micro"] == (10, 0)
            house.processors.unstoppable.clear()
        assert await house.ended(plan) in {"failed", "completed"}
        assert ident in house.processors.cancelled
        (first, *_) = await _settled(house, plan)
        hold = dict(house.registry.current.processor("demo/echo@1").estimate)
        assert first == (ident, "orphaned", hold)
        told = (await data_of(house, plan, "execution.orphaned"))[0]["error"]["code"]
        assert told == ("ERR_ARTIFACT_DIGEST" if stops else "ERR_ORPHANED")


async def test_who_only_settles_leaves_what_runs_elsewhere_to_the_next_owner() -> None:
    disk, plan, ident = await _interrupted()
    house = House(disk=disk, admitting=False)
    house.processors.standings[ident] = Standing.ATTACHABLE
    async with house:
        assert house.processors.runs == {}
        assert house.processors.cancelled == []
        assert (await house.kinds(plan))[-1] == "execution.started"


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


@pytest.mark.scenario(1)
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


async def test_a_second_report_that_comes_after_the_retry_was_admitted_changes_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its attempt is not even the newest any more: refused, and no scheduler stops for it."""
    async with House() as house:
        house.processors.behaviours["flaky"] = [badly, forever]
        early, late, notes = asyncio.Event(), asyncio.Event(), list[bytes]()
        save, real = house.disk.scratch.save, evaluate

        async def saving(execution_id: str, outcome: bytes) -> None:
            notes.append(outcome)
            await save(execution_id, outcome)

        async def slowly(*given: Any, **named: Any) -> Any:
            await (late if asyncio.current_task() is again else early).wait()
            return await real(*given, **named)

        again: asyncio.Task[None] | None = None
        monkeypatch.setattr(house.disk.scratch, "save", saving)
        monkeypatch.setattr(closing, "evaluate", slowly)
        plan = await house.apply({"a": step("flaky")})
        await settle()
        running = house.engine._runner
        assert running is not None
        again = asyncio.create_task(running.closing.complete(plan, decode(notes[0])))
        await settle()
        early.set()
        while len(house.processors.runs) < 2:
            await settle()
            house.clock.skip()
        late.set()
        await settle()
        assert again.done()
        await again
        assert (await house.kinds(plan)).count("budget.settled") == 1
        await house.plans.cancel(plan, by="me", reason="enough")
        assert await house.ended(plan) == "cancelled"


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
    again = asyncio.create_task(runner.closing.complete(plan, decode(note)))
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


async def test_a_note_that_is_not_readable_holds_its_execution_alone() -> None:
    disk, plan, ident = await _interrupted()
    for note in (b"{", canonicalize({"execution_id": ident})):
        disk.scratch.notes[ident] = note
        house = House(disk=disk)
        async with house:
            other = await house.apply({"c": step()}, plan=f"q{len(note)}")
            assert await house.ended(other) == "completed"
            assert house.engine.undecided == 1
            assert (await house.kinds(plan))[-1] == "execution.started"
            assert ident in disk.scratch.notes
        disk.database.bury("s")
    del disk.scratch.notes[ident]
    async with House(disk=disk) as last:
        assert await last.ended(plan) == "completed"
        assert last.engine.undecided == 0


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


async def test_an_adapter_that_is_away_holds_its_executions_alone() -> None:
    disk, plan, ident = await _interrupted()
    house = House(disk=disk)
    house.processors.away = TheoryError("ERR_UNAVAILABLE", "no way to the machine", {})
    async with house:
        other = await house.apply({"c": step()}, plan="p2")
        assert await house.ended(other) == "completed"
        assert house.engine.undecided == 1
        house.processors.away = None
        assert await house.ended(plan) == "completed"
        assert house.engine.undecided == 0
        assert (await _settled(house, plan))[0] == (ident, "orphaned", {})


async def test_an_adapter_that_is_not_configured_any_more_holds_its_executions() -> None:
    disk, plan, _ = await _interrupted()
    house = House(disk=disk)
    object.__setattr__(house.context, "adapters", {})
    await until(house.clock, house.engine.start())
    assert house.engine.undecided == 1
    assert house.engine.fault is None
    assert (await house.kinds(plan))[-1] == "execution.started"
    await house.engine.stop()


def _spoil(disk: Disk, plan: str) -> None:
    """Somebody changes an amount in the second event of a plan."""
    events = disk.database.plans[plan].events
    spoilt = loads_strict(events[1].body)
    spoilt["data"]["hold"] = {"usd_micro": 1}
    old = events[1]
    events[1] = type(old)(plan, 2, old.kind, old.at, canonicalize(spoilt), old.hash)


@pytest.mark.scenario(21)
async def test_a_plan_whose_ledger_was_changed_is_set_aside_and_the_others_go_on() -> None:
    disk, plan, ident = await _interrupted()
    _spoil(disk, plan)
    async with House(disk=disk) as house:
        other = await house.apply({"c": step()}, plan="p2")
        assert await house.ended(other) == "completed"
        assert list(house.engine.aside) == [plan]
        assert house.engine.aside[plan].detail == {"plan": plan, "seq": 2}
        for refused in (
            house.plans.cancel(plan, by="me", reason="enough"),
            house.plans.topup(plan, by="me", amount={"usd_micro": 1}),
            house.engine.wait(plan),
        ):
            with pytest.raises(TheoryError, match="event 2 of") as caught:
                await refused
            assert caught.value.code == "ERR_CHAIN_BROKEN"
        assert house.processors.cancelled == []
        assert (await house.kinds(plan))[-1] == "execution.started"
        assert ident not in house.processors.runs


async def test_what_a_plan_that_is_set_aside_left_stays_until_people_have_looked() -> None:
    """Else its note is lost, and work that was done is taken for work that never started."""
    disk, plan, ident = await _interrupted()
    disk.scratch.notes[ident] = b"its outcome"
    _spoil(disk, plan)
    house = House(disk=disk)
    house.processors.kept.add(ident)
    async with house:
        await settle()
        assert list(house.engine.aside) == [plan]
        assert house.disk.scratch.notes == {ident: b"its outcome"}
        assert house.processors.released == []


async def test_a_plan_that_is_set_aside_while_it_runs_stops_nobody_else() -> None:
    async with House() as house:
        house.processors.behaviours["long"] = [forever]
        plan = await house.apply({"a": step("long"), "b": step(depends_on=["a"])})
        await settle()
        (ident,) = house.processors.runs
        fault = TheoryError("ERR_CHAIN_BROKEN", "event 1 is another one", {"plan": plan, "seq": 1})
        house.engine.set_aside(plan, fault)
        assert house.engine.served.aside == 1
        house.processors.runs[ident].stopped.set()
        await settle()
        other = await house.apply({"c": step()}, plan="p2")
        assert await house.ended(other) == "completed"
        assert (await house.kinds(plan))[-1] == "execution.started"
        assert ident in house.disk.scratch.notes
        assert house.engine.fault is None


async def test_who_waits_for_a_plan_that_is_set_aside_is_told_why_it_goes_on_no_more() -> None:
    async with House() as house:
        house.processors.behaviours["long"] = [forever]
        plan = await house.apply({"a": step("long")})
        seen = list[str]()

        async def read() -> None:
            async for event in house.engine.subscribe(plan):
                seen.append(event.kind)

        waits = [asyncio.ensure_future(house.engine.wait(plan)), asyncio.ensure_future(read())]
        await settle()
        assert not any(wait.done() for wait in waits)
        fault = TheoryError("ERR_CHAIN_BROKEN", "event 1 is another one", {"plan": plan, "seq": 1})
        house.engine.set_aside(plan, fault)
        await settle()
        assert [wait.exception() for wait in waits if wait.done()] == [fault, fault]
        assert seen == await house.kinds(plan)


@pytest.mark.scenario(5)
async def test_a_second_process_is_not_the_writer() -> None:
    async with House() as house:
        second = House(disk=house.disk)
        second.engine._owner = "another process"
        with pytest.raises(TheoryError) as caught:
            await second.engine.start()
        assert caught.value.code == "ERR_NOT_WRITER"
        await second.engine.stop()


@pytest.mark.scenario(1, 3)
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


@pytest.mark.scenario(19)
async def test_a_second_result_of_a_settled_attempt_is_in_the_ledger_once() -> None:
    async with House() as house:
        house.processors.behaviours["long"] = [forever]
        notes, save = list[bytes](), house.disk.scratch.save

        async def saving(execution_id: str, outcome: bytes) -> None:
            notes.append(outcome)
            await save(execution_id, outcome)

        house.disk.scratch.save = saving  # type: ignore[method-assign]
        plan = await house.apply({"a": step(), "b": step("long", depends_on=["a"])})
        while len(house.processors.runs) < 2:
            await settle()
        runner = house.engine._runner
        assert runner is not None
        first = decode(notes[0])
        second = msgspec.structs.replace(first, envelope="b3:" + "8" * 64)
        before = await house.kinds(plan)
        for note in (first, second, first, second):
            await runner.closing.complete(plan, note)
        assert await house.kinds(plan) == [*before, "execution.duplicate"]
        await house.plans.cancel(plan, by="me", reason="enough")
        assert await house.ended(plan) == "cancelled"
        third = msgspec.structs.replace(first, envelope="b3:" + "9" * 64)
        await runner.closing.complete(plan, third)
        assert (await house.kinds(plan)).count("execution.duplicate") == 1
