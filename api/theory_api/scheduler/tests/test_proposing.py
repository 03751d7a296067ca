"""What a run proposes is judged like anybody's, depends on it, and is refused where others are."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest

from theory_api.domain import commands as cmd
from theory_api.domain import planning, proposal
from theory_api.domain.registry import RegistrySnapshot
from theory_api.domain.tests.shelf import _processor, snapshot
from theory_api.domain.values import SelectorSpec
from theory_api.ports.artifacts import Blob
from theory_api.scheduler import proposing as under_test
from theory_api.scheduler.tests.bench import (
    House,
    balances,
    data_of,
    output_of,
    settle,
    step,
    until,
)
from theory_api.scheduler.tests.processors import Behaviour, Run
from theory_core import (
    LIMITS,
    TheoryError,
    canonicalize,
    digest,
    loads_strict,
    validate_envelope,
    verify,
)

ESTIMATE = dict(snapshot().processor("demo/echo@1").estimate)
ROOM = {dimension: 8 * amount for dimension, amount in ESTIMATE.items()}
"""What a run holds that proposes a few."""


def proposing(*batches: Sequence[dict[str, Any]]) -> list[Behaviour]:
    """Behaviours that propose these, one batch a run."""

    def behaviour(batch: Sequence[dict[str, Any]]) -> Behaviour:
        async def run(run: Run) -> dict[str, Any]:
            body = canonicalize({"transitions": list(batch)})
            return await run.succeed({"transitions.json": body})

        return run

    return [behaviour(batch) for batch in batches]


def planner(do: str | None = "plan", **fields: Any) -> dict[str, Any]:  # noqa: ANN401 - anything
    """A transition that holds enough for itself and for what it proposes."""
    return step(do, **({"estimate": ROOM} | fields))


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
        plan = await house.apply({"a": planner()})
        assert await house.ended(plan) == "completed"
        assert await house.statuses(plan) == dict.fromkeys("abc", "succeeded")
        first, *others = await data_of(house, plan, "transition.proposed")
        assert first["by"] == "local"
        (maker,) = (r.execution_id for r in house.processors.runs.values() if "do" in r.params)
        assert [entry["by"] for entry in others] == [f"execution {maker}"] * 2
        assert all("a" in entry["depends_on"] for entry in others)
        await sound(house, plan)


async def test_a_proposal_is_told_of_the_world_as_it_is_when_it_is_admitted() -> None:
    async with House() as house:
        folder = "/artifacts/outputs/"
        asked = {"name": "artifact.exists@1", "params": {"path": folder}}
        inputs = {"there": {"$world": folder}, "goal": {"$verdict": asked}}
        house.processors.behaviours["plan"] = proposing([child("b", inputs=inputs)])
        plan = await house.apply({"a": planner()})
        assert await house.ended(plan) == "completed"
        (told,) = (r.params for r in house.processors.runs.values() if "there" in r.params)
        assert told["goal"]["verdict"] == "true"
        names = [entry["path"].rpartition("/")[2] for entry in told["there"]]
        assert names == ["outputs.json", "transitions.json"]
        await sound(house, plan)


async def test_a_proposal_that_asks_what_cannot_be_told_is_refused() -> None:
    async with House() as house:
        house.processors.behaviours["plan"] = proposing(
            [child("b", inputs={"there": {"$world": "/ledger/"}})]
        )
        plan = await house.apply({"a": planner()})
        assert await house.ended(plan) == "failed"
        assert await house.statuses(plan) == {"a": "failed"}
        (failed,) = await data_of(house, plan, "transition.failed")
        assert failed["error"]["code"] == "ERR_PLAN_INVALID"


def ask(dimension: str, amount: int) -> dict[str, Any]:
    """A proposal that holds this much of a dimension."""
    return child("b", estimate=ESTIMATE | {dimension: amount})


@pytest.mark.parametrize(
    ("entries", "told"),
    [
        ([ask("usd_micro", 79)], None),
        ([ask("usd_micro", 80)], ("usd_micro", 80, 79)),
        ([ask("usd_micro", 70), child("c")], ("usd_micro", 80, 79)),
        ([ask("tokens", 0)], None),
        ([ask("tokens", 1)], ("tokens", 1, 0)),
        ([ask("gpu_ms", 10**9)], None),
    ],
    ids=["all", "one more", "in sum", "none", "not held", "neither held nor limited"],
)
async def test_proposals_hold_in_sum_what_the_run_that_proposes_has_left(
    entries: list[dict[str, Any]], told: tuple[str, int, int] | None
) -> None:
    limit = {dimension: 10 * amount for dimension, amount in ROOM.items()} | {"tokens": 1000}
    async with House() as house:
        house.processors.behaviours["plan"] = proposing(entries)
        plan = await house.apply({"a": planner()}, budget=limit)
        assert await house.ended(plan) == ("completed" if told is None else "failed")
        failed = await data_of(house, plan, "execution.failed")
        assert [entry["error"]["code"] for entry in failed] == (
            [] if told is None else ["ERR_BUDGET_EXCEEDED"]
        )
        if told is not None:
            stated = dict(zip(("dimension", "ask", "left"), told, strict=True))
            assert failed[0]["error"]["detail"] == stated
            assert await house.statuses(plan) == {"a": "failed"}
        await sound(house, plan)


async def test_what_was_never_measured_leaves_nothing_to_propose_with() -> None:
    async def silent(run: Run) -> dict[str, Any]:
        body = canonicalize({"transitions": [child("b")]})
        return await run.succeed({"transitions.json": body}, usage={})

    async with House() as house:
        house.processors.behaviours["plan"] = [silent]
        plan = await house.apply({"a": planner()})
        assert await house.ended(plan) == "failed"
        (failed,) = await data_of(house, plan, "execution.failed")
        assert failed["error"]["detail"] == {"dimension": "usd_micro", "ask": 10, "left": 0}


async def test_a_proposal_beyond_what_is_left_is_told_once_and_a_smaller_one_is_taken() -> None:
    async with House(registry=listening()) as house:
        house.processors.behaviours["plan"] = proposing([ask("usd_micro", 80)], [child("b")])
        plan = await house.apply({"a": planner(processor_ref="demo/asks@1")})
        assert await house.ended(plan) == "completed"
        (told,) = (
            run.params["refused"]
            for run in house.processors.runs.values()
            if "refused" in run.params
        )
        assert (told["code"], told["transition"]) == ("ERR_BUDGET_EXCEEDED", "b")
        assert "usd_micro ask 80" in told["message"]
        holds = {
            entry["transition"]: entry["hold"]["usd_micro"]
            for entry in await data_of(house, plan, "transition.proposed")
        }
        assert holds == {"a": 80, "a.again": 79, "b": 10}
        await sound(house, plan)


async def test_nobody_is_told_a_refusal_with_nothing_left_to_answer_with() -> None:
    async def all_of_it(run: Run) -> dict[str, Any]:
        body = canonicalize({"transitions": [child("b")]})
        return await run.succeed({"transitions.json": body}, usage={"usd_micro": 80})

    async with House(registry=listening()) as house:
        house.processors.behaviours["plan"] = [all_of_it]
        plan = await house.apply({"a": planner(processor_ref="demo/asks@1")})
        assert await house.ended(plan) == "failed"
        assert await house.statuses(plan) == {"a": "failed"}
        await sound(house, plan)


async def test_each_proposal_reserves_from_the_plans_budget() -> None:
    async with House() as house:
        house.processors.behaviours["plan"] = proposing([child("b"), child("c")])
        plan = await house.apply({"a": planner()})
        await house.ended(plan)
        assert len(await data_of(house, plan, "budget.reserved")) == 3


async def test_proposals_never_run_past_the_limit_of_their_plan() -> None:
    limit = {"usd_micro": 12, "cpu_ms": 10_000, "latency_ms": 60_000, "io_bytes": 10**6}
    own: dict[str, Any]
    for own in ({}, {"estimate": ESTIMATE}, {"estimate": {}}):
        async with House(parallel=64) as house:
            house.processors.behaviours["plan"] = proposing(
                [child(f"k{number}", **own) for number in range(20)]
            )
            plan = await house.apply({"a": planner(estimate=limit)}, budget=limit)
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
        plan = await house.apply({"a": planner()})
        assert await house.ended(plan) == "failed"
        (failed,) = await data_of(house, plan, "execution.failed")
        assert failed["error"]["code"] == code
        assert await house.statuses(plan) == {"a": "failed"}
        await sound(house, plan)


@pytest.mark.parametrize(
    "body",
    [
        b"{}",
        b"[]",
        b"no",
        b'{"transitions":5}',
        b'{"transitions":[{"x":1}]}',
        b'{"transitions":[{"id":5}]}',
    ],
)
async def test_what_is_no_list_of_proposals_fails_the_run(body: bytes) -> None:
    async def behaviour(run: Run) -> dict[str, Any]:
        return await run.succeed({"transitions.json": body})

    async with House() as house:
        house.processors.behaviours["plan"] = [behaviour]
        plan = await house.apply({"a": planner()})
        assert await house.ended(plan) == "failed"
        (failed,) = await data_of(house, plan, "execution.failed")
        assert failed["error"]["code"] == "ERR_PLAN_INVALID"


async def test_a_refusal_is_told_once_and_the_second_answer_is_taken() -> None:
    async with House(registry=listening()) as house:
        house.processors.behaviours["plan"] = proposing(
            [child("b", processor_ref="no/such@1")], [child("b")]
        )
        plan = await house.apply({"a": planner(processor_ref="demo/asks@1")})
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
        plan = await house.apply({"a": planner(processor_ref="demo/asks@1")})
        assert await house.ended(plan) == "failed"
        assert await house.statuses(plan) == {"a": "succeeded", "a.again": "failed"}
        await sound(house, plan)


async def test_a_refusal_is_told_to_nobody_where_its_name_is_taken() -> None:
    async with House(registry=listening()) as house:
        house.processors.behaviours["plan"] = proposing([child("b", processor_ref="no/such@1")])
        plan = await house.apply({"a": planner(processor_ref="demo/asks@1"), "a.again": step()})
        assert await house.ended(plan) == "failed"
        assert (await house.statuses(plan))["a"] == "failed"
        (failed,) = await data_of(house, plan, "execution.failed")
        assert failed["error"]["code"] == "ERR_NOT_FOUND"
        await sound(house, plan)


async def test_a_run_failed_by_its_proposals_has_an_error_envelope_and_our_receipt() -> None:
    async with House() as house:
        house.processors.behaviours["plan"] = proposing([child("b", processor_ref="no/such@1")])
        plan = await house.apply({"a": planner()})
        await house.ended(plan)
        (failed,) = await data_of(house, plan, "execution.failed")
        get = house.disk.artifacts.get
        envelope = loads_strict(await get(failed["envelope"]))
        assert (envelope["status"], envelope["error"]["code"]) == ("error", "ERR_NOT_FOUND")
        receipt = loads_strict(await get(failed["receipt"]))
        assert (receipt["status"], receipt["written_by"]) == ("error", "orchestrator")
        assert (receipt["execution_id"], receipt["usage"]) == (
            failed["execution_id"],
            {"usd_micro": 1},
        )
        (settled,) = await data_of(house, plan, "budget.settled")
        assert (settled["receipt"], settled["actual"]["usd_micro"]) == (failed["receipt"], 1)
        rows = await house.reads.artifacts(plan, "/artifacts/", after="")
        assert {row.path.rpartition("/")[2] for row in rows} == {"determinism.json", "trace.jsonl"}


@pytest.mark.parametrize(
    ("start", "code"),
    [
        (b'{"transitions"', "ERR_ARTIFACT_DIGEST"),
        (b'{"params"', "ERR_NOT_FOUND"),
        (b'{"duration_ms"', "ERR_NOT_FOUND"),
    ],
    ids=["proposals", "inputs", "receipt"],
)
async def test_bytes_that_cannot_be_read_end_their_run_and_nothing_else(
    start: bytes, code: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with House(registry=listening()) as house:
        sound_get, asked = house.disk.artifacts.get, list[str]()

        async def get(cid: str, **most: int) -> bytes:
            body = await sound_get(cid, **most)
            if body.startswith(start) and asked:
                raise TheoryError(code, "rotten", {})
            return body

        async def rotting(run: Run) -> dict[str, Any]:
            asked.append(run.execution_id)
            entry = child("b", processor_ref="no/such@1")
            return await run.succeed({"transitions.json": canonicalize({"transitions": [entry]})})

        monkeypatch.setattr(house.disk.artifacts, "get", get)
        house.processors.behaviours["plan"] = [rotting]
        plan = await house.apply({"a": planner(processor_ref="demo/asks@1")})
        assert await house.ended(plan) == "failed"
        (failed,) = await data_of(house, plan, "execution.failed")
        assert failed["error"]["code"] == code
        assert house.engine.fault is None
        await sound(house, plan)
        asked.clear()
        other = await house.apply({"z": step()}, plan="p2")
        assert await house.ended(other) == "completed"


@pytest.mark.parametrize("receipt", ["sound", "rotten"])
async def test_a_registry_that_cannot_be_read_ends_the_run_that_proposes_and_nothing_else(
    receipt: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with House() as house:
        get, asked, sound_get = house.registry.get, list[str](), house.disk.artifacts.get

        async def unread(snapshot_id: str) -> RegistrySnapshot:
            if asked:
                if receipt == "rotten":
                    monkeypatch.setattr(house.disk.artifacts, "get", rotten)
                raise TheoryError("ERR_ARTIFACT_DIGEST", "rotten", {})
            return await get(snapshot_id)

        async def rotten(cid: str, **most: int) -> bytes:
            body = await sound_get(cid, **most)
            if asked and body.startswith(b'{"duration_ms"') and b'"processor"' in body:
                raise TheoryError("ERR_NOT_FOUND", "gone", {})
            return body

        async def rotting(run: Run) -> dict[str, Any]:
            asked.append(run.execution_id)
            body = canonicalize({"transitions": [child("b")]})
            return await run.succeed({"transitions.json": body})

        monkeypatch.setattr(house.registry, "get", unread)
        house.processors.behaviours["plan"] = [rotting]
        plan = await house.apply({"a": planner()})
        assert await house.ended(plan) == "failed"
        (failed,) = await data_of(house, plan, "execution.failed")
        assert failed["error"]["code"] == "ERR_ARTIFACT_DIGEST"
        (run,) = house.processors.runs.values()
        unknown = "cpu:unknown;memory:unknown;platform:unknown;runtime:unknown"
        expected = run.payload["env_fingerprint"] if receipt == "sound" else unknown
        ours = loads_strict(await house.disk.artifacts.get(failed["receipt"]))
        assert (ours["env_fingerprint"], ours["written_by"]) == (expected, "orchestrator")
        told = validate_envelope(loads_strict(await house.disk.artifacts.get(failed["envelope"])))
        assert told["meta"]["env_fingerprint"] == expected
        assert house.engine.fault is None
        await sound(house, plan)
        asked.clear()
        other = await house.apply({"z": step()}, plan="p2")
        assert await house.ended(other) == "completed"


@pytest.mark.parametrize(("room", "outcome"), [(5, "failed"), (6, "completed")])
async def test_a_plan_takes_proposals_up_to_its_cap_of_transitions(
    room: int, outcome: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proposal, "LIMITS", {**LIMITS, "transitions_per_plan": room})
    async with House() as house:
        house.processors.behaviours["plan"] = proposing([child("d"), child("e"), child("f")])
        plan = await house.apply({"a": planner(), "b": step(), "c": step()})
        assert await house.ended(plan) == outcome
        assert len(await house.statuses(plan)) == (3 if outcome == "failed" else 6)


async def test_others_have_turns_while_many_proposals_are_judged(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    turns, judged, known = [0], list[int](), list[Any]()

    def resolve(*args: Any, **fields: Any) -> planning.Planned:  # noqa: ANN401 - handed on
        judged.append(turns[0])
        known.append(fields["known"])
        return planning.resolve(*args, **fields)

    async def others() -> None:
        while True:
            turns[0] += 1
            await asyncio.sleep(0)

    monkeypatch.setattr(under_test, "resolve", resolve)
    async with House() as house:
        house.processors.behaviours["plan"] = proposing([child(f"k{n}") for n in range(100)])
        beside = asyncio.create_task(others())
        room = {dimension: 101 * amount for dimension, amount in ESTIMATE.items()}
        plan = await house.apply({"a": planner(estimate=room)}, budget=room)
        await house.ended(plan)
        beside.cancel()
        assert len(judged) == 100
        assert max(Counter(judged).values()) <= 16
        assert all(names is known[0] for names in known)


async def test_an_attempt_that_fails_its_success_predicates_has_proposed_nothing() -> None:
    retry = {
        "max_attempts": 3,
        "backoff_ms": [1],
        "jitter_permille": 0,
        "retry_on": ["ERR_PREDICATE_FAILED"],
    }
    asked = [{"name": "artifact.exists@1", "params": {"path": "outputs/ok"}}]
    for second in ("b", "c"):
        async with House(registry=snapshot(retry=retry)) as house:

            async def well(run: Run, name: str = second) -> dict[str, Any]:
                body = canonicalize({"transitions": [child(name)]})
                return await run.succeed({"ok": b"1", "transitions.json": body})

            house.processors.behaviours["plan"] = [*proposing([child("b")]), well]
            plan = await house.apply({"a": planner(predicates={"success": asked})})
            assert await house.ended(plan) == "completed"
            assert await house.statuses(plan) == dict.fromkeys(("a", second), "succeeded")
            await sound(house, plan)


async def test_a_run_whose_breach_fails_its_plan_adds_nothing_to_it() -> None:
    async def dear(run: Run) -> dict[str, Any]:
        body = canonicalize({"transitions": [child("b")]})
        return await run.succeed({"transitions.json": body}, usage={"usd_micro": 1, "tokens": 5})

    async with House() as house:
        house.processors.behaviours["plan"] = [dear]
        plan = await house.apply({"a": planner()}, budget=ROOM | {"tokens": 10})
        assert await house.ended(plan) == "failed"
        assert await house.statuses(plan) == {"a": "succeeded"}
        await sound(house, plan)


async def test_what_no_longer_fits_when_it_is_decided_is_judged_anew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with House() as house:
        house.processors.behaviours["plan"] = proposing([child("b")])
        plan = await house.apply({"a": planner()})
        raced = list[str]()
        submit, stored = house.engine.submit, house.disk.artifacts.put

        async def put(body: bytes) -> Blob:
            if body == canonicalize({"schema": "v1", "params": {}}) and not raced:
                raced.append(plan)
                await submit(cmd.ProposeTransition(plan=plan, by="me", proposal=other("b")))
            return await stored(body)

        monkeypatch.setattr(house.disk.artifacts, "put", put)
        assert await house.ended(plan) == "failed"
        assert raced
        (failed,) = await data_of(house, plan, "execution.failed")
        assert failed["error"]["code"] == "ERR_CONFLICT"
        await sound(house, plan)


def other(name: str) -> cmd.Proposal:
    """What somebody else proposes meanwhile."""
    prefix = "/artifacts/outputs/other/{execution_id}/"
    return cmd.Proposal(
        transition=name,
        processor_ref="demo/echo@1",
        mode="mock",
        inputs=digest(canonicalize({"schema": "v1", "params": {}})),
        write_prefix=prefix,
        write_set=(SelectorSpec(kind="prefix", path=prefix),),
        hold=ESTIMATE,
        timeout_ms=1000,
    )


async def test_a_crash_after_any_commit_finds_all_of_the_proposals_or_none() -> None:
    found = set[tuple[str, ...]]()
    for commits in range(1, 12):
        first = House()
        await first.engine.start()
        first.processors.behaviours["plan"] = proposing([child("b"), child("c")])
        first.truth.let(commits)
        plan = await first.apply({"a": planner()})
        for _ in range(5):
            await settle()
        present = tuple(await first.statuses(plan))
        found.add(present)
        first.truth.faults = [(TheoryError("ERR_STORAGE", "gone", {}), False)] * 100
        first.truth.gate.set()
        async with House(disk=await first.crash()) as second:
            second.processors.behaviours["plan"] = proposing([child("b"), child("c")])
            assert await second.ended(plan) == "completed"
            assert await second.statuses(plan) == dict.fromkeys("abc", "succeeded")
            assert len(await data_of(second, plan, "transition.proposed")) == 3
            await sound(second, plan)
    assert found == {("a",), ("a", "b", "c")}


async def _turn() -> None:
    """Nothing: the clock's helper lets everything else run."""


async def test_a_plan_that_is_cancelled_meanwhile_takes_no_more() -> None:
    async def late(run: Run) -> dict[str, Any]:
        await run.stopped.wait()
        return await run.succeed({"transitions.json": canonicalize({"transitions": [child("b")]})})

    async with House() as house:
        house.processors.behaviours["plan"] = [late]
        plan = await house.apply({"a": planner()})
        await until(house.clock, _turn())
        await house.plans.cancel(plan, by="me", reason="enough")
        assert await house.ended(plan) == "cancelled"
        assert list(await house.statuses(plan)) == ["a"]
