"""A connection that waits for its first append has nothing open, however long it waits."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest

from theory_api.adapters.conftest import Story
from theory_api.adapters.sql.postgres import line
from theory_api.adapters.sql.postgres.tests.conftest import Making
from theory_api.adapters.sql.postgres.truth import WRITER

STANDING = """
SELECT state, xact_start FROM pg_stat_activity
WHERE application_name = $1 AND datname = current_database()
"""


async def test_a_connection_that_was_opened_has_no_transaction_open(
    store: Making, url: str, admin: asyncpg.Connection
) -> None:
    await store(url).claim("s0", "o1")
    (found,) = await admin.fetch(STANDING, WRITER)
    assert (found["state"], found["xact_start"]) == ("idle", None)


async def test_the_first_append_may_come_later_than_a_statement_may_take(
    store: Making, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(line, "SESSION", {**line.SESSION, "statement_timeout": "500"})
    truth, story = store(url), Story("/world/acme/p1")
    epoch = await truth.claim("s0", "o1")
    await asyncio.sleep(0.7)
    await truth.append([story.created()], shard="s0", epoch=epoch)
    assert await truth.events(story.plan) == story.stored
