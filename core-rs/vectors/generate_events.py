# ruff: noqa: INP001 - a script, not a package
"""Write the schema and the vectors of every kind of event, or check that they are as written.

    python generate_events.py [--check]

The canonical text comes from Python's own JSON writer (all names and texts are ASCII), not from
the code under test; only BLAKE3 itself is taken from `theory_core`.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import event_types as t
from event_kinds import FAMILIES, KINDS, LAW_CASES, LAWS
from event_types import Members, Schema, Type, typed

from theory_core import digest

FOLDER = Path(__file__).parent / "events"
DRAFT = "https://json-schema.org/draft/2020-12/schema"
VERSION = "theory.event.v1"
AT = "2026-11-21T04:25:00.123456Z"
AT_PATTERN = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{6}Z$"
PREV = "b3:" + "17" * 32
SEQ = 7


def main() -> int:
    """Write all files; with `--check`, name those that differ and return 1."""
    parser = argparse.ArgumentParser(description="Schemas and vectors of the kinds of events.")
    parser.add_argument("--check", action="store_true", help="write nothing, name what differs")
    check = parser.parse_args().check
    files = dict(documents())
    differing = sorted(
        name for name, content in files.items() if _read(FOLDER / name) != content
    ) + sorted(path.name for path in FOLDER.glob("*") if path.name not in files)
    if check:
        sys.stdout.write("".join(f"differs: {name}\n" for name in differing))
        return 1 if differing else 0
    FOLDER.mkdir(exist_ok=True)
    for name, content in files.items():
        (FOLDER / name).write_text(content, encoding="ascii")
    return 0


def documents() -> list[tuple[str, str]]:
    """Name and content of every file."""
    written = []
    for kind, members in KINDS.items():
        name = FAMILIES.get(kind, kind)
        written.append((f"{name}.schema.json", _written(schema(kind, members))))
        written.append((f"{kind}.json", _lines(vectors(kind, members))))
    return written


def schema(kind: str, members: Members) -> Schema:
    """The closed schema of a whole event; it stands alone."""
    family = FAMILIES.get(kind)
    is_kind: Schema = {"const": kind}
    if family:
        pattern = rf"^{family}(\.[a-z][a-z0-9_]*)+$"
        is_kind = {"type": "string", "pattern": pattern, "maxLength": 64}
    names: Schema = {
        "v": {"const": VERSION},
        "plan": t.PLAN.schema,
        "seq": {"type": "integer", "minimum": 1, "maximum": t.INTEGER_MAX},
        "at": {"type": "string", "pattern": AT_PATTERN},
        "kind": is_kind,
        "data": {**t.closed(members).schema, **LAWS.get(kind, {})},
    }
    document: Schema = {
        "$schema": DRAFT,
        "$id": f"urn:theory:event:v1:{family or kind}",
        "title": f"Event {family}.*" if family else f"Event {kind}",
        "type": "object",
        "additionalProperties": False,
        "required": list(names),
        "properties": names,
    }
    used = _definitions(document)
    if used:
        document["$defs"] = {name: t.DEFS[name] for name in sorted(used)}
    return document


def _definitions(part: object) -> set[str]:
    """Names of the shared definitions that a part of a schema refers to, and they in turn."""
    found: set[str] = set()
    wanted = _references(part)
    while wanted - found:
        name = (wanted - found).pop()
        found.add(name)
        wanted |= _references(t.DEFS[name])
    return found


def _references(part: object) -> set[str]:
    if isinstance(part, dict):
        own = {part["$ref"].rsplit("/", 1)[1]} if "$ref" in part else set()
        return own.union(*(_references(value) for value in part.values()))
    if isinstance(part, list):
        return set().union(*(_references(value) for value in part))
    return set()


def vectors(kind: str, members: Members) -> dict[str, Any]:
    """One event with its bytes and hash, and events that the schema refuses."""
    event = {"v": VERSION, "plan": t.PLAN.sample, "seq": SEQ, "at": AT, "kind": kind}
    event["data"] = t.closed(members).sample
    canonical = json.dumps(event, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    hashed = bytes.fromhex(PREV.removeprefix("b3:")) + canonical.encode("ascii")
    sealed = {
        "tcId": 1,
        "comment": f"an event {kind}",
        "prev": PREV,
        "event": event,
        "canonical": canonical,
        "hash": digest(hashed),
        "result": "valid",
    }
    changed = [
        {"tcId": number, **case}
        for number, case in enumerate(_accepted(kind, members) + _refused(kind, members), start=2)
    ]
    return {
        "algorithm": f"event {kind}",
        "notes": [
            "sealed: canonical is the RFC 8785 text of event, hash is BLAKE3(prev || canonical).",
            "schema: that event, its data without `remove` and with `change`; judged by schema.",
        ],
        "testGroups": [
            {"type": "sealed", "tests": [sealed]},
            {"type": "schema", "tests": changed},
        ],
    }


def _accepted(kind: str, members: Members) -> list[dict[str, Any]]:
    """Changes of the data that the schema accepts."""
    shown = t.closed(members).sample
    hidden = {name: typed(member).sample for name, member in members.items() if name not in shown}
    cases = [case for case in LAW_CASES.get(kind, []) if case["result"] == "valid"]
    if hidden and not cases:
        cases = [{"comment": "every member", "change": hidden, "result": "valid"}]
    optional = [name for name, member in members.items() if not isinstance(member, Type)]
    if optional:
        least = {"comment": "the least", "remove": optional, "result": "valid"}
        cases.append(least)
    return cases


def _refused(kind: str, members: Members) -> list[dict[str, Any]]:
    """Changes of the data that the schema refuses."""
    cases: list[dict[str, Any]] = [{"comment": "a member more", "change": {"more": 1}}]
    for name, member in members.items():
        if isinstance(member, Type):
            cases.append({"comment": f"{name} is missing", "remove": [name]})
        cases.extend(
            {"comment": f"{name} is wrong", "change": {name: value}}
            for value in typed(member).wrong
        )
    refused = [{**case, "result": "invalid"} for case in cases]
    return refused + [case for case in LAW_CASES.get(kind, []) if case["result"] == "invalid"]


def _read(path: Path) -> str | None:
    return path.read_text(encoding="ascii") if path.exists() else None


def _written(document: object) -> str:
    return json.dumps(document, indent=1, ensure_ascii=True) + "\n"


def _lines(document: dict[str, Any]) -> str:
    """The same layout, but one line a case."""
    cases = [case for group in document["testGroups"] for case in group["tests"]]
    for group in document["testGroups"]:
        group["tests"] = [f"#{case['tcId']}#" for case in group["tests"]]
    written = _written(document)
    for case in cases:
        written = written.replace(f'"#{case["tcId"]}#"', json.dumps(case, ensure_ascii=True))
    return written


if __name__ == "__main__":
    sys.exit(main())
