from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from datetime import timedelta

import asyncpg
import pytest

from theory_api.adapters.conftest import MIGRATIONS
from theory_api.adapters.sql.postgres import migrate
from theory_api.adapters.sql.postgres.truth import PostgresTruth
from theory_api.tests.postgres import Cluster
from theory_api.tests.proxy import Proxy

DEADLINE_S = 0.8


@pytest.fixture
async def url(postgres: Cluster) -> str:
    """A database of this version."""
    made = postgres.database()
    await migrate.upgrade(made, MIGRATIONS)
    return made


@pytest.fixture
async def admin(url: str) -> AsyncIterator[asyncpg.Connection]:
    """Somebody else's connection, with every right."""
    connection = await asyncpg.connect(url)
    yield connection
    await connection.close()


@pytest.fixture
async def proxy(url: str) -> AsyncIterator[Proxy]:
    made = await Proxy.to(url)
    yield made
    await made.close()


Making = Callable[..., PostgresTruth]


@pytest.fixture
async def store() -> AsyncIterator[Making]:
    """Makes stores that give up soon, and closes them."""
    made: list[PostgresTruth] = []

    def make(url: str, *, lease_s: float = 5.0) -> PostgresTruth:
        lease = timedelta(seconds=lease_s)
        made.append(PostgresTruth(url, lease=lease, deadline_s=DEADLINE_S))
        return made[-1]

    yield make
    for one in made:
        await one.close()
