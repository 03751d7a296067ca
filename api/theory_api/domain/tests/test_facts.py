"""Predicates about what an artifact says: true, false or error, whatever the bytes are."""

# ruff: noqa: ANN401 - builders hand fields of any type on

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from theory_api.domain.facts import JUNIT_BYTES, READ_BYTES, SCHEMA_BYTES, judge
from theory_api.domain.predicates import validate
from theory_api.domain.values import Predicate
from theory_core import TheoryError, canonicalize


def asked(name: str, **params: Any) -> Predicate:
    return Predicate(name=f"{name}@1", params={"path": "outputs/facts.json", **params})


LASTS = asked("media.duration_between", min_ms=1000, max_ms=2000)
SIZE = asked("image.resolution_min", width=640, height=480)
GOT = asked("http.get.200")
FITS = asked("json.schema_ok", schema={"type": "object", "required": ["a"]})
PASS = asked("tests.pass")


def answers(expression: str) -> Predicate:
    return asked("artifact.jmespath_ok", expression=expression)


SOME = answers("length(shots[?ms > `0`]) == length(shots)")
ALL = (LASTS, SIZE, GOT, FITS, PASS, SOME)


def media(**facts: object) -> bytes:
    return canonicalize({"schema": "theory.media.v1", **facts})


def http(**facts: object) -> bytes:
    return canonicalize({"schema": "theory.http.v1", "method": "GET", **facts})


@pytest.mark.parametrize("predicate", [*ALL, asked("file.size_gt", size_bytes=0)])
def test_what_is_well_formed_is_accepted(predicate: Predicate) -> None:
    validate(predicate, place="$.goal[0]")


@pytest.mark.parametrize(
    "predicate",
    [
        asked("media.duration_between", min_ms=2, max_ms=1),
        asked("media.duration_between", min_ms=2),
        asked("image.resolution_min", width=1.5, height=1),
        asked("tests.pass", path="outputs/"),
        asked("tests.pass", min=-1),
        asked("http.get.200", url=7),
        asked("json.schema_ok", schema="object"),
        asked("json.schema_ok", schema={"type": "colour"}),
        asked("json.schema_ok", schema={"pattern": "("}),
        asked("json.schema_ok", schema={"pattern": "(a{1,500}){1,500}"}),
        asked("json.schema_ok", schema={"allOf": [{"pattern": "a"}] * 9}),
        asked("json.schema_ok", schema={"patternProperties": {f"a{n}": {} for n in range(9)}}),
        asked("json.schema_ok", schema={"minimum": 1.5}),
        asked("json.schema_ok", schema={"$ref": "#"}),
        asked("json.schema_ok", schema={"items": {"$dynamicRef": "#x"}}),
        asked("json.schema_ok", schema={"$ref": "https://example.org/schema"}),
        asked("json.schema_ok", schema={"const": "x" * SCHEMA_BYTES}),
        answers("a =="),
        answers(""),
        answers('"'),
        answers("no_such(a)"),
        answers("join(',', a)"),
        answers("to_string(a)"),
        answers("map(&a, b)"),
        answers("[a, b]"),
        answers("{a: b}"),
        answers("a == `[1, 2]`"),
        answers("a | " * 40 + "a"),
        answers("(" * 65 + "a" + ")" * 65),
        answers("!" * 65 + "a"),
        answers("a" * 513),
        asked("artifact.jmespath_ok"),
        asked("artifact.jmespath_ok", expression=7),
        asked("artifact.jmespath_ok", expression="a", path="outputs/"),
        asked("json.schema_ok", schema={"const": [[[[[[[[[[[[[[[[[0]]]]]]]]]]]]]]]]]}),
    ],
)
def test_what_is_not_is_refused_with_its_place(predicate: Predicate) -> None:
    with pytest.raises(TheoryError, match=r"\$\.goal\[0\]") as caught:
        validate(predicate, place="$.goal[0]")
    assert caught.value.code == "ERR_PLAN_INVALID"
    assert str(caught.value.detail["place"]).startswith("$.goal[0]")


