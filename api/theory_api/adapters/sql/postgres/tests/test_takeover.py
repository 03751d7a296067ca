"""Who takes a shard over, when, and what becomes of the one before."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest

from theory_api.adapters.conftest import Story
from theory_api.adapters.sql.postgres.tests.conftest import Making
from theory_api.adapters.sql.postgres.truth import WRITER
from theory_api.adapters.tests.conftest import refused
from theory_api.domain import events as ev
from theory_core import TheoryError

STALE = "UPDATE shard_lease SET renewed_at = 'epoch'"


async def test_a_fresh_lease_is_respected_and_one_that_was_not_renewed_is_not(
    store: Making, url: str
) -> None:
    first, second = store(url, lease_s=0.5), store(url, lease_s=0.5)
    epoch = await first.claim("s0", "o1")
    for _ in range(8):
        await first.renew("s0", epoch)
        await refused("ERR_NOT_WRITER", second.claim("s0", "o2"))
        await asyncio.sleep(0.1)
    await asyncio.sleep(0.6)
    assert await second.claim("s0", "o2") == epoch + 1
    await refused("ERR_NOT_WRITER", first.renew("s0", epoch))
    await refused("ERR_NOT_WRITER", first.claim("s0", "o1"))


@pytest.mark.scenario(5)
async def test_of_many_that_claim_a_stale_shard_one_gets_it(
    store: Making, url: str, admin: asyncpg.Connection
) -> None:
    """Scenario 5: no two owners, whoever comes first."""
    for turn in range(4):
        claimants = [store(url) for _ in range(8)]
        claims = [one.claim("s0", f"o{turn}-{n}") for n, one in enumerate(claimants)]
        answers = await asyncio.gather(*claims, return_exceptions=True)
        assert sorted(str(answer) for answer in answers if isinstance(answer, int)) == [
            str(turn + 1)
        ]
        codes = {answer.code for answer in answers if isinstance(answer, TheoryError)}
        assert codes == {"ERR_NOT_WRITER"}
        await admin.execute(STALE)
        for one in claimants:
            await one.close()
        await admin.execute(STALE)


@pytest.mark.scenario(6)
async def test_a_transaction_that_the_last_owner_left_open_is_ended(
    store: Making, url: str, story: Story, admin: asyncpg.Connection
) -> None:
    """Scenario 6: an owner stopped inside its transaction keeps nobody out."""
    heir = store(url, lease_s=0.2)
    old = await heir.claim("s0", "o1")
    await heir.append([story.created()], shard="s0", epoch=old)
    await heir.close()
    asleep = await asyncpg.connect(url, server_settings={"application_name": WRITER})
    await admin.execute("UPDATE shard SET owner = 'asleep'")
    await admin.execute(
        "INSERT INTO shard_lease VALUES ('s0', $1, 'asleep', $2, 'epoch')",
        old,
        asleep.get_server_pid(),
    )
    await asleep.execute("BEGIN")
    await asleep.execute("SELECT 1 FROM shard WHERE id = 's0' AND epoch = $1 FOR SHARE", old)
    successor = store(url)
    successor_epoch = await successor.claim("s0", "o2")
    assert successor_epoch == old + 1
    with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError, OSError)):
        await asleep.execute("COMMIT")
    pause = story.append(ev.PlanPaused(by="local", reason="x"))
    await successor.append([pause], shard="s0", epoch=successor_epoch)
    assert await successor.events(story.plan) == story.stored
    asleep.terminate()


async def test_a_session_of_somebody_else_is_never_ended(
    store: Making, url: str, admin: asyncpg.Connection
) -> None:
    """A process id that was used again belongs to a stranger."""
    first = store(url)
    await first.claim("s0", "o1")
    stranger = await asyncpg.connect(url, server_settings={"application_name": "psql"})
    pid = stranger.get_server_pid()
    await admin.execute("UPDATE shard_lease SET renewed_at = 'epoch', backend = $1", pid)
    assert await store(url).claim("s0", "o2") == 2
    assert await stranger.fetchval("SELECT 1") == 1
    await stranger.close()


async def test_a_released_shard_is_free_at_once(store: Making, url: str) -> None:
    first, second = store(url), store(url)
    epoch = await first.claim("s0", "o1")
    await first.release("s0", epoch)
    assert await second.claim("s0", "o2") == epoch + 1
    await second.close()
    assert await first.claim("s0", "o1") == epoch + 2
