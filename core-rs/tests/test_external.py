"""Vectors from elsewhere through the installed package; off without `--external-vectors DIR`."""

import csv
import gzip
import json
import struct
from pathlib import Path
from typing import Any

from theory_core import (
    TheoryError,
    WorldPath,
    canonicalize,
    canonicalize_json,
    digest,
    loads_strict,
)

ROOT = "/world/acme/p1"
ENDS = ("prefix", "suffix")
DECISIONS = Path(__file__).parents[1] / "vectors" / "json" / "suite.json"


def segment(text: str) -> tuple[str, ...] | str:
    """Canonical segments of a text under a facet, or the code of its refusal."""
    try:
        return WorldPath(f"{ROOT}/artifacts/x{text}").segments
    except TheoryError as refusal:
        return refusal.code


def test_published_canonical_pairs_hold(external_vectors: Path) -> None:
    inputs = sorted((external_vectors / "jcs").glob("*/input/*.json"))
    assert len(inputs) == 10
    for path in inputs:
        expected = (path.parents[1] / "output" / path.name).read_bytes()
        assert canonicalize_json(path.read_bytes()) == expected, path
        assert canonicalize(loads_strict(path.read_bytes())) == expected, path


def test_published_texts_of_doubles_hold(external_vectors: Path) -> None:
    with gzip.open(external_vectors / "jcs/numbers-es6-first-100k.csv.gz", "rt") as rows:
        for bits, expected in csv.reader(rows):
            (double,) = struct.unpack(">d", bytes.fromhex(bits.rjust(16, "0")))
            assert canonicalize(double) == expected.encode(), bits


def test_published_hashes_hold(external_vectors: Path) -> None:
    document = json.loads((external_vectors / "blake3/test_vectors.json").read_bytes())
    for case in document["cases"]:
        data = (bytes(range(251)) * (case["input_len"] // 251 + 1))[: case["input_len"]]
        assert digest(data) == f"b3:{case['hash'][:64]}"


def suite_bytes(case: dict[str, Any]) -> bytes:
    if "hex" in case:
        return bytes.fromhex(case["hex"])
    unit = bytes.fromhex(case["repeat"]["unit_hex"]) * int(case["repeat"]["count"])
    before, after = (bytes.fromhex(case["repeat"].get(f"{end}_hex", "")) for end in ENDS)
    return before + unit + after


def decision(data: bytes) -> tuple[str, str | None]:
    try:
        canonical = canonicalize_json(data)
    except TheoryError as refusal:
        return "invalid", refusal.code
    assert canonicalize(loads_strict(data)) == canonical
    return "valid", None


def test_every_file_of_the_json_test_suite_is_decided_as_the_table_says(
    external_vectors: Path,
) -> None:
    table = json.loads(DECISIONS.read_text(encoding="ascii"))
    decided = {case["file"]: case for group in table["testGroups"] for case in group["tests"]}
    with (external_vectors / "json-parsing/jsontestsuite.jsonl").open() as lines:
        cases = [json.loads(line) for line in lines]
    assert decided.keys() == {case["file"] for case in cases}
    for case in cases:
        expected = decided[case["file"]]
        assert expected["result"] == "invalid" or case["class"] != "must_reject"
        answer = decision(suite_bytes(case))
        assert answer == (expected["result"], expected.get("code")), case["file"]


def test_canonically_equivalent_texts_are_one_path(external_vectors: Path) -> None:
    name = "unicode-nfc/NormalizationTest-15.0.0.txt.gz"
    with gzip.open(external_vectors / name, "rt", encoding="utf-8") as lines:
        for line in lines:
            if line.startswith(("#", "@")):
                continue
            columns = [
                "".join(chr(int(code, 16)) for code in field.split())
                for field in line.split(";")[:5]
            ]
            assert segment(columns[0]) == segment(columns[1]) == segment(columns[2]), line
            assert segment(columns[3]) == segment(columns[4]), line


def test_published_percent_encodings_are_undone(external_vectors: Path) -> None:
    cases = json.loads((external_vectors / "percent/wpt-percent-encoding.json").read_bytes())
    pairs = [(case["input"], case["output"]["utf-8"]) for case in cases if isinstance(case, dict)]
    assert len(pairs) >= 6
    for text, encoded in pairs:
        assert segment(encoded) == segment(text)