@pytest.mark.parametrize(
    ("predicate", "body", "expected"),
    [
        (LASTS, media(duration_ms=1000), "true"),
        (LASTS, media(duration_ms=2000), "true"),
        (LASTS, media(duration_ms=999), "false"),
        (LASTS, media(duration_ms=2001), "false"),
        (LASTS, media(), "error"),
        (LASTS, media(duration_ms="1500"), "error"),
        (LASTS, media(duration_ms=True), "error"),
        (LASTS, media(duration_ms=-1), "error"),
        (LASTS, canonicalize({"duration_ms": 1500}), "error"),
        (LASTS, b"[]", "error"),
        (SIZE, media(width=640, height=480), "true"),
        (SIZE, media(width=639, height=480), "false"),
        (SIZE, media(width=640), "error"),
        (GOT, http(status=200, url="https://a.example/"), "true"),
        (GOT, http(status=204), "false"),
        (GOT, http(status=None), "false"),
        (GOT, http(status="200"), "false"),
        (GOT, http(status=200, method="HEAD"), "false"),
        (GOT, media(status=200), "error"),
        (asked("http.get.200", url="https://b.example/"), http(status=200, url="x"), "false"),
        (asked("http.get.200", url="x"), http(status=200, url="x"), "true"),
        (FITS, b'{"a":1}', "true"),
        (FITS, b'{"b":1}', "false"),
        (FITS, b'{"a":1,"a":2}', "error"),
        (FITS, b"[" * 65 + b"]" * 65, "error"),
        (FITS, b"\xff", "error"),
    ],
)
def test_facts_are_judged_as_they_are_stated(
    predicate: Predicate, body: bytes, expected: str
) -> None:
    verdict, reason = judge(predicate, body)
    assert (verdict, bool(reason)) == (expected, True)


@pytest.mark.parametrize(
    ("expression", "body", "expected"),
    [
        ("a > `1`", b'{"a":2}', "true"),
        ("a > `1`", b'{"a":1}', "false"),
        ("a > `1`", b'{"b":1}', "false"),
        ("a > `1`", b'{"a":"x"}', "error"),
        ("a", b'{"a":7}', "error"),
        ("a", b'{"a":"true"}', "error"),
        ("a", b'{"a":[true]}', "error"),
        ("a", b'{"a":{}}', "error"),
        ("a", b'{"a":null}', "false"),
        ("a", b"[]", "false"),
        ("&a", b"{}", "error"),
        ("length(a) == `2`", b'{"a":[1,2]}', "true"),
        ("length(a) == `2`", b'{"a":2}', "error"),
        ("length(a) == `2`", b"{}", "error"),
        ("shots[-1].id == 'b'", b'{"shots":[{"id":"a"},{"id":"b"}]}', "true"),
        ("contains(a[].b, 'x') && !c", b'{"a":[{"b":"x"}]}', "true"),
        ("max_by(a, &b).c", b'{"a":[{"b":1,"c":false},{"b":2,"c":true}]}', "true"),
        ("sort(a)[0] == `1`", b'{"a":[2,1]}', "true"),
        ("sort(a)[0] == `1`", b'{"a":[2,"x"]}', "error"),
        ("a[::0]", b'{"a":[1]}', "error"),
        ("ceil(sum(a)) > `1`", b'{"a":[1e308,1e308]}', "error"),
        ("a == a", b'{"a":1,"a":1}', "error"),
        ("a", b"\xff", "error"),
        ("a", b"[" * 65 + b"]" * 65, "error"),
    ],
)
def test_an_expression_holds_if_its_answer_is_true_and_not_merely_something(
    expression: str, body: bytes, expected: str
) -> None:
    predicate = answers(expression)
    validate(predicate, place="$.goal[0]")
    verdict, reason = judge(predicate, body)
    assert (verdict, bool(reason)) == (expected, True)


