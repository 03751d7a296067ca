"""Tables that long tests print when everything is over: what was tried, how often, what broke."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

import pytest

Table = Callable[[str, Iterable[Iterable[object]]], None]

_TABLES: Final = pytest.StashKey[list[tuple[str, list[list[str]]]]]()


@pytest.fixture
def table(pytestconfig: pytest.Config) -> Table:
    """Takes a title and rows, the first of them the heads."""
    kept = pytestconfig.stash.setdefault(_TABLES, [])

    def add(title: str, rows: Iterable[Iterable[object]]) -> None:
        kept.append((title, [[str(cell) for cell in row] for row in rows]))

    return add


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print every table, as Markdown."""
    for title, rows in terminalreporter.config.stash.get(_TABLES, []):
        terminalreporter.write_line(f"\n{title}\n")
        for number, row in enumerate(rows):
            terminalreporter.write_line(f"| {' | '.join(row)} |")
            if number == 0:
                terminalreporter.write_line("|" + " --- |" * len(row))
