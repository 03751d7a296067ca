from __future__ import annotations

import asyncio
import base64

import pytest

from theory_api.services.queries import address
from theory_api.services.tests.house import Script, document, house
from theory_core import TheoryError, WorldPath, canonicalize, digest, loads_strict


async def test_a_finished_plan_shows_its_budget_steps_attempts_and_outputs() -> None:
    async with house() as home:
        plan = await home.finish(document(budget={"cpu_ms": 100_000, "tokens": 100_000}))
        view = await home.queries.show(plan)
    assert (view.plan, view.status, view.lane, view.error) == (plan, "completed", "build", None)
    lines = {line.dimension: line for line in view.budget}
    assert (lines["cpu_ms"].spent, lines["cpu_ms"].reserved) == (10, 0)
    assert lines["cpu_ms"].headroom == 100_000 - 10
    assert (lines["latency_ms"].limit, lines["latency_ms"].headroom) == (None, None)
    assert [entry.transition for entry in view.transitions] == ["first", "second"]
    (attempt,) = view.transitions[0].executions
    assert (attempt.status, attempt.attempt) == ("succeeded", 1)
    assert attempt.spent is not None
    assert attempt.spent["cpu_ms"] == 5
    assert attempt.reserved["cpu_ms"] == 30_000
    prefixes = [entry.executions[0].write_prefix for entry in view.transitions]
    assert sorted(output.path for output in view.outputs) == sorted(
        f"{prefix}outputs/a.txt" for prefix in prefixes
    )
    assert all(output.uri == f"world://local/p1{output.path}" for output in view.outputs)
    assert view.outputs_complete


async def test_a_failed_plan_shows_why() -> None:
    async with house(Script(fails="ERR_INPUTS")) as home:
        plan = await home.finish(document())
        view = await home.queries.show(plan)
        waiting = (await home.queries.why(plan)).waiting
    assert view.status == "failed"
    assert view.error is not None
    assert view.outputs == []
    assert view.transitions[0].error_code == "ERR_INPUTS"
    assert [(entry.transition, entry.status) for entry in waiting] == [
        ("first", "failed"),
        ("second", "skipped"),
    ]
    assert "ERR_INPUTS" in waiting[0].reason


async def test_why_tells_what_each_step_waits_for_while_another_runs() -> None:
    gate = asyncio.Event()
    async with house(Script(gate=gate)) as home:
        plan = await home.apply(document())
        await home.adapter.began.wait()
        found = await home.queries.why(plan)
        assert found.status == "active"
        assert [entry.condition for entry in found.waiting] == [
            "transition.applying",
            "dependency.satisfied",
        ]
        gate.set()
        await home.engine.wait(plan)
        assert (await home.queries.why(plan)).waiting == []


async def test_plans_are_listed_in_pages_without_loss_or_repetition() -> None:
    names = [f"p{index}" for index in range(7)]
    async with house() as home:
        for name in names:
            await home.finish(document(name, "only"))
        found: list[str] = []
        after = None
        while True:
            page = await home.queries.plans(tenant="local", after=after, limit=3)
            found += [plan.plan for plan in page.plans]
            after = page.next
            if after is None:
                break
        assert found == [f"/world/local/{name}" for name in names]
        assert (await home.queries.plans(tenant="acme")).plans == []
        assert len((await home.queries.plans(tenant="local", status="completed")).plans) == 7


@pytest.mark.parametrize("limit", [0, -1, 1001, 10**9])
async def test_a_limit_out_of_range_is_refused(limit: int) -> None:
    async with house() as home:
        for asked in (
            home.queries.plans(limit=limit),
            home.queries.events("/world/local/p1", limit=limit),
            home.queries.artifacts("/world/local/p1", limit=limit),
        ):
            with pytest.raises(TheoryError) as caught:
                await asked
            assert caught.value.code == "ERR_INPUTS"


