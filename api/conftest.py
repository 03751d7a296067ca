"""What tests of several rooms need: a PostgreSQL, moments by a seed, tables of the outcome."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from typing import Final

import pytest
import structlog

from theory_api.tests.postgres import Cluster, binaries, cluster
from theory_api.tests.tables import Table

_TABLES: Final = pytest.StashKey[list[tuple[str, list[list[str]]]]]()


@pytest.fixture(scope="session")
def postgres() -> Iterator[Cluster]:
    """A server for this process's tests; without PostgreSQL they are skipped, but never in CI."""
    if binaries() is None:
        if os.environ.get("CI"):
            pytest.fail("PostgreSQL is not installed: .ci/run installs it")
        pytest.skip("PostgreSQL is not installed: nothing here was tested on it")
    with cluster() as running:
        yield running


@pytest.fixture(autouse=True)
def _logging_ends_with_its_test() -> Iterator[None]:
    """What a server configured in one test does not filter the log of another."""
    before, configured = structlog.get_config(), structlog.is_configured()
    yield
    if configured:
        structlog.configure(**before)
    else:
        structlog.reset_defaults()


@pytest.fixture
def draw() -> random.Random:
    """Moments, from a seed that is printed; THEORY_SEED repeats them."""
    seed = int(os.environ.get("THEORY_SEED", "0")) or random.SystemRandom().randrange(2**32)
    print("seed", seed)  # noqa: T201 - shown when the test fails
    return random.Random(seed)  # noqa: S311 - moments, not secrets


@pytest.fixture
def table(pytestconfig: pytest.Config) -> Table:
    """Takes a title and rows, the first of them the heads; printed when everything is over."""
    kept = pytestconfig.stash.setdefault(_TABLES, [])
    return lambda title, rows: kept.append((title, [[str(cell) for cell in row] for row in rows]))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print every table, as Markdown."""
    for title, rows in terminalreporter.config.stash.get(_TABLES, []):
        terminalreporter.write_line(f"\n{title}\n")
        for number, row in enumerate(rows):
            terminalreporter.write_line(f"| {' | '.join(row)} |")
            if number == 0:
                terminalreporter.write_line("|" + " --- |" * len(row))
