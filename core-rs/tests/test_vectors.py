"""Every case of the shared vectors, through the installed package."""

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import theory_core
from theory_core import Selector, TheoryError, WorldPath

VECTORS = Path(__file__).parents[1] / "vectors"
FACTS = ("offset", "segment", "index", "other")


def cases(file: str) -> pytest.MarkDecorator:
    document = json.loads((VECTORS / file).read_text(encoding="ascii"))
    tests = [case for group in document["testGroups"] for case in group["tests"]]
    return pytest.mark.parametrize(
        "case", [pytest.param(case, id=f"{file}-{case['tcId']}") for case in tests]
    )


def repeated(pieces: list[tuple[str, int]]) -> str:
    return "".join(text * count for text, count in pieces)


def judge(case: dict[str, Any], call: Callable[[], object], expected: object) -> None:
    if case["result"] == "valid":
        assert call() == expected
        return
    with pytest.raises(TheoryError) as refusal:
        call()
    assert refusal.value.code == case["code"]
    facts = {fact: case[fact] for fact in FACTS if fact in case}
    assert {fact: refusal.value.detail.get(fact) for fact in facts} == facts


def json_input(case: dict[str, Any]) -> bytes:
    if "hex" in case:
        return bytes.fromhex(case["hex"])
    return repeated(case["repeat"]).encode() if "repeat" in case else case["text"].encode()


def json_answer(case: dict[str, Any]) -> bytes | None:
    if "canonical_repeat" in case:
        return repeated(case["canonical_repeat"]).encode()
    return case["canonical"].encode() if "canonical" in case else None


@pytest.mark.scenario(37, 38, 39, 42)
@cases("json/text.json")
def test_both_doors_answer_a_text_alike(case: dict[str, Any]) -> None:
    text, answer = json_input(case), json_answer(case)
    judge(case, lambda: theory_core.canonicalize_json(text), answer)
    judge(case, lambda: theory_core.canonicalize(theory_core.loads_strict(text)), answer)


@cases("json/text.json")
def test_a_text_is_the_same_as_str_and_as_bytes(case: dict[str, Any]) -> None:
    try:
        text = json_input(case).decode()
    except UnicodeDecodeError:
        assert case["code"] == "ERR_JSON_UTF8"
        return
    judge(case, lambda: theory_core.canonicalize_json(text), json_answer(case))


@cases("json/doubles.json")
def test_doubles_have_their_published_text(case: dict[str, Any]) -> None:
    (double,) = struct.unpack(">d", bytes.fromhex(case["f64"]))
    expected = case["canonical"].encode() if "canonical" in case else None
    judge(case, lambda: theory_core.canonicalize(double), expected)


@cases("digest/bytes.json")
def test_digests_are_the_published_ones(case: dict[str, Any], tmp_path: Path) -> None:
    length = case["length"]
    data = (bytes(range(251)) * (length // 251 + 1))[:length]
    hasher = theory_core.Hasher()
    for start in range(0, length, 1000):
        hasher.update(data[start : start + 1000])
    (tmp_path / "data").write_bytes(data)
    assert theory_core.digest(data) == case["digest"]
    assert theory_core.digest(memoryview(data)) == case["digest"]
    assert hasher.digest() == case["digest"]
    assert theory_core.digest_file(tmp_path / "data") == case["digest"]


@pytest.mark.scenario(50, 51, 52, 53)
@cases("path/canonical.json")
def test_paths_have_one_canonical_form_or_a_code(case: dict[str, Any]) -> None:
    judge(case, lambda: str(WorldPath(case["path"], case.get("root"))), case.get("canonical"))


@cases("path/join.json")
def test_joined_paths_stay_below_their_base(case: dict[str, Any]) -> None:
    judge(case, lambda: str(WorldPath(case["base"]).join(case["rel"])), case.get("canonical"))


@pytest.mark.scenario(54)
@cases("path/template.json")
def test_write_prefixes_expand_once_or_are_refused(case: dict[str, Any]) -> None:
    template, execution_id, root = case["template"], case["execution_id"], case.get("root")
    judge(
        case,
        lambda: str(theory_core.expand_prefix(template, execution_id, root)),
        case.get("canonical"),
    )


@pytest.mark.scenario(50)
@cases("path/outputs.json")
def test_outputs_of_one_write_never_stand_in_each_others_way(case: dict[str, Any]) -> None:
    prefix = WorldPath(case["prefix"])
    judge(
        case,
        lambda: [str(path) for path in theory_core.resolve_outputs(prefix, case["rels"])],
        case.get("paths"),
    )


@cases("selector/overlap.json")
def test_selectors_overlap_by_segments(case: dict[str, Any]) -> None:
    if case["result"] == "invalid":
        judge(case, lambda: Selector(**case["a"]), None)
        return
    a, b = Selector(**case["a"]), Selector(**case["b"])
    assert (a.overlaps(b), b.overlaps(a)) == (case["overlaps"], case["overlaps"])
    assert (a.path.overlaps(b.path), b.path.overlaps(a.path)) == (case["overlaps"],) * 2
    assert (a.contains(b), a.path.contains(b.path)) == (case["contains"],) * 2


@pytest.mark.scenario(54)
@cases("selector/writable.json")
def test_processors_write_only_where_they_may(case: dict[str, Any]) -> None:
    judge(case, lambda: theory_core.check_writable(Selector(**case["selector"])), None)


def test_every_vector_file_is_ascii_and_numbered_without_gaps() -> None:
    for folder in ("json", "digest", "path", "selector"):
        for file in (VECTORS / folder).glob("*.json"):
            document = json.loads(file.read_text(encoding="ascii"))
            tests = [case for group in document["testGroups"] for case in group["tests"]]
            assert [case["tcId"] for case in tests] == list(range(1, len(tests) + 1)), file
            assert all(case["comment"] for case in tests), file
