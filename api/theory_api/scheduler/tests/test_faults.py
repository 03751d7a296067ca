"""Lies of processors and faults of stores: each ends in its code, and nothing is lost."""

# ruff: noqa: ANN401 - envelopes and event data hold anything

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from theory_api.adapters.memory.streams import MemoryStreams
from theory_api.adapters.memory.truth import MemoryTruth
from theory_api.domain import commands as cmd
from theory_api.scheduler.tests.bench import House, data_of, output_of, settle, step
from theory_api.scheduler.tests.processors import Run, forever
from theory_core import LIMITS, TheoryError, canonicalize, digest, loads_strict


async def _forged(run: Run, **changes: Any) -> dict[str, Any]:
    return await run.succeed({"x": b"1"}) | changes


FORGERIES: dict[str, tuple[dict[str, Any], str]] = {
    "outputs": ({"outputs": []}, "not those that arrived"),
    "index": ({"index_path": "/artifacts/outputs.json"}, "invalid index_path root"),
    "name": ({"execution_id": "x1"}, "another execution's"),
}


@pytest.mark.scenario(55, 59)
@pytest.mark.parametrize("forged", FORGERIES)
async def test_an_envelope_that_lies_is_a_failed_execution(forged: str) -> None:
    changes, words = FORGERIES[forged]

    async def lie(run: Run) -> dict[str, Any]:
        return await _forged(run, **changes)

    async with House() as house:
        house.processors.behaviours["lie"] = [lie]
        plan = await house.apply({"a": step("lie")})
        assert await house.ended(plan) == "failed"
        (failed,) = await data_of(house, plan, "execution.failed")
        assert failed["error"]["code"] == "ERR_ADAPTER_INVOCATION"
        assert words in failed["error"]["message"]
        envelope = loads_strict(await house.disk.artifacts.get(failed["envelope"]))
        (ident,) = house.processors.runs
        assert (envelope["status"], envelope["execution_id"]) == ("error", ident)
        assert not await house.reads.artifacts(plan, "/artifacts/outputs/")


RECEIPTS: dict[str, dict[str, Any]] = {
    "another's": {"execution_id": "x1"},
    "another index": {"outputs_index": "b3:" + "0" * 64},
    "usage of no number": {"usage": {"usd_micro": -1}},
    "usage of no object": {"usage": []},
    "too large": {"processor_info": "x" * LIMITS["json_in_truth_bytes"]},
}


@pytest.mark.scenario(72)
@pytest.mark.parametrize("lie", RECEIPTS)
async def test_a_receipt_that_lies_is_a_failed_execution(lie: str) -> None:
    async def wrong(run: Run) -> dict[str, Any]:
        envelope = run.fail()
        fields = RECEIPTS[lie]
        outputs = [await run.put("outputs/x", b"1")]
        index = canonicalize({"outputs": outputs})
        await run.put("outputs.json", index, "application/json")
        await run.receipt("success", **({"outputs_index": digest(index)} | fields))
        path = f"{run.payload['write_prefix']}outputs.json"
        success = {"status": "success", "outputs": outputs, "index_path": path}
        return {**success, "execution_id": run.execution_id, "meta": envelope["meta"]}

    async with House() as house:
        house.processors.behaviours["wrong"] = [wrong]
        plan = await house.apply({"a": step("wrong")})
        assert await house.ended(plan) == "failed"
        (failed,) = await data_of(house, plan, "execution.failed")
        assert failed["error"]["code"] == "ERR_RECEIPT"
        own = loads_strict(await house.disk.artifacts.get(failed["receipt"]))
        assert (own["written_by"], own["status"]) == ("orchestrator", "error")


@pytest.mark.scenario(17)
async def test_a_fault_of_a_store_stops_the_engine_loudly() -> None:
    house = House()
    await house.engine.start()
    plan = await house.apply({"a": step()})
    house.truth.faults = [(RuntimeError("the disk is on fire"), False)]
    with pytest.raises(TheoryError) as caught:
        await house.ended(plan)
    assert caught.value.code == "ERR_INTERNAL"
    with pytest.raises(TheoryError) as caught:
        await house.plans.cancel(plan, by="me", reason="x")
    assert caught.value.code == "ERR_INTERNAL"
    assert isinstance(house.engine.fault, RuntimeError)
    await house.engine.stop()


