"""What tests of several rooms need: a PostgreSQL, once for a whole run."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from theory_api.tests.postgres import Cluster, binaries, cluster


@pytest.fixture(scope="session")
def postgres() -> Iterator[Cluster]:
    """A server for this process's tests; without PostgreSQL they are skipped, but never in CI."""
    if binaries() is None:
        if os.environ.get("CI"):
            pytest.fail("PostgreSQL is not installed: .ci/run installs it")
        pytest.skip("PostgreSQL is not installed: nothing here was tested on it")
    with cluster() as running:
        yield running
