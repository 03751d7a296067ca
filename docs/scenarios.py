"""The page of scenarios in Markdown: what goes wrong, what is seen, which tests show it."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
STATED: Final = ROOT / "docs" / "source" / "reference" / "scenarios.toml"
ROOMS: Final = ("api/theory_api", "core-rs/tests", "docs", "processors")
"""Where tests in Python lie."""

CRATE: Final = "core-rs/theory-core/tests"
"""Where tests in Rust lie; one names its scenarios in the first line of its comment."""

_RUST: Final = re.compile(
    r"^[ ]*/// Scenarios? (\d+(?:, \d+)*)\.\n(?:^[ ]*(?:///|#\[).*\n)*^[ ]*fn (\w+)", re.MULTILINE
)


@dataclass(frozen=True, slots=True)
class Scenario:
    """Something that goes wrong."""

    number: int
    title: str
    outcome: str
    """What somebody outside observes then."""


def page() -> str:
    """Every scenario with its tests.

    Raises `LookupError` for a scenario that no test shows, and for a test of one that is not there.
    """
    shown: dict[int, list[str]] = {scenario.number: [] for scenario in stated()}
    for number, test in sorted(marked()):
        if number not in shown:
            message = f"{test} shows scenario {number}, which {STATED.name} does not have"
            raise LookupError(message)
        shown[number].append(test)
    without = [number for number, tests in shown.items() if not tests]
    if without:
        message = f"scenarios that no test shows: {without}"
        raise LookupError(message)
    lines = ["| | scenario | what is seen | shown by |", "|---|---|---|---|"]
    for scenario in stated():
        tests = "<br>".join(f"`{test}`" for test in shown[scenario.number])
        cells = (str(scenario.number), scenario.title, scenario.outcome, tests)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def stated() -> list[Scenario]:
    """The scenarios of the data file, in their order; raises `ValueError` for another order."""
    entries = tomllib.loads(STATED.read_text(encoding="utf-8"))["scenario"]
    found = [Scenario(**entry) for entry in entries]
    numbers = [scenario.number for scenario in found]
    if numbers != sorted(set(numbers)):
        message = f"{STATED.name}: scenarios stand in the order of their numbers, each once"
        raise ValueError(message)
    return found


def marked() -> Iterator[tuple[int, str]]:
    """(scenario, test) of every mark."""
    for room in ROOMS:
        for file in (ROOT / room).rglob("test_*.py"):
            yield from python(file.read_text(encoding="utf-8"), file.relative_to(ROOT).as_posix())
    for file in (ROOT / CRATE).rglob("*.rs"):
        for numbers, name in _RUST.findall(file.read_text(encoding="utf-8")):
            for number in numbers.split(", "):
                yield int(number), f"{file.relative_to(ROOT).as_posix()}::{name}"


def python(text: str, place: str) -> Iterator[tuple[int, str]]:
    """(scenario, test) of the marks of one file.

    Raises `LookupError` for a mark that is not a decorator of a test: it would show nothing.
    """
    if "mark.scenario" not in text:
        return
    tree = ast.parse(text)
    seen = 0
    for node in tree.body:
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        for mark in node.decorator_list:
            if isinstance(mark, ast.Call) and ast.unparse(mark.func) == "pytest.mark.scenario":
                seen += 1
                for number in mark.args:
                    yield int(ast.unparse(number)), f"{place}::{node.name}"
    uses = sum(
        isinstance(node, ast.Attribute) and ast.unparse(node) == "pytest.mark.scenario"
        for node in ast.walk(tree)
    )
    if seen != uses:
        message = f"{place}: a scenario is marked on a test function, by a decorator with numbers"
        raise LookupError(message)