@pytest.mark.scenario(6)
async def test_a_writer_that_was_replaced_stops_and_says_so() -> None:
    house = House()
    await house.engine.start()
    house.processors.behaviours["long"] = [forever]
    plan = await house.apply({"a": step("long")})
    await settle()
    house.disk.database.bury("s")
    await MemoryTruth(house.disk.database).claim("s", "somebody else")
    with pytest.raises(TheoryError) as caught:
        await house.plans.pause(plan, by="me", reason="x")
    assert caught.value.code == "ERR_NOT_WRITER"
    with pytest.raises(TheoryError) as caught:
        await house.ended(plan)
    assert caught.value.code == "ERR_NOT_WRITER"
    await house.engine.stop()


@pytest.mark.scenario(2)
@pytest.mark.parametrize("done", [True, False])
async def test_a_commit_whose_outcome_is_unknown_is_found_out(done: bool) -> None:  # noqa: FBT001
    lost = TheoryError("ERR_UNAVAILABLE", "the answer was lost", {})
    async with House() as house:
        for n in range(12):
            house.truth.faults = []
            plan = await house.apply(
                {"a": step(), "b": step(inputs={"x": output_of("a")})}, plan=f"p{n}"
            )
            house.truth.faults = [(None, True)] * (n % 6) + [(lost, done)]
            assert await house.ended(plan) == "completed"
            kinds = await house.kinds(plan)
            assert kinds.count("budget.settled") == kinds.count("execution.started") == 2
        assert len(house.processors.runs) == 24


@pytest.mark.scenario(2)
async def test_a_cancellation_whose_answer_was_lost_still_stops_what_runs() -> None:
    async with House() as house:
        house.processors.behaviours["long"] = [forever]
        plan = await house.apply({"a": step("long"), "b": step("long")})
        await settle()
        house.truth.faults = [(TheoryError("ERR_UNAVAILABLE", "the answer was lost", {}), True)]
        with pytest.raises(TheoryError):
            await house.plans.cancel(plan, by="me", reason="enough")
        answer = await house.plans.cancel(plan, by="me", reason="enough")
        assert answer.events == ()
        assert await house.ended(plan) == "cancelled"


async def test_an_answer_given_while_a_commit_was_on_its_way_does_not_outlive_its_failure() -> None:
    async with House() as house:
        release = asyncio.Event()

        async def slow(run: Run) -> dict[str, Any]:
            await release.wait()
            return await run.succeed({"x": b"1"})

        house.processors.behaviours["slow"] = [slow]
        there = {"path": "/artifacts/outputs/", "count": 1}
        waits = {"admission": [{"name": "file.count_min@1", "params": there}]}
        plan = await house.apply({"a": step("slow"), "h": step(predicates=waits)})
        await settle()
        runner = house.engine._runner
        assert runner is not None
        desk = runner._desks[plan]
        assert "h" in desk.held
        house.truth.gate.clear()
        fault = TheoryError("ERR_STORAGE", "storage unavailable: ENOSPC", {})
        house.truth.faults = [(fault, False)]
        command = cmd.TopUp(plan=plan, by="me", amount={"usd_micro": 1})
        asked = [asyncio.ensure_future(house.engine.submit(command)) for _ in range(4)]
        await settle()
        state = house.engine.state(plan)
        assert state is not None
        await runner._admissions.consider(state, desk)
        release.set()
        await settle()
        house.truth.gate.set()
        await asyncio.gather(*asked, return_exceptions=True)
        assert await house.ended(plan) == "completed"


async def test_watchers_are_told_when_the_engine_ends_before_the_run(tmp_path: Path) -> None:
    house = House()
    streams = MemoryStreams(tmp_path)
    object.__setattr__(house.context, "streams", streams)
    await house.engine.start()
    house.processors.behaviours["long"] = [forever]
    await house.apply({"a": step("long")})
    await settle()
    (name,) = house.processors.runs

    async def watch() -> list[bytes]:
        return [text async for text in streams.watch(name)]

    watching = asyncio.create_task(watch())
    await settle()
    await house.crash()
    with pytest.raises(TheoryError) as told:
        await asyncio.wait_for(watching, 5)
    assert told.value.code == "ERR_UNAVAILABLE"