async def test_events_page_by_seq_and_end_at_the_head() -> None:
    async with house() as home:
        plan = await home.finish(document())
        head = await home.queries.head(plan)
        seqs: list[int] = []
        after: int | None = 0
        while after is not None:
            page = await home.queries.events(plan, after=after, limit=5)
            seqs += [entry.event.seq for entry in page.events]
            after = page.next_after
        assert seqs == list(range(1, head.seq + 1))
        last = (await home.queries.events(plan, after=head.seq - 1)).events[0]
        assert (last.hash, last.event.kind) == (head.hash, "plan.completed")
        assert (await home.queries.events(plan, after=head.seq)).events == []


async def test_an_absent_plan_is_not_found_by_every_question() -> None:
    async with house() as home:
        absent = "/world/local/absent"
        questions = (
            home.queries.show(absent),
            home.queries.why(absent),
            home.queries.events(absent),
            home.queries.head(absent),
            home.queries.artifacts(absent),
            home.queries.artifact(absent, "/artifacts/x"),
            home.ledgers.verify(absent),
            home.worlds.at(absent + "/plan"),
        )
        for question in questions:
            with pytest.raises(TheoryError) as caught:
                await question
            assert caught.value.code == "ERR_NOT_FOUND"


async def test_an_artifact_is_read_by_its_path_and_by_no_path_of_another_plan() -> None:
    async with house() as home:
        plan = await home.finish(document("p1", "only"))
        other = await home.finish(document("p2", "only"))
        listed = await home.queries.artifacts(plan)
        output = next(item for item in listed.artifacts if item.path.endswith("/outputs/a.txt"))
        content = await home.queries.artifact(plan, output.path)
        pieces = [piece async for piece in content.stream(0, None)]
        assert (b"".join(pieces), content.artifact.cid) == (b"hello", digest(b"hello"))
        assert (await home.queries.artifact(plan, output.uri)).artifact == output
        with pytest.raises(TheoryError) as caught:
            await home.queries.artifact(other, output.uri)
        assert caught.value.code == "ERR_NOT_FOUND"
        with pytest.raises(TheoryError) as caught:
            await home.queries.artifact(plan, "/artifacts/../x")
        assert caught.value.code == "ERR_DOT_SEGMENTS"


async def test_artifacts_are_listed_in_pages() -> None:
    many = {f"outputs/{index:02}.txt": b"x" for index in range(12)}
    async with house(Script(outputs=many)) as home:
        plan = await home.finish(document("p1", "only"))
        found: list[str] = []
        after: str | None = ""
        while after is not None:
            page = await home.queries.artifacts(plan, after=after, limit=4)
            found += [item.path for item in page.artifacts]
            after = page.next_after
        assert found == sorted(found)
        assert len([path for path in found if "/outputs/" in path[20:]]) >= 12
        with pytest.raises(TheoryError) as caught:
            await home.queries.artifacts(plan, "/artifacts/outputs")
        assert caught.value.code == "ERR_SELECTOR_KIND_MISMATCH"


async def test_the_export_is_canonical_and_verifies_and_a_kept_head_anchors_it() -> None:
    async with house() as home:
        plan = await home.finish(document())
        lines = [line async for line in home.ledgers.export(plan)]
        assert all(canonicalize(loads_strict(line)) + b"\n" == line for line in lines)
        head = await home.queries.head(plan)
        verdict = await home.ledgers.verify(plan)
        assert (verdict.count, verdict.fault, verdict.anchored) == (len(lines), None, False)
        assert verdict.verdict == f"{len(lines)} events, internally consistent, not anchored"
        assert (verdict.head.seq, verdict.head.hash) == (head.seq, head.hash)
        anchored = await home.ledgers.verify(plan, expect_head=(head.seq, head.hash))
        assert anchored.anchored
        lawful = await home.ledgers.verify(plan, laws=True)
        assert (lawful.count, lawful.fault, lawful.laws) == (len(lines), None, "judged")
        assert (verdict.laws, verdict.head) == ("not asked", lawful.head)
        wrong = await home.ledgers.verify(plan, expect_head=(head.seq, "b3:" + "0" * 64))
        assert wrong.fault is not None
        assert wrong.fault.reason == "head"
        tail = [line async for line in home.ledgers.export(plan, after=3)]
        assert tail == lines[3:]


