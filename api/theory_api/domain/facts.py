"""Predicates about what an artifact says: judged from bytes that were written before.

Law: nothing here fetches, decodes media or runs anything; a processor wrote the facts
(spec: predicates). The bytes are a stranger's: whatever they are, the answer is true, false or
error with a reason that repeats none of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final
from xml.parsers import expat

import jsonschema_rs

from theory_api.domain import expressions
from theory_api.domain.documents import depth
from theory_api.domain.values import Predicate, Verdict3
from theory_core import LIMITS, TheoryError, canonicalize, loads_strict

JSON_BYTES: Final = LIMITS["json_in_truth_bytes"]
JUNIT_BYTES: Final = 2 * 1024 * 1024
SCHEMA_BYTES: Final = 4 * 1024
"""Together with `SCHEMA_DEPTH` and no `$ref`, what bounds the time that a schema can take."""
SCHEMA_DEPTH: Final = 16
PATTERNS: Final = 8
"""Regular expressions of one schema; each reads a text in time that grows with it, no faster."""
PATTERN_BYTES: Final = 64 * 1024
"""Of one of them, compiled."""

READ_BYTES: Final[Mapping[str, int]] = {
    "artifact.jmespath_ok@1": JSON_BYTES,
    "http.get.200@1": JSON_BYTES,
    "image.resolution_min@1": JSON_BYTES,
    "json.schema_ok@1": JSON_BYTES,
    "media.duration_between@1": JSON_BYTES,
    "tests.pass@1": JUNIT_BYTES,
}
"""Predicates that read one artifact, and how many bytes of it at most; more is an error."""

MEDIA: Final = "theory.media.v1"
"""Facts as `media/probe@1` writes them."""
HTTP: Final = "theory.http.v1"
"""Facts as `http/check@1` writes them."""

_REFERENCES: Final = frozenset({"$ref", "$dynamicRef", "$recursiveRef"})
_MAX_COUNT: Final = 2**53
_OK: Final = 200
_COUNTS: Final = ("tests", "failures", "errors", "skipped")

Answer = tuple[Verdict3, str]


def check(predicate: Predicate, *, place: str) -> None:
    """Refuse parameters whose types fit and whose values do not.

    Raises `TheoryError` `ERR_PLAN_INVALID` with the place.
    """
    params = predicate.params
    if predicate.name not in READ_BYTES:
        return
    if params["path"].endswith("/"):
        raise _invalid(f"{place}.params.path", f"{predicate.name} reads one artifact, not a folder")
    if predicate.name == "media.duration_between@1" and params["min_ms"] > params["max_ms"]:
        raise _invalid(f"{place}.params.max_ms", "it is below min_ms")
    if predicate.name == "json.schema_ok@1":
        _check_schema(params["schema"], f"{place}.params.schema")
    if predicate.name == "artifact.jmespath_ok@1":
        expressions.check(params["expression"], place=f"{place}.params.expression")


def _check_schema(schema: Mapping[str, Any], place: str) -> None:
    """Law: a schema ends on every document: it is small, flat enough, and refers to nothing."""
    try:
        size = len(canonicalize(schema))
    except TheoryError as error:
        raise _invalid(place, f"it is not JSON: {error.code}") from error
    if size > SCHEMA_BYTES or depth(schema) > SCHEMA_DEPTH:
        limits = f"{SCHEMA_BYTES} bytes and a depth of {SCHEMA_DEPTH}"
        raise _invalid(place, f"a schema has at most {limits}")
    level: list[Any] = [schema]
    patterns = 0
    while level:
        item = level.pop()
        if isinstance(item, float):
            raise _invalid(place, "numbers of a predicate are whole, as in every event")
        if isinstance(item, dict):
            if not _REFERENCES.isdisjoint(item):
                raise _invalid(place, "a schema of a predicate refers to no other")
            several = item.get("patternProperties")
            patterns += ("pattern" in item) + (len(several) if isinstance(several, dict) else 0)
            if patterns > PATTERNS:
                raise _invalid(place, f"a schema has at most {PATTERNS} patterns")
            level.extend(item.values())
        elif isinstance(item, list):
            level.extend(item)
    try:
        _validator(schema)
    except ValueError as error:
        raise _invalid(place, "it is not a JSON Schema (draft 2020-12)") from error


def _validator(schema: Mapping[str, Any]) -> jsonschema_rs.Draft202012Validator:
    return jsonschema_rs.Draft202012Validator(
        dict(schema),
        mask="the value",
        offline=True,
        pattern_options=jsonschema_rs.RegexOptions(size_limit=PATTERN_BYTES),
    )


def _invalid(place: str, message: str) -> TheoryError:
    return TheoryError("ERR_PLAN_INVALID", f"{place}: {message}", {"place": place})


def judge(predicate: Predicate, body: bytes) -> Answer:
    """The answer of a predicate in `READ_BYTES` about an artifact's bytes, and why."""
    if predicate.name == "tests.pass@1":
        return _tests(body, predicate.params)
    try:
        document = loads_strict(body)
    except TheoryError as error:
        return "error", f"the artifact is not strict JSON: {error.code}"
    if predicate.name == "json.schema_ok@1":
        return _fits(document, predicate.params["schema"])
    if predicate.name == "artifact.jmespath_ok@1":
        return expressions.judge(predicate.params["expression"], document)
    return _FACTS[predicate.name](document, predicate.params)


