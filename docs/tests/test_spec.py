"""The specification names vectors for each rule, all of them hold, and its examples run."""

import doctest
import importlib.util
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import jsonschema_rs
import pytest

from theory_core import UNICODE

ROOT = Path(__file__).resolve().parents[2]
SPEC = ROOT / "docs" / "source" / "spec"
VECTORS = ROOT / "core-rs" / "vectors"
PREFIXES = {
    "canonical-json": "CJ",
    "digest": "DG",
    "worldpath": "WP",
    "ledger-chain": "LC",
    "ledger-laws": "LL",
    "envelope": "EN",
    "run-v1": "RV",
}
UNRULED = {"errors/catalogue"}
"""Files that no rule of these pages names: the reference of error codes has them."""


class Rule(NamedTuple):
    page: str
    name: str
    text: str
    vectors: list[tuple[str, int]]


def load_judge() -> ModuleType:
    spec = importlib.util.spec_from_file_location("judge_of_spec", VECTORS / "judge.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


JUDGE = load_judge()


def parse(page: str, text: str) -> Iterator[Rule]:
    """The rules of a page: a target, the rule, and a last paragraph with its vectors."""
    blocks = re.split(r"^\(([A-Z]+-[0-9]+)\)=$", text, flags=re.MULTILINE)
    for name, block in zip(blocks[1::2], blocks[2::2], strict=True):
        body = re.split(r"^#", block, maxsplit=1, flags=re.MULTILINE)[0].strip()
        rule, _, rest = body.partition("\n\n")
        listed = rest.split("\n\n")[0]
        yield Rule(page, name, rule, list(ids(listed)) if listed.startswith("Vectors: ") else [])


def ids(listed: str) -> Iterator[tuple[str, int]]:
    """`json/text#1-3`, `json/text#7` and so on, as file and id."""
    references = listed.removeprefix("Vectors: ").split(",")
    for reference in references:
        found = re.fullmatch(r"`([a-z_./]+)#([0-9]+)(?:-([0-9]+))?`", reference.strip())
        assert found is not None, f"no reference to vectors: {reference}"
        first = int(found[2])
        last = int(found[3] or first)
        assert found[3] is None or first < last, f"no range: {reference}"
        yield from ((found[1], number) for number in range(first, last + 1))


def faults(rule: Rule) -> Iterator[str]:
    """What is wrong with a rule."""
    if not rule.text.startswith(f"**{rule.name}** "):
        yield "does not begin with its number"
    if not rule.vectors:
        yield "names no vector"
    if len(set(rule.vectors)) != len(rule.vectors):
        yield "names a vector twice"
    for file, number in rule.vectors:
        if (problem := vector_fault(file, number)) is not None:
            yield f"names {file}#{number}, which {problem}"


def vector_fault(file: str, number: int) -> str | None:
    if file not in JUDGE.files():
        return "does not exist"
    if (case := JUDGE.cases(file).get(number)) is not None:
        problem = JUDGE.fault(file, case)
        return None if problem is None else f"does not hold: {problem}"
    if (case := schema_cases(file).get(number)) is None:
        return "does not exist"
    return None if schema_agrees(file, case) else "does not hold: the schema says otherwise"


def groups(file: str) -> dict[str, list[dict[str, Any]]]:
    document = json.loads((VECTORS / f"{file}.json").read_text("ascii"))
    return {group["type"]: group["tests"] for group in document["testGroups"]}


def schema_cases(file: str) -> dict[int, dict[str, Any]]:
    """Changes of an event's data, judged by the closed schema of its kind or family."""
    return {case["tcId"]: case for case in groups(file).get("schema", ())}


@cache
def validator(file: str) -> jsonschema_rs.Draft202012Validator:
    kind = VECTORS / f"{file}.schema.json"
    family = VECTORS / f"{file.partition('.')[0]}.schema.json"
    text = (kind if kind.exists() else family).read_text("ascii")
    return jsonschema_rs.Draft202012Validator(json.loads(text))


def schema_agrees(file: str, case: dict[str, Any]) -> bool:
    event = groups(file)["sealed"][0]["event"]
    removed = case.get("remove", ())
    data = {name: value for name, value in event["data"].items() if name not in removed}
    changed = {**event, "data": {**data, **case.get("change", {})}}
    accepted: bool = validator(file).is_valid(changed)
    expected: bool = case["result"] == "valid"
    return accepted == expected


RULES = [
    rule for page in PREFIXES for rule in parse(page, (SPEC / f"{page}.md").read_text("utf-8"))
]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_a_rule_has_vectors_and_they_hold(rule: Rule) -> None:
    assert list(faults(rule)) == []


@pytest.mark.parametrize("page", PREFIXES)
def test_the_rules_of_a_page_are_numbered_from_1(page: str) -> None:
    names = [rule.name for rule in RULES if rule.page == page]
    assert names == [f"{PREFIXES[page]}-{number}" for number in range(1, len(names) + 1)]
    assert len(names) >= 4


def test_every_page_is_read() -> None:
    ruled = {path.stem for path in SPEC.glob("*.md") if "\nVectors: " in path.read_text("utf-8")}
    assert ruled == set(PREFIXES)


def test_every_vector_shows_a_rule() -> None:
    shown = {vector for rule in RULES for vector in rule.vectors}
    files = [file for file in JUDGE.files() if not file.startswith("events/")]
    every = {(file, number) for file in files for number in JUDGE.cases(file)}
    assert sorted(vector for vector in every - shown if vector[0] not in UNRULED) == []


@pytest.mark.parametrize(
    ("page", "problem"),
    [
        ("(XX-1)=\n**XX-1** Says.\n", "names no vector"),
        ("(XX-1)=\n**XX-1** Says.\n\n## Next\n\nVectors: `json/text#1`\n", "names no vector"),
        ("(XX-1)=\nSays.\n\nVectors: `json/text#1`\n", "does not begin with its number"),
        ("(XX-1)=\n**XX-1** Says.\n\nVectors: `json/text#1`, `json/text#1`\n", "twice"),
        ("(XX-1)=\n**XX-1** Says.\n\nVectors: `json/text#999`\n", "does not exist"),
        ("(XX-1)=\n**XX-1** Says.\n\nVectors: `json/none#1`\n", "does not exist"),
        ("(XX-1)=\n**XX-1** Says.\n\nVectors: `events/plan.paused#999`\n", "does not exist"),
    ],
)
def test_a_rule_without_a_vector_fails(page: str, problem: str) -> None:
    (rule,) = parse("page", page)
    assert problem in " ".join(faults(rule))


def test_a_rule_with_a_vector_that_does_not_hold_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(JUDGE, "fault", lambda _file, _case: "another answer")
    (rule,) = parse("page", "(XX-1)=\n**XX-1** Says.\n\nVectors: `json/text#1`\n")
    assert list(faults(rule)) == ["names json/text#1, which does not hold: another answer"]


def test_a_schema_that_says_otherwise_is_found() -> None:
    cases = schema_cases("events/plan.paused").values()
    turned = {"valid": "invalid", "invalid": "valid"}
    for case in cases:
        assert schema_agrees("events/plan.paused", case)
        assert not schema_agrees("events/plan.paused", {**case, "result": turned[case["result"]]})


@pytest.mark.parametrize(
    "page", ["canonical-json", "digest", "worldpath", "ledger-chain", "ledger-laws"]
)
def test_the_examples_of_a_page_hold(page: str) -> None:
    result = doctest.testfile(str(SPEC / f"{page}.md"), module_relative=False, encoding="utf-8")
    assert result.attempted >= 3
    assert result.failed == 0


def test_the_example_texts_are_what_they_show() -> None:
    text = (SPEC / "canonical-json.md").read_text("utf-8")
    given, answer = re.findall(r"^(?:in|out) +(.*)$", text, flags=re.MULTILINE)[:2]
    assert JUDGE.core.canonicalize_json(given) == answer.encode()
    text = (SPEC / "ledger-chain.md").read_text("utf-8")
    event, prev, stated = re.findall(
        r"^(?:event|prev|hash) +(\S.*?)(?:   .*)?$", text, re.MULTILINE
    )[:3]
    assert JUDGE.core.event_hash(prev, event.encode()) == stated


def test_the_laws_of_the_page_are_those_of_the_vectors() -> None:
    """Law: each law has one rule, and each rule that names a law has a vector that breaks it."""
    groups_of_laws = json.loads((VECTORS / "laws" / "plan.json").read_text("ascii"))["testGroups"]
    broken = {
        case["fault"]["law"]: case["tcId"]
        for group in groups_of_laws
        for case in group["tests"]
        if "law" in case.get("fault", {})
    }
    rules = [rule for rule in RULES if rule.page == "ledger-laws"]
    named = {
        found[1]: rule
        for rule in rules
        if (found := re.match(r"\*\*LL-[0-9]+\*\* `([a-z-]+)`:", rule.text))
    }
    assert set(named) == set(broken)
    assert all(("laws/plan", broken[law]) in rule.vectors for law, rule in named.items())


def test_the_envelopes_shown_are_envelopes() -> None:
    text = (SPEC / "envelope.md").read_text("utf-8")
    shown = re.findall(r"```json\n(.*?)```", text, flags=re.DOTALL)
    assert [JUDGE.core.validate_envelope(one.encode())["status"] for one in shown] == [
        "success",
        "error",
    ]


def test_the_transcript_of_the_judge_holds() -> None:
    text = (SPEC / "vectors.md").read_text("utf-8")
    (transcript,) = re.findall(r"```console\n(.*?)```", text, flags=re.DOTALL)
    for command, answer in re.findall(r"^\$ python (.*)\n(.*)$", transcript, flags=re.MULTILINE):
        run = [sys.executable, *shlex.split(command)]
        found = subprocess.run(run, cwd=ROOT, check=True, capture_output=True, text=True)
        assert found.stdout == f"{answer}\n"


def test_the_pages_name_the_unicode_version_of_the_core() -> None:
    for page in ("worldpath", "vectors"):
        text = " ".join((SPEC / f"{page}.md").read_text("utf-8").split())
        assert UNICODE in text
