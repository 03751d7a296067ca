"""What a run proposes is judged like anybody's, depends on it, and is refused where others are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from theory_api.domain.registry import RegistrySnapshot
from theory_api.domain.tests.shelf import _processor, snapshot
from theory_api.scheduler.tests.bench import House, balances, data_of, output_of, step, until
from theory_api.scheduler.tests.processors import Behaviour, Run
from theory_core import canonicalize, loads_strict, verify


ESTIMATE = dict(snapshot().processor("demo/echo@1").estimate)


def proposing(*batches: Sequence[dict[str, Any]]) -> list[Behaviour]:
    """Behaviours that propose these, one batch a run."""

    def behaviour(batch: Sequence[dict[str, Any]]) -> Behaviour:
        async def run(run: Run) -> dict[str, Any]:
            body = canonicalize({"transitions": list(batch)})
            return await run.succeed({"transitions.json": body})

        return run

    return [behaviour(batch) for batch in batches]


def child(name: str, **fields: Any) -> dict[str, Any]:  # noqa: ANN401 - anything
    return {"id": name, "processor_ref": "demo/echo@1", "inputs": {}} | fields


def listening() -> RegistrySnapshot:
    """The usual registry, and a processor that can be told what was refused."""
    document = loads_strict(snapshot().document)
    asks = _processor("demo/asks@1", {"properties": {"refused": {"type": "object"}}})
    document["processors"]["demo/asks@1"] = asks
    return RegistrySnapshot.from_document(canonicalize(document))


async def sound(house: House, plan: str) -> None:
    stored = await house.reads.events(plan, limit=10_000)
    lines = [
        canonicalize({"event": loads_strict(event.body), "hash": event.hash}) for event in stored
    ]
    assert verify(lines, laws=True).fault is None
    assert all(held == 0 for held, _ in (await balances(house, plan)).values())


async def test_proposals_run_after_the_run_that_made_them() -> None:
    async with House() as house:
        house.processors.behaviours["plan"] = proposing(
            [child("b", inputs={"text": output_of("c")}), child("c")]
        )
        plan = await house.apply({"a": step("plan")})
        assert await house.ended(plan) == "completed"
        assert await house.statuses(plan) == dict.fromkeys("abc", "succeeded")
        first, *others = await data_of(house, plan, "transition.proposed")
        assert first["by"] == "local"
        (planner,) = (r.execution_id for r in house.processors.runs.values() if "do" in r.params)
        assert [entry["by"] for entry in others] == [f"execution {planner}"] * 2
        assert all("a" in entry["depends_on"] for entry in others)
        await sound(house, plan)


async def test_each_proposal_reserves_from_the_plans_budget() -> None:
    async with House() as house:
        house.processors.behaviours["plan"] = proposing([child("b"), child("c")])
        plan = await house.apply({"a": step("plan")})
        await house.ended(plan)
        assert len(await data_of(house, plan, "budget.reserved")) == 3


async def test_proposals_never_run_past_the_limit_of_their_plan() -> None:
    limit = {"usd_micro": 12, "cpu_ms": 10_000, "latency_ms": 60_000, "io_bytes": 10**6}
    for own in ({}, {"estimate": ESTIMATE}, {"estimate": {}}):
        async with House(parallel=64) as house:
            house.processors.behaviours["plan"] = proposing(
                [child(f"k{number}", **own) for number in range(20)]
            )
            plan = await house.apply({"a": step("plan")}, budget=limit)
            assert await house.ended(plan) == "failed"
            assert (await balances(house, plan))["usd_micro"][1] <= limit["usd_micro"]
            await sound(house, plan)


@pytest.mark.parametrize(
    ("entry", "code"),
    [
        (child("b", processor_ref="no/such@1"), "ERR_NOT_FOUND"),
        (child("b", estimate=ESTIMATE | {"usd_micro": 5000}), "ERR_BUDGET_EXCEEDED"),
        (child("b", estimate={}), "ERR_PLAN_INVALID"),
        (child("b", estimate=ESTIMATE | {"usd_micro": 9}), "ERR_PLAN_INVALID"),
        (child("b", mode="real"), "ERR_MODE_INVALID"),
        (child("b", adapter="elsewhere"), "ERR_PLAN_INVALID"),
        (child("b", depends_on=["nobody"]), "ERR_PLAN_INVALID"),
        (child("b", depends_on=["b"]), "ERR_PLAN_INVALID"),
        (child("b", colour="red"), "ERR_PLAN_INVALID"),
        (child("b", processor_ref="demo/strict@1"), "ERR_INPUTS"),
        (child("b", inputs={"x": {"$attach": "text"}}), "ERR_PLAN_INVALID"),
        (child("b", write_prefix="/artifacts/execution/{execution_id}/"), "ERR_FORBIDDEN_SEGMENT"),
        (child("a"), "ERR_CONFLICT"),
        (child("B"), "ERR_PLAN_INVALID"),
    ],
)
async def test_a_proposal_that_nobody_could_make_fails_the_run_and_none_of_them_is_taken(
    entry: dict[str, Any], code: str
) -> None:
    async with House() as house:
        house.processors.behaviours["plan"] = proposing([child("good"), entry])
        plan = await house.apply({"a": step("plan")})
        assert await house.ended(plan) == "failed"
        (failed,) = await data_of(house, plan, "execution.failed")
        assert failed["error"]["code"] == code
        assert await house.statuses(plan) == {"a": "failed"}
        await sound(house, plan)


@pytest.mark.parametrize(
    "body", [b"{}", b"[]", b"no", b'{"transitions":5}', b'{"transitions":[{"x":1}]}']
)
async def test_what_is_no_list_of_proposals_fails_the_run(body: bytes) -> None:
    async def behaviour(run: Run) -> dict[str, Any]:
        return await run.succeed({"transitions.json": body})

    async with House() as house:
        house.processors.behaviours["plan"] = [behaviour]
        plan = await house.apply({"a": step("plan")})
        assert await house.ended(plan) == "failed"
        (failed,) = await data_of(house, plan, "execution.failed")
        assert failed["error"]["code"] == "ERR_PLAN_INVALID"


async def test_a_refusal_is_told_once_and_the_second_answer_is_taken() -> None:
    async with House(registry=listening()) as house:
        house.processors.behaviours["plan"] = proposing(
            [child("b", processor_ref="no/such@1")], [child("b")]
        )
        plan = await house.apply({"a": step("plan", processor_ref="demo/asks@1")})
        assert await house.ended(plan) == "completed"
        assert await house.statuses(plan) == dict.fromkeys(("a", "a.again", "b"), "succeeded")
        told = [
            run.params["refused"]
            for run in house.processors.runs.values()
            if "refused" in run.params
        ]
        assert [(entry["transition"], entry["processor_ref"], entry["code"]) for entry in told] == [
            ("b", "no/such@1", "ERR_NOT_FOUND")
        ]
        await sound(house, plan)


async def test_a_second_refusal_fails_the_run() -> None:
    async with House(registry=listening()) as house:
        house.processors.behaviours["plan"] = proposing([child("b", processor_ref="no/such@1")])
        plan = await house.apply({"a": step("plan", processor_ref="demo/asks@1")})
        assert await house.ended(plan) == "failed"
        assert await house.statuses(plan) == {"a": "succeeded", "a.again": "failed"}
        await sound(house, plan)


async def test_a_crash_between_the_proposals_and_the_report_takes_them_once() -> None:
    async with House() as first:
        first.processors.behaviours["plan"] = proposing([child("b"), child("c")])
        plan = await first.apply({"a": step("plan")})
        for _ in range(400):
            await until(first.clock, _turn())
            if "b" in await first.statuses(plan):
                break
        disk = await first.crash()
    async with House(disk=disk) as second:
        assert await second.ended(plan) == "completed"
        assert await second.statuses(plan) == dict.fromkeys("abc", "succeeded")
        await sound(second, plan)


async def _turn() -> None:
    """Nothing: the clock's helper lets everything else run."""


async def test_a_plan_that_is_cancelled_meanwhile_takes_no_more() -> None:
    async def late(run: Run) -> dict[str, Any]:
        await run.stopped.wait()
        return await run.succeed({"transitions.json": canonicalize({"transitions": [child("b")]})})

    async with House() as house:
        house.processors.behaviours["plan"] = [late]
        plan = await house.apply({"a": step("plan")})
        await until(house.clock, _turn())
        await house.plans.cancel(plan, by="me", reason="enough")
        assert await house.ended(plan) == "cancelled"
        assert list(await house.statuses(plan)) == ["a"]
