"""What every truth store promises about who may write."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from theory_api.adapters.conftest import Story
from theory_api.adapters.tests.conftest import Machine, Store, claimed, refused
from theory_api.domain import events as ev
from theory_api.ports.truth import Append


@pytest.mark.scenario(5)
async def test_only_one_process_writes(machine: Machine) -> None:
    first, epoch = await claimed(machine)
    second: Store = machine.store()
    await refused("ERR_NOT_WRITER", second.claim("s0", "o2"))
    await first.release("s0", epoch)
    assert await second.claim("s0", "o2") == epoch + 1


async def test_another_owner_in_the_same_process_is_refused(machine: Machine) -> None:
    store, epoch = await claimed(machine)
    await refused("ERR_NOT_WRITER", store.claim("s0", "o2"))
    assert await store.claim("s0", "o1") == epoch + 1


async def test_shards_have_epochs_of_their_own(
    machine: Machine, tell: Callable[[str], Story]
) -> None:
    store, _ = await claimed(machine)
    assert await store.claim("s0", "o1") == 2
    assert await store.claim("s1", "o1") == 1
    one, two = tell("/world/acme/one"), tell("/world/acme/two")
    await store.append([one.created()], shard="s0", epoch=2)
    await store.append([two.created()], shard="s1", epoch=1)
    assert await store.open_plans("s0") == [one.plan]
    assert await store.open_plans("s1") == [two.plan]
    stray = two.append(ev.PlanPaused(by="local", reason="x"))
    await refused("ERR_CONFLICT", store.append([stray], shard="s0", epoch=2))


@pytest.mark.scenario(6)
async def test_an_owner_whose_epoch_is_over_writes_nothing(machine: Machine, story: Story) -> None:
    zombie, old = await claimed(machine)
    await zombie.append([story.created()], shard="s0", epoch=old)
    await machine.kill(zombie)
    heir, epoch = await claimed(machine, "o2")
    assert epoch == old + 1
    pause = story.append(ev.PlanPaused(by="local", reason="x"))
    error = await refused("ERR_NOT_WRITER", zombie.append([pause], shard="s0", epoch=old))
    assert error.detail == {"shard": "s0", "epoch": old, "current": epoch}
    assert await heir.events(story.plan) == story.stored[:1]
    await heir.append([pause], shard="s0", epoch=epoch)


async def test_a_zombie_s_release_does_not_touch_its_heir(machine: Machine, story: Story) -> None:
    zombie, old = await claimed(machine)
    await machine.kill(zombie)
    heir, epoch = await claimed(machine, "o2")
    await zombie.release("s0", old)
    await heir.append([story.created()], shard="s0", epoch=epoch)


async def test_nothing_works_without_a_claim(machine: Machine, story: Story) -> None:
    store: Store = machine.store()
    await refused("ERR_NOT_WRITER", store.append([story.created()], shard="s0", epoch=1))
    await refused("ERR_NOT_WRITER", store.events(story.plan))
    await refused("ERR_NOT_WRITER", store.open_plans("s0"))
    await refused("ERR_NOT_WRITER", store.idempotency("acme", "k"))


async def test_release_and_close_are_idempotent(machine: Machine) -> None:
    store, epoch = await claimed(machine)
    await store.release("s0", epoch)
    await store.release("s0", epoch)
    assert await store.claim("s0", "o1") == epoch + 1
    await store.close()
    await store.close()
    await refused("ERR_UNAVAILABLE", store.claim("s0", "o1"))
    assert await machine.store().claim("s0", "o2") == epoch + 2


@pytest.mark.scenario(10)
async def test_a_cancelled_append_is_whole_or_absent(machine: Machine, story: Story) -> None:
    store, epoch = await claimed(machine)
    await store.append([story.created()], shard="s0", epoch=epoch)
    for turn in range(20):
        batch: list[Append] = [
            story.append(*(ev.PlanPaused(by="local", reason=str(n)) for n in range(50)))
        ]
        task = asyncio.create_task(store.append(batch, shard="s0", epoch=epoch))
        for _ in range(turn % 4):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait({task})
        count = len(await store.events(story.plan, limit=10_000))
        assert count in {batch[0].expected_seq, story.seq}
        if count != story.seq:
            await store.append(batch, shard="s0", epoch=epoch)
    assert await store.events(story.plan, limit=10_000) == story.stored
