"""Every kind of event: one closed schema, one vector, and the bytes and hash it fixes."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from theory_core import Chain, canonicalize, event_hash, loads_strict

VECTORS = Path(__file__).parents[1] / "vectors"
EVENTS = VECTORS / "events"
KINDS = sorted(
    path.name.removesuffix(".json")
    for path in EVENTS.glob("*.json")
    if not path.name.endswith(".schema.json")
)
FAMILIES = ("audit", "thread")
CONTRACT = {
    "plan": "created child_created paused resumed cancelled completed failed escalated "
    "cancel_requested",
    "transition": "proposed admitted refused succeeded failed skipped cancelled retried",
    "predicate": "checked regressed",
    "lease": "acquired released expired",
    "budget": "reserved settled voided breached topped_up",
    "execution": "started controlled succeeded failed cancelled duplicate orphaned memo_hit",
    "artifact": "produced consumed erased",
    "stream": "sealed",
    "segment": "sealed",
    "checkpoint": "published",
    "memo": "revoked",
    "secret": "used",
    "operator": "override",
    "gate": "verdict",
}


def schema(kind: str) -> Any:  # noqa: ANN401 - a JSON document
    family = kind.split(".", maxsplit=1)[0]
    name = family if family in FAMILIES else kind
    return json.loads((EVENTS / f"{name}.schema.json").read_text(encoding="ascii"))


def groups(kind: str) -> dict[str, list[dict[str, Any]]]:
    document = json.loads((EVENTS / f"{kind}.json").read_text(encoding="ascii"))
    return {group["type"]: group["tests"] for group in document["testGroups"]}


def sealed(kind: str) -> dict[str, Any]:
    (case,) = groups(kind)["sealed"]
    return case


def changed(kind: str, case: dict[str, Any]) -> dict[str, Any]:
    event = sealed(kind)["event"]
    data = {
        name: value for name, value in event["data"].items() if name not in case.get("remove", [])
    }
    return {**event, "data": {**data, **case.get("change", {})}}


def test_every_kind_of_the_specification_has_a_vector_and_a_schema() -> None:
    named = {f"{area}.{kind}" for area, kinds in CONTRACT.items() for kind in kinds.split()}
    assert set(KINDS) == named | {"audit.key_used", "thread.replied"}
    schemas = {path.name.removesuffix(".schema.json") for path in EVENTS.glob("*.schema.json")}
    assert schemas == named | set(FAMILIES)


def test_the_files_are_as_their_generator_writes_them() -> None:
    command = [sys.executable, str(VECTORS / "generate_events.py"), "--check"]
    answer = subprocess.run(command, check=False, capture_output=True, text=True)
    assert (answer.returncode, answer.stdout, answer.stderr) == (0, "", "")


@pytest.mark.parametrize("kind", KINDS)
def test_an_event_has_the_bytes_and_the_hash_of_its_vector(kind: str) -> None:
    case = sealed(kind)
    body = case["canonical"].encode("ascii")
    assert case["event"]["kind"] == kind
    assert canonicalize(case["event"]) == body
    assert canonicalize(loads_strict(body)) == body
    assert event_hash(case["prev"], case["event"]) == case["hash"]
    assert event_hash(case["prev"], body) == case["hash"]
    assert Chain((6, case["prev"])).append([case["event"]]) == [(body, case["hash"])]


@pytest.mark.parametrize("kind", KINDS)
def test_a_schema_accepts_its_event_and_refuses_what_differs(kind: str) -> None:
    document = schema(kind)
    jsonschema_rs.meta.validate(document)
    validator = jsonschema_rs.Draft202012Validator(document)
    validator.validate(sealed(kind)["event"])
    cases = groups(kind)["schema"]
    assert {case["result"] for case in cases} >= {"invalid"}
    for case in cases:
        event = changed(kind, case)
        assert validator.is_valid(event) == (case["result"] == "valid"), case["comment"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_schema_is_closed_and_holds_the_six_members(kind: str) -> None:
    validator = jsonschema_rs.Draft202012Validator(schema(kind))
    event = sealed(kind)["event"]
    assert not validator.is_valid({**event, "note": "more"})
    for name in event:
        assert not validator.is_valid({key: value for key, value in event.items() if key != name})
        assert not validator.is_valid({**event, name: None})
    wrong = {
        "v": "theory.event.v2",
        "plan": "/world/acme",
        "seq": 0,
        "at": "2026-11-21T04:25:00Z",
        "kind": "plan.unknown" if not kind.startswith("plan.") else "lease.unknown",
    }
    for name, value in wrong.items():
        assert not validator.is_valid({**event, name: value})


@pytest.mark.parametrize("kind", KINDS)
def test_every_object_that_a_schema_names_is_closed(kind: str) -> None:
    open_objects = []

    def walk(part: object) -> None:
        if isinstance(part, dict):
            if part.get("type") == "object" and "additionalProperties" not in part:
                open_objects.append(part)
            for value in part.values():
                walk(value)
        elif isinstance(part, list):
            for value in part:
                walk(value)

    walk(schema(kind))
    assert open_objects == []


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_shares_its_schema(family: str) -> None:
    kind = next(kind for kind in KINDS if kind.startswith(family))
    validator = jsonschema_rs.Draft202012Validator(schema(kind))
    event = sealed(kind)["event"]
    assert validator.is_valid({**event, "kind": f"{family}.something_else"})
    for other in (family, f"{family}.", f"{family}.Created", f"x{kind}", f"{family}.{'a' * 64}"):
        assert not validator.is_valid({**event, "kind": other})


@pytest.mark.parametrize(
    ("kind", "member"), [("artifact.produced", "outputs"), ("artifact.consumed", "inputs")]
)
def test_a_part_names_at_most_500_artifacts(kind: str, member: str) -> None:
    validator = jsonschema_rs.Draft202012Validator(schema(kind))
    (item,) = sealed(kind)["event"]["data"][member]
    assert validator.is_valid(changed(kind, {"change": {member: [item] * 500}}))
    assert not validator.is_valid(changed(kind, {"change": {member: [item] * 501}}))
