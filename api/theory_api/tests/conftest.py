"""What tests of whole servers need: their places, and databases to kill."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from theory_api.tests.driving import places
from theory_api.tests.postgres import Cluster, binaries, cluster


@pytest.fixture(scope="module")
def durable() -> Iterator[Cluster]:
    """A database server that keeps fsync on, of a module's own: it is killed, too."""
    if binaries() is None:
        if os.environ.get("CI"):
            pytest.fail("PostgreSQL is not installed: .ci/run installs it")
        pytest.skip("PostgreSQL is not installed: nothing here was tested on it")
    with cluster(durable=True) as running:
        yield running


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """The environment of a server that has a processor of the tests."""
    kept = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
    return kept | places(tmp_path / "places")


@pytest.fixture(params=["SQLite", "PostgreSQL"])
def database(request: pytest.FixtureRequest) -> tuple[str, Cluster | None]:
    """The name of a database, and the server that it needs, if any."""
    if request.param == "SQLite":
        return "SQLite", None
    running: Cluster = request.getfixturevalue("durable")
    return "PostgreSQL", running
