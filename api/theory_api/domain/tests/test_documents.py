"""Documents are read strictly, and a fault names its line."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from theory_api.domain.documents import parse_document, read_document
from theory_core import TheoryError, canonicalize


def refused(text: str | bytes, name: str = "plan.yaml", code: str = "ERR_PLAN_INVALID") -> str:
    body = text.encode() if isinstance(text, str) else text
    with pytest.raises(TheoryError) as caught:
        parse_document(body, name=name, code=code)
    assert caught.value.code == code
    assert caught.value.detail["file"] == name
    return f"{caught.value.detail['line']}:{caught.value.detail['column']} {caught.value.message}"


def test_plain_yaml_becomes_plain_data() -> None:
    text = b"""
a: 1
b: [true, false, null, ~, -3, 1.5, 2e3, "7", '8', nine]
c:
  d: |
    two
    lines
  "quoted name": {}
e:
"""
    assert parse_document(text, name="x.yaml") == {
        "a": 1,
        "b": [True, False, None, None, -3, 1.5, 2000.0, "7", "8", "nine"],
        "c": {"d": "two\nlines\n", "quoted name": {}},
        "e": None,
    }


@pytest.mark.parametrize(
    "text", ["yes", "no", "on", "off", "0x1f", "0o17", "012", "1_000", ".5", "1.", "+1", ".inf"]
)
def test_spellings_that_only_some_readers_take_for_values_stay_text(text: str) -> None:
    assert parse_document(f"a: {text}".encode(), name="x.yaml") == {"a": text}


def test_dates_stay_text() -> None:
    assert parse_document(b"at: 2026-11-21", name="x.yaml") == {"at": "2026-11-21"}


@pytest.mark.scenario(37)
def test_a_duplicate_name_is_refused_where_it_stands_again() -> None:
    assert refused("a: 1\nb:\n  c: 1\n  d: 2\n  c: 3\n").startswith("5:3 plan.yaml:5:3: duplicate")
    assert refused("{a: 1, a: 2}").startswith("1:8 ")


@pytest.mark.parametrize(
    ("text", "line", "fragment"),
    [
        ("a: [1, 2\nb: 3\n", 2, "expected"),
        ("a: 1\n\tb: 2\n", 2, ""),
        ("a: 'open\n", 2, ""),
        ("a: &x 1\nb: *x\n", 1, "anchors and aliases"),
        ("a: *x\n", 1, "anchors and aliases"),
        ("a: 1\nb: !!python/object:os.system x\n", 2, "tags"),
        ("a: !!str 1\n", 1, "tags"),
        ("<<: {a: 1}\n", 1, "merge keys"),
        ("1: a\n", 1, "a name must be text"),
        ("? [a]\n: 1\n", 1, "a name must be text"),
        ("true: a\n", 1, "put it in quotes"),
        ("a: 1\n---\nb: 2\n", 2, "one document a file"),
        ("", 1, "empty"),
        ("# a comment alone\n", 1, "empty"),
        ("a: 9007199254740992\n", 1, "2^53-1"),
        ("a: " + "9" * 5000 + "\n", 1, "2^53-1"),
        ("a: 1e999\n", 1, "out of range"),
    ],
)
def test_what_yaml_adds_to_json_is_refused_with_its_line(
    text: str, line: int, fragment: str
) -> None:
    told = refused(text)
    assert told.startswith(f"{line}:")
    assert fragment in told


def test_bytes_that_are_no_text_are_refused_with_their_place() -> None:
    assert refused(b"a: 1\nb: \xff\n").startswith("2:4 plan.yaml:2:4: not UTF-8")
    assert refused("a: 1\nb: \x07\n").startswith("2:4 ")


def test_nesting_is_refused_one_level_beyond_the_limit() -> None:
    assert parse_document(b"[" * 64 + b"]" * 64, name="x.yaml")
    assert "nested deeper than 64" in refused("[" * 65 + "]" * 65)
    assert "nested deeper than 64" in refused("[" * 65 + "]" * 65, name="x.json")
    assert parse_document(b"[" * 64 + b"]" * 64, name="x.json")


@pytest.mark.scenario(41)
def test_a_bomb_of_brackets_is_refused_and_crashes_nothing() -> None:
    assert "nested deeper" in refused("[" * 200_000)
    assert "nested deeper" in refused("- " * 200_000)


def test_json_is_read_by_the_strict_reader_and_names_its_line() -> None:
    assert parse_document(b'{"a": [1, 2.5]}', name="x.json") == {"a": [1, 2.5]}
    assert refused('{"a": 1,\n "a": 2}', name="x.json").startswith("2:")
    assert refused('{"a": 1,\n "b": }', name="x.json").startswith("2:")


def test_a_refusal_of_inputs_begins_as_the_catalogue_says() -> None:
    told = refused("{a: 1, a: 2}", "r.yaml", "ERR_INPUTS")
    assert "invalid inputs payload: r.yaml:1:8: dup" in told


def test_the_text_of_a_document_is_not_repeated_in_a_refusal() -> None:
    assert "hunter2" not in refused("password: hunter2\npassword: hunter2\n")
    assert "hunter2" not in refused("a: [hunter2\nb: 'hunter2\n")


def test_places_of_values_are_kept() -> None:
    document = read_document(b"a:\n  - x\n  - y: 1\n", name="x.yaml")
    assert document.spot(("a", 1, "y")) == "x.yaml:3:8"
    assert document.spot(("a", 1, "not there")) == "x.yaml:3:5"
    assert document.spot(()) == "x.yaml:1:1"


_SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cn", "Cc", "Co")))
)
_DATA = st.recursive(
    _SCALARS,
    lambda inner: (
        st.lists(inner, max_size=5)
        | st.dictionaries(
            st.text(st.characters(min_codepoint=32, max_codepoint=126)), inner, max_size=5
        )
    ),
    max_leaves=25,
)


@settings(deadline=None)
@given(_DATA)
def test_every_json_document_means_the_same_read_as_yaml(data: object) -> None:
    text = json.dumps(data, ensure_ascii=False).encode()
    as_json = parse_document(text, name="x.json")
    assert canonicalize(as_json) == canonicalize(parse_document(text, name="x.yaml"))
