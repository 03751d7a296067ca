"""What every truth store promises about a batch: all or nothing, on the expected head."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from theory_api.adapters.conftest import Story
from theory_api.adapters.tests.conftest import Machine, claimed, refused, rows
from theory_api.domain import events as ev
from theory_api.ports.truth import IdempotencyRow
from theory_core import verify


async def test_what_was_appended_is_read_back_byte_for_byte(machine: Machine, story: Story) -> None:
    store, epoch = await claimed(machine)
    await store.append([story.created(tokens=10)], shard="s0", epoch=epoch)
    batch = [story.append(story.proposed("a"), *story.started("a", tokens=4))]
    await store.append(batch, shard="s0", epoch=epoch)
    assert await store.events(story.plan) == story.stored
    assert await machine.read.events(story.plan) == story.stored
    assert await store.events(story.plan, after=2, limit=2) == story.stored[2:4]
    assert await machine.read.events(story.plan, after=4) == story.stored[4:]
    assert verify(story.export()).fault is None


@pytest.mark.scenario(3)
async def test_a_batch_over_several_plans_is_all_or_nothing(
    machine: Machine, tell: Callable[[str], Story]
) -> None:
    store, epoch = await claimed(machine)
    one, two = tell("/world/acme/one"), tell("/world/acme/two")
    await store.append([one.created(), two.created()], shard="s0", epoch=epoch)
    before = [await rows(machine.read, plan.plan) for plan in (one, two)]
    good = one.append(ev.PlanPaused(by="local", reason="x"))
    bad = replace(two.append(ev.PlanPaused(by="local", reason="x")), expected_seq=0)
    request = IdempotencyRow("acme", "k", "b3:0", b"{}")
    appending = store.append([good, bad], shard="s0", epoch=epoch, idempotency=[request])
    await refused("ERR_CONFLICT", appending)
    assert [await rows(machine.read, plan.plan) for plan in (one, two)] == before
    assert await store.events(one.plan) == one.stored[:1]
    assert await store.idempotency("acme", "k") is None
    await store.append([good], shard="s0", epoch=epoch, idempotency=[request])
    assert await store.idempotency("acme", "k") == request


@pytest.mark.scenario(4)
async def test_a_head_that_moved_is_a_conflict_and_nothing_is_written(
    machine: Machine, story: Story, tell: Callable[[str], Story]
) -> None:
    store, epoch = await claimed(machine)
    rival = tell(story.plan)
    await store.append([story.created(tokens=10)], shard="s0", epoch=epoch)
    rival.created(tokens=10)
    pause = story.append(ev.PlanPaused(by="local", reason="first"))
    await store.append([pause], shard="s0", epoch=epoch)
    late = rival.append(ev.PlanPaused(by="local", reason="second"))
    error = await refused("ERR_CONFLICT", store.append([late], shard="s0", epoch=epoch))
    assert error.detail == {"plan": story.plan, "expected": 1, "head": 2}
    assert await store.events(story.plan) == story.stored


async def test_the_same_batch_twice_is_a_conflict(machine: Machine, story: Story) -> None:
    store, epoch = await claimed(machine)
    await store.append([story.created()], shard="s0", epoch=epoch)
    pause = story.append(ev.PlanPaused(by="local", reason="x"))
    await store.append([pause], shard="s0", epoch=epoch)
    await refused("ERR_CONFLICT", store.append([pause], shard="s0", epoch=epoch))
    assert await store.events(story.plan) == story.stored


async def test_a_plan_exists_once(
    machine: Machine, story: Story, tell: Callable[[str], Story]
) -> None:
    store, epoch = await claimed(machine)
    await store.append([story.created()], shard="s0", epoch=epoch)
    again = tell(story.plan).created(tokens=1)
    await refused("ERR_CONFLICT", store.append([again], shard="s0", epoch=epoch))
    unknown = tell("/world/acme/ghost")
    unknown.created()
    lost = unknown.append(ev.PlanPaused(by="local", reason="x"))
    await refused("ERR_CONFLICT", store.append([lost], shard="s0", epoch=epoch))


@pytest.mark.scenario(27)
async def test_events_that_do_not_follow_each_other_are_refused(
    machine: Machine, story: Story, tell: Callable[[str], Story]
) -> None:
    store, epoch = await claimed(machine)
    created = story.created()
    pause = story.append(ev.PlanPaused(by="local", reason="x"))
    gap = replace(created, events=(*created.events, replace(pause.events[0], seq=3)))
    await refused("ERR_CONFLICT", store.append([gap], shard="s0", epoch=epoch))
    foreign = replace(created, events=tell("/world/acme/p2").created().events)
    await refused("ERR_CONFLICT", store.append([foreign], shard="s0", epoch=epoch))
    empty = replace(created, events=())
    await refused("ERR_CONFLICT", store.append([empty], shard="s0", epoch=epoch))
    twice = store.append([created, created], shard="s0", epoch=epoch)
    await refused("ERR_CONFLICT", twice)
    assert await store.events(story.plan) == []


@pytest.mark.scenario(65, 66)
async def test_the_database_itself_refuses_a_reserve_beyond_the_limit(
    machine: Machine, story: Story
) -> None:
    store, epoch = await claimed(machine)
    await store.append([story.created(tokens=10)], shard="s0", epoch=epoch)
    await store.append(
        [story.append(story.proposed("a"), story.proposed("b"), *story.started("a", tokens=6))],
        shard="s0",
        epoch=epoch,
    )
    before = await rows(machine.read, story.plan)
    beyond = story.append(*story.started("b", tokens=5))
    await refused("ERR_BUDGET_EXCEEDED", store.append([beyond], shard="s0", epoch=epoch))
    assert await rows(machine.read, story.plan) == before


@pytest.mark.scenario(65)
async def test_a_reserve_that_fills_the_limit_exactly_is_taken(
    machine: Machine, story: Story
) -> None:
    store, epoch = await claimed(machine)
    await store.append([story.created(tokens=10)], shard="s0", epoch=epoch)
    reserve = story.append(story.proposed("a"), *story.started("a", tokens=10, cpu_ms=2**53 - 1))
    await store.append([reserve], shard="s0", epoch=epoch)
    assert [(row.reserved, row.limit) for row in await machine.read.balance(story.plan)] == [
        (2**53 - 1, None),
        (10, 10),
    ]


@pytest.mark.scenario(67)
async def test_a_settle_of_more_than_the_hold_is_booked_as_it_is(
    machine: Machine, story: Story
) -> None:
    store, epoch = await claimed(machine)
    await store.append([story.created(tokens=10)], shard="s0", epoch=epoch)
    hold, actual = {"tokens": 10}, {"tokens": 25}
    events = (*story.started("a", **hold), *story.settled("a", hold=hold, actual=actual))
    await store.append([story.append(story.proposed("a"), *events)], shard="s0", epoch=epoch)
    (row,) = await machine.read.balance(story.plan)
    assert (row.limit, row.reserved, row.spent) == (10, 0, 25)


@pytest.mark.scenario(65)
async def test_a_balance_never_becomes_negative(machine: Machine, story: Story) -> None:
    store, epoch = await claimed(machine)
    await store.append([story.created(tokens=10)], shard="s0", epoch=epoch)
    unheld = story.append(
        story.proposed("a"),
        *story.started("a", tokens=1),
        *story.settled("a", hold={"tokens": 2}, actual={"tokens": 2}),
    )
    await refused("ERR_BUDGET_EXCEEDED", store.append([unheld], shard="s0", epoch=epoch))


@pytest.mark.scenario(70)
async def test_a_top_up_counts_before_the_moves_of_its_batch(
    machine: Machine, story: Story
) -> None:
    store, epoch = await claimed(machine)
    await store.append([story.created(tokens=1)], shard="s0", epoch=epoch)
    more = ev.BudgetToppedUp(amount={"tokens": 9}, limit={"tokens": 10}, by="local")
    batch = [story.append(more, story.proposed("a"), *story.started("a", tokens=10))]
    await store.append(batch, shard="s0", epoch=epoch)
    (row,) = await machine.read.balance(story.plan)
    assert (row.limit, row.reserved) == (10, 10)


async def test_a_change_of_a_row_that_is_not_there_is_refused(
    machine: Machine, story: Story
) -> None:
    store, epoch = await claimed(machine)
    await store.append([story.created()], shard="s0", epoch=epoch)
    ghost = story.append(ev.TransitionSkipped(transition="ghost", because="a"))
    await refused("ERR_CONFLICT", store.append([ghost], shard="s0", epoch=epoch))
    assert await store.events(story.plan) == story.stored[:1]


async def test_a_projection_with_an_unknown_column_is_refused(
    machine: Machine, story: Story
) -> None:
    store, epoch = await claimed(machine)
    await store.append([story.created()], shard="s0", epoch=epoch)
    pause = story.append(ev.PlanPaused(by="local", reason="x"))
    pause.changes.plan["surprise"] = 1
    await refused("ERR_INTERNAL", store.append([pause], shard="s0", epoch=epoch))


@pytest.mark.scenario(88)
async def test_an_answer_is_stored_once(machine: Machine, story: Story) -> None:
    store, epoch = await claimed(machine)
    request = IdempotencyRow("acme", "k", "b3:0", b'{"a":"\x00"}')
    created = story.created()
    await store.append([created], shard="s0", epoch=epoch, idempotency=[request])
    assert await store.idempotency("acme", "k") == request
    assert await store.idempotency("other", "k") is None
    pause = story.append(ev.PlanPaused(by="local", reason="x"))
    again = store.append([pause], shard="s0", epoch=epoch, idempotency=[request])
    await refused("ERR_IDEMPOTENCY_IN_FLIGHT", again)
    assert await store.events(story.plan) == story.stored[:1]


async def test_requests_commit_without_any_event(machine: Machine) -> None:
    store, epoch = await claimed(machine)
    request = IdempotencyRow("acme", "k", "b3:0", b"{}")
    await store.append([], shard="s0", epoch=epoch, idempotency=[request])
    assert await store.idempotency("acme", "k") == request