def test_no_part_of_an_expression_answers_with_more_than_it_was_given() -> None:
    body = canonicalize({"a": [[number] for number in range(20_000)]})
    predicate = answers("length(a" + "[]" * 8 + ") == `20000`")
    validate(predicate, place="$.goal[0]")
    assert judge(predicate, body)[0] == "true"


def test_a_reason_repeats_nothing_of_the_artifact() -> None:
    for expression in ("a", "length(a)", "a > `1`"):
        assert "canary" not in judge(answers(expression), b'{"a":"sk-canary"}')[1]
    schema = {"properties": {"a": {"enum": ["x"]}}, "additionalProperties": False}
    predicate = asked("json.schema_ok", schema=schema)
    for body in (b'{"a":"sk-canary"}', b'{"sk-canary":1}'):
        verdict, reason = judge(predicate, body)
        assert verdict == "false"
        assert "canary" not in reason


def suite(*cases: str, root: str = '<testsuite tests="9">', end: str = "</testsuite>") -> bytes:
    inner = "".join(f'<testcase name="t">{case}</testcase>' for case in cases)
    return f"{root}{inner}{end}".encode()


@pytest.mark.parametrize(
    ("predicate", "body", "expected"),
    [
        (PASS, suite(""), "true"),
        (PASS, suite("", "<skipped/>"), "true"),
        (PASS, suite("", root="<testsuites><testsuite>", end="</testsuite></testsuites>"), "true"),
        (PASS, suite("<system-out>failure</system-out>"), "true"),
        (PASS, suite("", "<failure/>"), "false"),
        (PASS, suite("", '<error message="x"/>'), "false"),
        (PASS, suite("", root='<testsuite failures="1">'), "false"),
        (PASS, suite("", root="<testsuite><error/>"), "false"),
        (PASS, suite(), "false"),
        (PASS, suite("<skipped/>"), "false"),
        (asked("tests.pass", min=2), suite(""), "false"),
        (asked("tests.pass", min=0), suite(), "true"),
        (PASS, suite("", root='<testsuite failures="-1">'), "error"),
        (PASS, suite("", root='<testsuite errors="9e9">'), "error"),
        (PASS, suite("", root=f'<testsuite errors="{"9" * 5000}">'), "error"),
        (PASS, suite("<failure/><testcase/>"), "error"),
        (PASS, b"<html/>", "error"),
        (PASS, b"<testsuites/>", "error"),
        (PASS, b"", "error"),
        (PASS, b"<testsuite>", "error"),
        (PASS, b'{"tests": 1}', "error"),
        (PASS, b'<?xml version="1.0" encoding="klingon"?><testsuite/>', "error"),
        (PASS, b"<testsuite>" + b"<a>" * 100_000, "error"),
    ],
)
def test_a_junit_report_is_judged_by_its_cases(
    predicate: Predicate, body: bytes, expected: str
) -> None:
    assert judge(predicate, body)[0] == expected


def test_entities_of_a_report_are_refused_and_never_expanded() -> None:
    lines = [f'<!ENTITY e{n} "{f"&e{n - 1};" * 10}">' for n in range(1, 12)]
    bomb = f'<!DOCTYPE testsuite [<!ENTITY e0 "x">{"".join(lines)}]><testsuite>&e11;</testsuite>'
    assert judge(PASS, bomb.encode()) == (
        "error",
        "the artifact is no JUnit report: a document type is not allowed",
    )
    outside = b'<!DOCTYPE t SYSTEM "file:///etc/passwd"><testsuite/>'
    assert judge(PASS, outside)[0] == "error"


def test_the_largest_report_is_judged() -> None:
    case = b"<testcase><failure/></testcase>"
    body = b"<testsuite>" + case * (JUNIT_BYTES // len(case) - 2) + b"</testsuite>"
    assert judge(PASS, body)[0] == "false"


@given(st.binary(max_size=200), st.sampled_from(ALL))
def test_any_bytes_have_an_answer(body: bytes, predicate: Predicate) -> None:
    assert predicate.name in READ_BYTES
    verdict, reason = judge(predicate, body)
    assert verdict in {"false", "error"} or predicate is FITS
    assert len(reason) < 500
