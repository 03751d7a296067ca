"""The catalogue of error codes, seen from Python."""

import json
import re
from pathlib import Path

import pytest

import theory_core
from theory_core import ERROR_CODES

VECTORS = Path(__file__).parents[1] / "vectors" / "errors" / "catalogue.json"


def test_it_has_the_published_codes_and_no_other() -> None:
    document = json.loads(VECTORS.read_text(encoding="ascii"))
    tests = [case for group in document["testGroups"] for case in group["tests"]]
    published = {case["code"]: case for case in tests if case["result"] == "valid"}
    assert set(ERROR_CODES) == set(published)
    for code, case in published.items():
        entry = ERROR_CODES[code]
        assert (entry.code, entry.status, entry.retryable) == (
            code,
            case["status"],
            case["retryable"],
        )
        assert case.get("summary", entry.summary) == entry.summary
    for case in tests:
        assert (case["code"] in ERROR_CODES) == (case["result"] == "valid")


def test_every_entry_says_what_happened_and_what_to_do() -> None:
    for entry in ERROR_CODES.values():
        assert not entry.summary.endswith(".")
        assert re.fullmatch(r"[A-Z].*\.", entry.remedy)


def test_nobody_can_change_it() -> None:
    with pytest.raises(TypeError):
        ERROR_CODES["ERR_NEW"] = ERROR_CODES["ERR_INPUTS"]  # type: ignore[index]
    with pytest.raises(AttributeError):
        ERROR_CODES["ERR_INPUTS"].status = 200  # type: ignore[misc]


def test_every_code_that_the_package_documents_or_raises_is_in_it() -> None:
    package = Path(theory_core.__file__).parent
    texts = [path.read_text(encoding="utf-8") for path in package.glob("*.py*") if path.is_file()]
    code = re.compile(r"ERR_[A-Z0-9]+(?:_[A-Z0-9]+)*(?![A-Z0-9_*])")
    named = {name for text in texts for name in code.findall(text)}
    assert len(named) > 20
    assert named <= set(ERROR_CODES)