async def test_the_world_answers_every_address_of_a_plan() -> None:
    async with house() as home:
        plan = await home.finish(document("p1", "only"))
        execution = home.adapter.invoked[0]
        addresses = {
            f"{plan}/plan": "plan",
            f"{plan}/plan/budget": "budget",
            f"{plan}/plan/policy": "policy",
            f"{plan}/plan/transitions/only": "transition",
            f"{plan}/ledger/1": "event",
            f"{plan}/artifacts/": "artifacts",
            f"{plan}/artifacts/execution/{execution}/trace.jsonl": "artifact",
            WorldPath(f"{plan}/plan").uri: "plan",
        }
        for path, kind in addresses.items():
            view = await home.worlds.at(path)
            assert view.kind == kind
            assert canonicalize(view.value)
        for path in ("plan/transitions/absent", "ledger/0", "ledger/01", "ledger/999", "plan/x"):
            with pytest.raises(TheoryError) as caught:
                await home.worlds.at(f"{plan}/{path}")
            assert caught.value.code == "ERR_NOT_FOUND"


@pytest.mark.parametrize(
    "text", ["", "p1", "/world/local", "/world/local/p1/x", "/world/Local/p1", "/world/local/.."]
)
def test_a_text_that_is_no_plan_address_is_not_found(text: str) -> None:
    with pytest.raises(TheoryError) as caught:
        address(text)
    assert caught.value.code == "ERR_NOT_FOUND"


AUDIO = "/streams/effectors/mouth/audio"


def spoken(index: int, data: bytes, stream: str = AUDIO) -> dict[str, object]:
    text = base64.b64encode(data).decode()
    return {"stream": stream, "index": index, "mime": "audio/L16", "data": text}


async def test_the_world_shows_what_streamed_by_which_execution() -> None:
    frames = (spoken(0, b"ab"), spoken(0, b"x", "/streams/eye"), spoken(1, b"cde"))
    async with house(Script(frames=frames)) as home:
        plan = await home.finish(document())
        below = await home.worlds.at(f"{plan}/streams/")
        assert (below.kind, below.value["next_after"]) == ("streams", None)
        assert [row["path"] for row in below.value["streams"]] == [AUDIO, "/streams/eye"] * 2
        view = await home.worlds.at(f"{plan}{AUDIO}")
        assert (view.kind, view.path) == ("stream", f"{plan}{AUDIO}")
        rows = view.value["streams"]
        assert [row["transition"] for row in rows] == ["first", "second"]
        assert [row["execution_id"] for row in rows] == home.adapter.invoked
        for row in rows:
            assert (row["frames"], row["size_bytes"], row["attempt"]) == (2, 5, 1)
            assert row["digest"] == digest(b"abcde")
            assert row["uri"] == f"world://local/p1{AUDIO}"
            event = await home.worlds.at(f"{plan}/ledger/{row['seq']}")
            assert event.value["event"]["kind"] == "stream.sealed"
        later = await home.worlds.at(f"{plan}{AUDIO}", after=str(rows[0]["seq"]))
        assert later.value["streams"] == rows[1:]
        none = await home.worlds.at(f"{plan}/streams/ear/")
        assert none.value["streams"] == []
        lawful = await home.ledgers.verify(plan, laws=True)
        assert (lawful.fault, lawful.laws) == (None, "judged")


@pytest.mark.parametrize(
    ("path", "after", "code"),
    [
        ("/streams/ear", "", "ERR_NOT_FOUND"),
        ("/streams", "", "ERR_NOT_FOUND"),
        ("/streams/", "x", "ERR_INPUTS"),
        ("/streams/", "-1", "ERR_INPUTS"),
        ("/streams/", "9" * 16, "ERR_INPUTS"),
    ],
)
async def test_an_address_at_which_nothing_streamed_has_nothing(
    path: str, after: str, code: str
) -> None:
    async with house(Script(frames=(spoken(0, b"ab"),))) as home:
        plan = await home.finish(document("p1", "only"))
        with pytest.raises(TheoryError) as caught:
            await home.worlds.at(plan + path, after=after)
        assert caught.value.code == code
    async with house() as home:
        with pytest.raises(TheoryError) as caught:
            await home.worlds.at("/world/local/ghost/streams/")
        assert caught.value.code == "ERR_NOT_FOUND"