def _fits(document: object, schema: Mapping[str, Any]) -> Answer:
    if depth(document) > LIMITS["document_depth"]:
        return "error", f"the artifact is nested deeper than {LIMITS['document_depth']}"
    for fault in _validator(schema).iter_errors(document):
        place = "$" + "".join(f"[{step}]" for step in fault.instance_path if type(step) is int)
        return "false", f"{place}: it does not fit: {fault.kind.name}"
    return "true", "it fits the schema"


def _duration(facts: object, params: Mapping[str, Any]) -> Answer:
    lasts = _number(facts, MEDIA, "duration_ms")
    if lasts is None:
        return "error", f"the artifact states no duration as {MEDIA} does"
    within = params["min_ms"] <= lasts <= params["max_ms"]
    return _three(
        within, f"it lasts {lasts} ms; {params['min_ms']} to {params['max_ms']} are asked"
    )


def _resolution(facts: object, params: Mapping[str, Any]) -> Answer:
    width, height = (_number(facts, MEDIA, name) for name in ("width", "height"))
    if width is None or height is None:
        return "error", f"the artifact states no width and height as {MEDIA} does"
    enough = width >= params["width"] and height >= params["height"]
    return _three(enough, f"it is {width}x{height}; {params['width']}x{params['height']} are asked")


def _got(facts: object, params: Mapping[str, Any]) -> Answer:
    if not isinstance(facts, dict) or facts.get("schema") != HTTP:
        return "error", f"the artifact is no {HTTP}"
    url = params.get("url")
    if url is not None and facts.get("url") != url:
        return "false", "the artifact is about another url"
    if facts.get("method") != "GET":
        return "false", "the artifact is about another method than GET"
    status = _number(facts, HTTP, "status")
    if status is None:
        return "false", "there was no answer"
    return _three(status == _OK, f"the answer was {status}")


_FACTS: Final[Mapping[str, Callable[[object, Mapping[str, Any]], Answer]]] = {
    "http.get.200@1": _got,
    "image.resolution_min@1": _resolution,
    "media.duration_between@1": _duration,
}


def _number(facts: object, schema: str, name: str) -> int | None:
    """A count among facts of `schema`, or None if they do not state it as one."""
    if not isinstance(facts, dict) or facts.get("schema") != schema:
        return None
    value = facts.get(name)
    return value if type(value) is int and 0 <= value < _MAX_COUNT else None


def _three(value: bool, reason: str) -> Answer:  # noqa: FBT001
    return ("true" if value else "false"), reason


def _tests(body: bytes, params: Mapping[str, Any]) -> Answer:
    report = _Report()
    try:
        report.read(body)
    except (expat.ExpatError, ValueError, LookupError):
        return "error", f"the artifact is no JUnit report: {report.fault or 'it is not XML'}"
    if not report.suites:
        return "error", "the artifact is no JUnit report: it has no test suite"
    least = params.get("min", 1)
    passed = report.cases - report.bad - report.skipped
    said = f"{passed} passed, {report.bad} failed, {report.skipped} skipped"
    if report.bad or report.stated_bad:
        return "false", f"{said}; the report states {report.stated_bad} failures and errors"
    return _three(passed >= least, f"{said}; at least {least} are to pass")


class _Report:
    """Counts of a JUnit report, taken from its test cases and not only from what it states.

    Law: a report declares no document type and so no entity; expat expands none that it was not
    told of, so a report costs time in proportion to its bytes.
    """

    def __init__(self) -> None:
        self.suites = self.cases = self.bad = self.skipped = self.stated_bad = 0
        self.fault = ""
        self._path: list[str] = []
        self._failed = self._left = False

    def read(self, body: bytes) -> None:
        """Read it whole; raises `ExpatError`, `LookupError` or `ValueError`."""
        parser = expat.ParserCreate()
        parser.StartDoctypeDeclHandler = self._refuse
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.Parse(body, True)  # noqa: FBT003 - positional only

    def _refuse(self, *_: object) -> None:
        self.fault = "a document type is not allowed"
        raise ValueError(self.fault)

    def _start(self, name: str, attributes: Mapping[str, str]) -> None:
        if len(self._path) >= LIMITS["document_depth"]:
            self.fault = "it is nested too deeply"
            raise ValueError(self.fault)
        if not self._path and name not in {"testsuite", "testsuites"}:
            self.fault = "it is another document"
            raise ValueError(self.fault)
        if name == "testcase" and name in self._path:
            self.fault = "a test case holds another"
            raise ValueError(self.fault)
        parent = self._path[-1] if self._path else ""
        self._path.append(name)
        if name == "testsuite":
            self.suites += 1
            self._state(attributes)
        elif name == "testcase":
            self.cases += 1
            self._failed = self._left = False
        elif parent == "testcase":
            self._failed = self._failed or name in {"failure", "error"}
            self._left = self._left or name == "skipped"
        elif name in {"failure", "error"}:
            self.stated_bad += 1  # of a suite, outside any case

    def _state(self, attributes: Mapping[str, str]) -> None:
        """Add what a suite states of itself; what is no count is refused."""
        for name in _COUNTS:
            text = attributes.get(name, "0")
            if not (text.isascii() and text.isdigit() and len(text) <= len(str(_MAX_COUNT))):
                self.fault = "a count is no number"
                raise ValueError(self.fault)
            if name in {"failures", "errors"}:
                self.stated_bad += int(text)

    def _end(self, name: str) -> None:
        self._path.pop()
        if name == "testcase":
            self.bad += self._failed
            self.skipped += self._left and not self._failed
