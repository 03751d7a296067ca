"""What tests of whole servers need: places, databases to kill, seeds, and tables of the outcome."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final

import pytest

from theory_api.tests.driving import places
from theory_api.tests.postgres import Cluster, binaries, cluster

Table = Callable[[str, Iterable[Iterable[object]]], None]

_TABLES: Final = pytest.StashKey[list[tuple[str, list[list[str]]]]]()


@pytest.fixture
def table(pytestconfig: pytest.Config) -> Table:
    """Takes a title and rows, the first of them the heads."""
    kept = pytestconfig.stash.setdefault(_TABLES, [])

    def add(title: str, rows: Iterable[Iterable[object]]) -> None:
        kept.append((title, [[str(cell) for cell in row] for row in rows]))

    return add


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


@pytest.fixture
def draw() -> random.Random:
    """Moments, from a seed that is printed; THEORY_SEED repeats them."""
    seed = int(os.environ.get("THEORY_SEED", "0")) or random.SystemRandom().randrange(2**32)
    print("seed", seed)  # noqa: T201 - shown when the test fails
    return random.Random(seed)  # noqa: S311 - moments, not secrets


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print every table, as Markdown."""
    for title, rows in terminalreporter.config.stash.get(_TABLES, []):
        terminalreporter.write_line(f"\n{title}\n")
        for number, row in enumerate(rows):
            terminalreporter.write_line(f"| {' | '.join(row)} |")
            if number == 0:
                terminalreporter.write_line("|" + " --- |" * len(row))
