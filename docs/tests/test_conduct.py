"""The rules of conduct name tests, and the tests that they name are there."""

import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "source" / "spec" / "run-conduct.md"
RULE = re.compile(
    r"^\((RC-[0-9]+)\)=\n\*\*\1\*\* (.+?)\n\nTests: (.+?)\n\n", re.MULTILINE | re.DOTALL
)
NAME = re.compile(r"^(?:async )?def (test_\w+)", re.MULTILINE)
RULES = RULE.findall(PAGE.read_text("utf-8") + "\n")


@cache
def known() -> frozenset[str]:
    """Names of all tests of the runtime and of the control plane."""
    rooms = (ROOT / "processors" / "runtime", ROOT / "api" / "theory_api")
    files = (file for room in rooms for file in room.rglob("test_*.py"))
    return frozenset(name for file in files for name in NAME.findall(file.read_text("utf-8")))


def test_the_rules_are_numbered_from_1() -> None:
    assert [rule[0] for rule in RULES] == [f"RC-{number}" for number in range(1, len(RULES) + 1)]
    assert len(RULES) == PAGE.read_text("utf-8").count("(RC-") > 20


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: str(rule[0]))
def test_a_rule_names_tests_and_they_are_there(rule: tuple[str, str, str]) -> None:
    named = [name.strip() for name in rule[2].split(",")]
    assert all(re.fullmatch(r"`test_\w+`", name) for name in named)
    assert [name for name in named if name.strip("`") not in known()] == []
    assert len(set(named)) == len(named)
