"""The specification names vectors for each rule, all of them hold, and its examples run."""

import doctest
import importlib.util
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
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
        case = JUDGE.cases(file).get(number) if file in JUDGE.files() else None
        if case is None:
            yield f"names {file}#{number}, which does not exist"
        elif (problem := JUDGE.fault(file, case)) is not None:
            yield f"names {file}#{number}, which does not hold: {problem}"


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
    ],
)
def test_a_rule_without_a_vector_fails(page: str, problem: str) -> None:
    (rule,) = parse("page", page)
    assert problem in " ".join(faults(rule))


def test_a_rule_with_a_vector_that_does_not_hold_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(JUDGE, "fault", lambda _file, _case: "another answer")
    (rule,) = parse("page", "(XX-1)=\n**XX-1** Says.\n\nVectors: `json/text#1`\n")
    assert list(faults(rule)) == ["names json/text#1, which does not hold: another answer"]


def test_the_schema_of_each_kind_judges_its_cases() -> None:
    """LC-8: cases of the group `schema` are judged by the closed schema beside them."""
    judged = 0
    for path in sorted((VECTORS / "events").glob("*.json")):
        if path.name.endswith(".schema.json"):
            continue
        family = VECTORS / "events" / f"{path.stem.split('.')[0]}.schema.json"
        schema = path.with_suffix(".schema.json")
        document = json.loads((schema if schema.exists() else family).read_text("ascii"))
        validator = jsonschema_rs.Draft202012Validator(document)
        groups = {
            group["type"]: group["tests"]
            for group in json.loads(path.read_text("ascii"))["testGroups"]
        }
        event = groups["sealed"][0]["event"]
        for case in groups["schema"]:
            changed = {**event, "data": changes(event["data"], case)}
            assert validator.is_valid(changed) == (case["result"] == "valid"), (path.stem, case)
            judged += 1
    assert judged > 1000


def changes(data: dict[str, Any], case: dict[str, Any]) -> dict[str, Any]:
    kept = {name: value for name, value in data.items() if name not in case.get("remove", ())}
    return {**kept, **case.get("change", {})}


@pytest.mark.parametrize("page", ["canonical-json", "digest", "worldpath", "ledger-chain"])
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
