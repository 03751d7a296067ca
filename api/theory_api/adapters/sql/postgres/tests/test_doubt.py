"""A link that fails at the worst moment: a batch is whole or absent, and the store knows which."""

from __future__ import annotations

import asyncio
import contextlib

import asyncpg
import pytest

from theory_api.adapters.conftest import MIGRATIONS, Story
from theory_api.adapters.sql.postgres import migrate
from theory_api.adapters.sql.postgres.tests.conftest import Making
from theory_api.adapters.sql.postgres.truth import WRITER, PostgresTruth
from theory_api.adapters.tests.conftest import refused
from theory_api.domain import events as ev
from theory_api.ports.truth import Append, IdempotencyRow
from theory_api.tests.postgres import cluster
from theory_api.tests.proxy import Link, Proxy
from theory_core import TheoryError

OPEN = """
SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid()
  AND (state LIKE 'idle in transaction%' OR now() - xact_start > interval '1 second')
"""
HOLD = "SELECT 1 FROM shard WHERE id = 's0' FOR UPDATE"


async def begun(
    making: Making, proxy: Proxy, url: str, story: Story
) -> tuple[PostgresTruth, int, Link]:
    """A store with one plan, and the link that it appends over."""
    store = making(proxy.through(url))
    epoch = await store.claim("s0", "o1")
    await store.append([story.created(tokens=10)], shard="s0", epoch=epoch)
    before = [link.up for link in proxy.links]
    await store.append([pause(story)], shard="s0", epoch=epoch)
    (link,) = (link for link, sent in zip(proxy.links, before, strict=True) if link.up > sent + 100)
    return store, epoch, link


def pause(story: Story) -> Append:
    return story.append(ev.PlanPaused(by="local", reason="x"))


@pytest.mark.scenario(2, 9)
async def test_a_commit_whose_answer_is_swallowed_counts(
    store: Making, proxy: Proxy, url: str, story: Story
) -> None:
    """Scenario 2 and 9: the commit is there, and is found; nobody is told that it failed."""
    truth, epoch, link = await begun(store, proxy, url, story)
    link.swallow_down = True
    await truth.append([pause(story)], shard="s0", epoch=epoch)
    assert await truth.events(story.plan) == story.stored
    await truth.append([pause(story)], shard="s0", epoch=epoch)
    assert await truth.events(story.plan) == story.stored


@pytest.mark.scenario(2)
async def test_an_answered_request_without_events_is_found_too(
    store: Making, proxy: Proxy, url: str, story: Story
) -> None:
    truth, epoch, link = await begun(store, proxy, url, story)
    link.swallow_down = True
    request = IdempotencyRow("acme", "k", "b3:0", b'{"a":1}')
    await truth.append([], shard="s0", epoch=epoch, idempotency=[request])
    assert await truth.idempotency("acme", "k") == request


@pytest.mark.scenario(8, 9)
@pytest.mark.parametrize("how", ["swallowed", "cut"])
async def test_a_batch_that_never_arrived_is_absent_and_can_be_sent_again(
    store: Making, proxy: Proxy, url: str, story: Story, how: str
) -> None:
    """Scenarios 8 and 9: a deadline that is not the driver's ends it."""
    truth, epoch, link = await begun(store, proxy, url, story)
    if how == "swallowed":
        link.swallow_up = True
    else:
        link.cut()
    batch = [pause(story)]
    await refused("ERR_UNAVAILABLE", truth.append(batch, shard="s0", epoch=epoch))
    assert await truth.events(story.plan) == story.stored[:-1]
    await truth.append(batch, shard="s0", epoch=epoch)
    assert await truth.events(story.plan) == story.stored


@pytest.mark.scenario(8)
async def test_a_batch_that_waits_in_the_server_is_ended_before_it_is_called_absent(
    store: Making, proxy: Proxy, url: str, story: Story, admin: asyncpg.Connection
) -> None:
    """What was not there when the store looked cannot come later."""
    truth, epoch, _ = await begun(store, proxy, url, story)
    holding = admin.transaction()
    await holding.start()
    await admin.execute(HOLD)
    batch = [pause(story)]
    await refused("ERR_UNAVAILABLE", truth.append(batch, shard="s0", epoch=epoch))
    await holding.rollback()
    await asyncio.sleep(0.2)
    assert await truth.events(story.plan) == story.stored[:-1]
    await truth.append(batch, shard="s0", epoch=epoch)
    assert await truth.events(story.plan) == story.stored


@pytest.mark.scenario(8)
async def test_a_session_that_the_server_ends_is_replaced(
    store: Making, proxy: Proxy, url: str, story: Story, admin: asyncpg.Connection
) -> None:
    truth, epoch, _ = await begun(store, proxy, url, story)
    ended = await admin.fetchval(
        "SELECT pg_terminate_backend(pid, 1000) FROM pg_stat_activity"
        " WHERE datname = current_database() AND application_name = $1",
        WRITER,
    )
    assert ended
    batch = [pause(story)]
    with contextlib.suppress(TheoryError):  # or it is told that the session is over
        await truth.append(batch, shard="s0", epoch=epoch)
    if await truth.events(story.plan) != story.stored:
        await truth.append(batch, shard="s0", epoch=epoch)
    assert await truth.events(story.plan) == story.stored
    backend = await admin.fetchval("SELECT backend FROM shard_lease WHERE shard = 's0'")
    alive = await admin.fetchval(
        "SELECT application_name FROM pg_stat_activity WHERE pid = $1", backend
    )
    assert alive == WRITER, "a successor finds the session that appends now"


@pytest.mark.scenario(10)
async def test_a_cancelled_caller_leaves_no_transaction_open(
    store: Making, proxy: Proxy, url: str, story: Story, admin: asyncpg.Connection
) -> None:
    """Scenario 10."""
    truth, epoch, _ = await begun(store, proxy, url, story)
    for turn in range(12):
        batch = [pause(story)]
        task = asyncio.create_task(truth.append(batch, shard="s0", epoch=epoch))
        await asyncio.sleep(0.0005 * turn)
        task.cancel()
        await asyncio.wait({task})
        if (await truth.events(story.plan))[-1].seq != story.seq:
            await truth.append(batch, shard="s0", epoch=epoch)
    assert await admin.fetchval(OPEN) == 0
    assert await truth.events(story.plan) == story.stored


@pytest.mark.scenario(8)
async def test_while_the_server_is_away_nothing_is_written_and_afterwards_all_goes_on(
    store: Making, story: Story
) -> None:
    with cluster() as own:
        url = own.database()
        await migrate.upgrade(url, MIGRATIONS)
        truth = store(url)
        epoch = await truth.claim("s0", "o1")
        await truth.append([story.created()], shard="s0", epoch=epoch)
        own.stop()
        batch = [pause(story)]
        await refused("ERR_UNAVAILABLE", truth.append(batch, shard="s0", epoch=epoch))
        await refused("ERR_UNAVAILABLE", truth.events(story.plan))
        await refused("ERR_UNAVAILABLE", truth.renew("s0", epoch))
        own.start()
        await truth.renew("s0", epoch)
        await truth.append(batch, shard="s0", epoch=epoch)
        assert await truth.events(story.plan) == story.stored
        await truth.close()
