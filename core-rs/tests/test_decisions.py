"""Where RFC 8259 leaves the choice, the published suite meets the written decisions."""

import json
from pathlib import Path
from typing import Any

from theory_core import TheoryError, canonicalize_json

DECISIONS = Path(__file__).parents[1] / "vectors" / "json" / "decisions.json"


def outcome(text: bytes) -> str:
    try:
        canonicalize_json(text)
    except TheoryError as refusal:
        return refusal.code
    return "accepted"


def decisions() -> dict[str, str]:
    document = json.loads(DECISIONS.read_text(encoding="ascii"))
    cases = [case for group in document["testGroups"] for case in group["tests"]]
    return {case["file"]: case.get("code", "accepted") for case in cases}


def suite(folder: Path, kind: str) -> dict[str, bytes]:
    """Name and bytes of each file of a class."""
    lines = (folder / "json-parsing/jsontestsuite.jsonl").read_text(encoding="utf-8").splitlines()
    cases = [case for case in map(json.loads, lines) if case["class"] == kind]
    return {case["file"].removeprefix("test_parsing/"): content(case) for case in cases}


def content(case: dict[str, Any]) -> bytes:
    if "hex" in case:
        return bytes.fromhex(case["hex"])
    repeat = case["repeat"]
    unit, suffix = bytes.fromhex(repeat["unit_hex"]), bytes.fromhex(repeat.get("suffix_hex", ""))
    return unit * int(repeat["count"]) + suffix


def test_every_open_question_of_the_suite_has_a_decision(external_vectors: Path) -> None:
    files = suite(external_vectors, "implementation_defined")
    assert len(files) == 35
    decided = decisions()
    assert {file: outcome(text) for file, text in files.items()} == {
        file: decided[file] for file in files
    }


def test_what_the_suite_accepts_is_accepted_or_a_decision_says_why(external_vectors: Path) -> None:
    files = suite(external_vectors, "must_accept")
    assert len(files) == 95
    decided = decisions()
    for file, text in files.items():
        assert outcome(text) == decided.get(file, "accepted"), file
