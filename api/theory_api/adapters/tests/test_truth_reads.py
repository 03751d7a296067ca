"""What every truth store promises about the rows that follow from its events."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from theory_api.adapters.conftest import CID, Story
from theory_api.adapters.tests.conftest import Machine, claimed, refused, rows
from theory_api.domain import events as ev
from theory_api.domain.projection import project
from theory_api.services import streams
from theory_api.services.streams import sealed
from theory_core import WorldPath


async def test_projections_follow_the_events(machine: Machine, story: Story) -> None:
    store, epoch = await claimed(machine)
    hold, actual = {"tokens": 4}, {"tokens": 3, "cpu_ms": 7}
    for append in (
        story.created(tokens=10),
        story.append(story.proposed("a"), story.proposed("b"), *story.started("a", **hold)),
        story.append(*story.settled("a", hold=hold, actual=actual)),
    ):
        await store.append([append], shard="s0", epoch=epoch)
    read = machine.read
    plan = await read.plan(story.plan)
    last = story.stored[-1]
    assert (plan.head_seq, plan.head_hash, plan.updated_at) == (last.seq, last.hash, last.at)
    assert (plan.tenant, plan.status, plan.created_at) == ("acme", "active", story.stored[0].at)
    assert [
        (row.dimension, row.limit, row.reserved, row.spent)
        for row in await read.balance(story.plan)
    ] == [
        ("cpu_ms", None, 0, 7),
        ("tokens", 10, 0, 3),
    ]
    assert [(row.transition, row.status) for row in await read.transitions(story.plan)] == [
        ("a", "succeeded"),
        ("b", "pending"),
    ]
    (run,) = await read.executions(story.plan, transition="a")
    assert (run.status, run.hold, run.actual) == ("succeeded", hold, actual)
    assert await read.execution(run.execution_id, plan=story.plan) == run
    (artifact,) = await read.artifacts(story.plan, run.write_prefix)
    assert artifact == await read.artifact(story.plan, run.write_prefix + "outputs/a.txt")
    assert artifact.execution_id == run.execution_id


async def test_open_plans_are_those_that_have_not_ended_oldest_first(
    machine: Machine, tell: Callable[[str], Story]
) -> None:
    store, epoch = await claimed(machine)
    stories = [tell(f"/world/acme/{name}") for name in ("z", "m", "a")]
    for number, one in enumerate(stories):
        append = one.created()
        append.changes.plan["created_at"] = f"2026-11-21T04:2{number}:00.000000Z"
        await store.append([append], shard="s0", epoch=epoch)
    ended = stories[1].append(stories[1].failed())
    await store.append([ended], shard="s0", epoch=epoch)
    assert await store.open_plans("s0") == ["/world/acme/z", "/world/acme/a"]
    assert (await machine.read.plan("/world/acme/m")).error_code == "ERR_PREDICATE_FAILED"
    await refused("ERR_NOT_WRITER", machine.store().open_plans("s0"))


@pytest.mark.scenario(74)
async def test_rebuilt_projections_equal_the_live_ones(machine: Machine, story: Story) -> None:
    store, epoch = await claimed(machine)
    hold, actual = {"tokens": 4, "cpu_ms": 9}, {"tokens": 6}
    for append in (
        story.created(tokens=10),
        story.append(story.proposed("a"), story.proposed("b"), *story.started("a", **hold)),
        story.append(*story.settled("a", hold=hold, actual=actual)),
        story.append(ev.BudgetToppedUp(amount={"tokens": 9}, limit={"tokens": 19}, by="local")),
        story.append(*story.started("b", tokens=13)),
        story.append(ev.PlanPaused(by="local", reason="x")),
    ):
        await store.append([append], shard="s0", epoch=epoch)
    live = await rows(machine.read, story.plan)
    whole = project(story.plan, story.told)
    await store.replace_projections(story.plan, whole, shard="s0", epoch=epoch)
    assert await rows(machine.read, story.plan) == live
    missing = store.replace_projections("/world/acme/ghost", whole, shard="s0", epoch=epoch)
    await refused("ERR_NOT_FOUND", missing)
    late = store.replace_projections(story.plan, whole, shard="s0", epoch=epoch - 1)
    await refused("ERR_NOT_WRITER", late)
    after = story.append(ev.PlanResumed(by="local", reason="x"))
    await store.append([after], shard="s0", epoch=epoch)


async def test_an_erased_artifact_is_gone_and_may_come_back(machine: Machine, story: Story) -> None:
    store, epoch = await claimed(machine)
    hold = {"tokens": 4}
    await store.append([story.created()], shard="s0", epoch=epoch)
    events = (*story.started("a", **hold), *story.settled("a", hold=hold, actual=hold))
    await store.append([story.append(story.proposed("a"), *events)], shard="s0", epoch=epoch)
    (found,) = await machine.read.artifacts(story.plan, "/artifacts/")
    erased = story.append(ev.PlanPaused(by="local", reason="x"))
    erased.changes.artifacts[found.path] = None
    await store.append([erased], shard="s0", epoch=epoch)
    assert await machine.read.artifact(story.plan, found.path) is None
    again = story.append(ev.PlanResumed(by="local", reason="x"))
    columns = {name: getattr(found, name) for name in found.__slots__ if name != "path"}
    again.changes.artifacts[found.path] = columns
    await store.append([again], shard="s0", epoch=epoch)
    assert await machine.read.artifact(story.plan, found.path) == found


async def test_artifacts_are_listed_by_the_bytes_of_their_path(
    machine: Machine, story: Story
) -> None:
    store, epoch = await claimed(machine)
    created = story.created()
    names = ["a/b", "a.b", "a0", "ab/c", "a/b/c", "a/é", "a/\U0001f600", "a/\uffee"]
    for name in names:
        created.changes.artifacts[f"/artifacts/{name}"] = {
            "cid": "b3:",
            "size_bytes": 2**36,
            "mime": "text/plain",
            "execution_id": None,
            "seq": 1,
        }
    await store.append([created], shard="s0", epoch=epoch)
    read = machine.read
    below = [row.path for row in await read.artifacts(story.plan, "/artifacts/a/")]
    expected = sorted((f"/artifacts/{name}" for name in names if name[1] == "/"), key=str.encode)
    assert below == expected
    assert len(await read.artifacts(story.plan, "/artifacts/")) == len(names)
    page = await read.artifacts(story.plan, "/artifacts/a/", after=below[1], limit=1)
    assert [row.path for row in page] == below[2:3]
    jumped = await read.artifacts(story.plan, "/artifacts/", after="/artifacts/a/\U0010ffff")
    assert [row.path for row in jumped] == ["/artifacts/a0", "/artifacts/ab/c"]


async def test_plans_are_listed_in_pages_by_tenant_and_status(
    machine: Machine, tell: Callable[[str], Story]
) -> None:
    store, epoch = await claimed(machine)
    for name in ("/world/acme/b", "/world/acme/a", "/world/beta/a", "/world/acme/c"):
        one = tell(name)
        await store.append([one.created()], shard="s0", epoch=epoch)
        if name.endswith("c"):
            await store.append([one.append(one.failed())], shard="s0", epoch=epoch)
    read = machine.read
    assert [row.plan for row in await read.plans(limit=2)] == ["/world/acme/a", "/world/acme/b"]
    assert [row.plan for row in await read.plans(after="/world/acme/b")] == [
        "/world/acme/c",
        "/world/beta/a",
    ]
    assert [row.plan for row in await read.plans(tenant="beta")] == ["/world/beta/a"]
    failed = await read.plans(tenant="acme", status="failed")
    assert [row.plan for row in failed] == ["/world/acme/c"]


async def test_what_is_not_there_is_not_found(machine: Machine) -> None:
    read = machine.read
    await refused("ERR_NOT_FOUND", read.plan("/world/acme/ghost"))
    await refused("ERR_NOT_FOUND", read.execution("x1", plan="/world/acme/ghost"))
    assert await read.balance("/world/acme/ghost") == []
    assert await read.transitions("/world/acme/ghost") == []
    assert await read.executions("/world/acme/ghost") == []
    assert await read.events("/world/acme/ghost") == []
    assert await read.artifacts("/world/acme/ghost", "/artifacts/") == []
    assert await read.artifact("/world/acme/ghost", "/artifacts/a") is None


async def test_events_of_one_kind_are_found_in_order_and_in_pages(
    machine: Machine, story: Story
) -> None:
    store, epoch = await claimed(machine)
    about = story.about("a")
    seals = [
        ev.StreamSealed(path=f"/streams/{name}", digest=CID, count=1, bytes=number, **about)
        for number, name in enumerate(["mouth/audio", "eye", "mouth/text"])
    ]
    for append in (
        story.created(),
        story.append(story.proposed("a"), *story.started("a", tokens=1)),
        story.append(seals[0], seals[1]),
        story.append(story.proposed("b"), seals[2]),
    ):
        await store.append([append], shard="s0", epoch=epoch)
    read = machine.read
    expected = [event for event in story.stored if event.kind == "stream.sealed"]
    assert await read.events(story.plan, kind="stream.sealed") == expected
    assert await read.events(story.plan, kind="stream.sealed", limit=2) == expected[:2]
    after = expected[0].seq
    assert await read.events(story.plan, kind="stream.sealed", after=after) == expected[1:]
    assert await read.events(story.plan, kind="segment.sealed") == []
    assert await read.events(story.plan) == story.stored
    below = await sealed(read, WorldPath(f"{story.plan}/streams/mouth/"))
    assert [(row.path, row.size_bytes, row.seq) for row in below.streams] == [
        ("/streams/mouth/audio", 0, expected[0].seq),
        ("/streams/mouth/text", 2, expected[2].seq),
    ]
    exact = await sealed(read, WorldPath(f"{story.plan}/streams/eye"))
    assert [(row.execution_id, row.frames) for row in exact.streams] == [(about["execution_id"], 1)]


async def test_streams_are_listed_in_pages_however_many_others_lie_between(
    machine: Machine, story: Story, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "PAGE", 2)
    monkeypatch.setattr(streams, "_LOOKS", 2)
    store, epoch = await claimed(machine)
    about = story.about("a")
    names = ["a", *("b" for _ in range(6)), "a", "a", "a"]
    seals = [
        ev.StreamSealed(path=f"/streams/{name}", digest=CID, count=1, bytes=1, **about)
        for name in names
    ]
    await store.append([story.created()], shard="s0", epoch=epoch)
    begun = (story.proposed("a"), *story.started("a", tokens=1), *seals)
    await store.append([story.append(*begun)], shard="s0", epoch=epoch)
    found: list[int] = []
    pages, after = 0, ""
    while pages == 0 or after:
        page = await sealed(machine.read, WorldPath(f"{story.plan}/streams/a"), after)
        found += [row.seq for row in page.streams]
        pages, after = pages + 1, page.next_after or ""
    expected = [event.seq for event in story.stored if b'"/streams/a"' in event.body]
    assert (found, len(expected), pages > 2) == (expected, 4, True)
