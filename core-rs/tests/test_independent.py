"""The wheel against a second verifier that shares no code with it: vectors, ledgers, lines."""

import json
import struct
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from theory_core import Chain, Report, canonicalize, digest, execution_id, verify

SOURCE = Path(__file__).with_name("independent.py")
VECTORS = Path(__file__).parents[1] / "vectors"
SAFE = 2**53 - 1

Head = tuple[int, str]
Both = Callable[..., Report]


def cases(file: str) -> list[dict[str, Any]]:
    document = json.loads((VECTORS / file).read_text(encoding="ascii"))
    return [case for group in document["testGroups"] for case in group["tests"]]


def line(body: bytes, stated: str) -> bytes:
    return b'{"event":%s,"hash":"%s"}\n' % (body, stated.encode())


def ledger(
    plan: str, data: list[tuple[str, object]], skip: int = 0
) -> tuple[list[bytes], list[Head]]:
    """Lines of a sound export and the head after each; time stands still now and then."""
    events = [
        {
            "v": "theory.event.v1",
            "plan": plan,
            "seq": seq,
            "at": f"2026-11-21T04:25:00.{seq // 2:06d}Z",
            "kind": kind,
            "data": {"value": value},
        }
        for seq, (kind, value) in enumerate(data, start=1)
    ]
    sealed = Chain().append(events)
    heads = [(seq, stated) for seq, (_, stated) in enumerate(sealed, start=1)]
    return [line(*pair) for pair in sealed][skip:], heads


def test_the_second_verifier_is_short_and_knows_nothing_of_the_wheel() -> None:
    source = SOURCE.read_text(encoding="utf-8")
    imported = [row.split()[1] for row in source.splitlines() if row.startswith(("import", "from"))]
    assert len(source.splitlines()) <= 150
    assert set(imported) == {"json", "re", "struct", "datetime", "decimal", "typing"}


@pytest.mark.parametrize("case", cases("chain/export.json"), ids=lambda case: case["tcId"])
def test_both_judge_the_exports_of_the_vectors_alike(case: dict[str, Any], both: Both) -> None:
    def pair(name: str) -> Any:  # noqa: ANN401 - what a case gives
        given = case.get(name)
        return tuple(given) if isinstance(given, list) else given

    empty = case.get("allow_empty", False)
    report = both(case["export"].encode(), pair("expect_head"), pair("expect_prev"), empty=empty)
    assert report.ok == (case["result"] == "valid")


@pytest.mark.scenario(42)
def test_both_read_and_write_every_json_vector_alike(independent: ModuleType) -> None:
    for case in cases("json/text.json"):
        text = "".join(piece * count for piece, count in case.get("repeat", []))
        data = bytes.fromhex(case["hex"]) if "hex" in case else (text or case["text"]).encode()
        if case["result"] == "invalid":
            with pytest.raises((ValueError, RecursionError)):
                independent.load(data)
        else:
            canonical = "".join(piece * count for piece, count in case.get("canonical_repeat", []))
            answer = independent.canonical(independent.load(data))
            assert answer == (canonical or case["canonical"]), case["comment"]
    for case in cases("json/doubles.json"):
        (value,) = struct.unpack(">d", bytes.fromhex(case["f64"]))
        if case["result"] == "valid":
            assert independent.double(value) == case["canonical"]


def test_both_hash_every_vector_alike(independent: ModuleType) -> None:
    for case in cases("digest/bytes.json"):
        if case["length"] <= 1 << 17:
            data = (bytes(range(251)) * (case["length"] // 251 + 1))[: case["length"]]
            assert independent.digest(data) == case["digest"] == digest(data)
    for case in cases("chain/execution_id.json"):
        if case["result"] == "valid":
            named = {name: case[name] for name in ("attempt", "plan", "transition")}
            written = independent.digest(json.dumps(named, separators=(",", ":")).encode())
            assert "x" + written[3:35] == case["execution_id"] == execution_id(**named)


def test_every_kind_of_event_is_sound_to_both(both: Both) -> None:
    files = sorted(
        file for file in (VECTORS / "events").glob("*.json") if ".schema." not in file.name
    )
    assert len(files) > 30
    for file in files:
        for case in cases(f"events/{file.name}"):
            if "canonical" in case:
                text = line(case["canonical"].encode(), case["hash"])
                assert both(text, prev=(6, case["prev"])).ok, file.name


NONCHARACTERS = {
    *range(0xFDD0, 0xFDF0),
    *(plane + low for plane in range(0xFFFE, 0x110000, 0x10000) for low in (0, 1)),
}
texts = st.text(max_size=8).filter(lambda text: NONCHARACTERS.isdisjoint(map(ord, text)))
values = st.recursive(
    st.none() | st.booleans() | st.integers(-SAFE, SAFE) | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=8,
)
kinds = st.sampled_from(["plan.paused", "budget.reserved", "x.y_z.q9"])


@settings(max_examples=60, deadline=None)
@given(data=st.lists(st.tuples(kinds, values), min_size=1, max_size=6), draw=st.data())
def test_both_find_generated_ledgers_sound(
    data: list[tuple[str, object]], draw: st.DataObject, both: Both
) -> None:
    lines, heads = ledger("/world/acme/p1", data)
    assert both(b"".join(lines), heads[-1]).anchored
    start = draw.draw(st.integers(1, len(lines)))
    part = b"".join(lines[start:])
    for prev in (heads[start - 1], heads[start - 1][1]):
        assert both(part, heads[-1] if part else None, prev, empty=True).ok


@settings(max_examples=150, deadline=None)
@given(value=st.dictionaries(st.sampled_from(["event", "hash", "x"]), values, max_size=3))
def test_both_judge_lines_of_any_shape_alike(value: dict[str, object], both: Both) -> None:
    text = canonicalize(value) + b"\n"
    assert both(text).fault is not None
    assert both(json.dumps(value).encode() + b"\n").fault is not None


ODD_MEMBERS: list[tuple[str, object]] = [
    ("v", "theory.event.v2"),
    ("v", None),
    ("plan", "/world/acme/p1/"),
    ("plan", "/world/Acme/p1"),
    ("plan", "/world/acme/p..1"),
    ("plan", "/world/acme/" + "p" * 64),
    ("plan", "/world/acme/p1\n"),
    ("plan", 7),
    ("seq", 0),
    ("seq", -1),
    ("seq", 1.5),
    ("seq", True),
    ("seq", "1"),
    ("seq", 2.0**53),
    ("at", "2026-02-29T04:25:00.000000Z"),
    ("at", "2026-11-21T24:00:00.000000Z"),
    ("at", "2026-11-21T23:60:00.000000Z"),
    ("at", "2026-11-21T23:59:60.000000Z"),
    ("at", "0000-11-21T04:25:00.000000Z"),
    ("at", "2026-11-21T04:25:00.00000\u0660Z"),
    ("at", "2026-11-21T04:25:00.000000z"),
    ("at", None),
    ("kind", "plan"),
    ("kind", "plan."),
    ("kind", "plan.Paused"),
    ("kind", "plan.9"),
    ("kind", "plan.paused\n"),
    ("kind", "a." + "b" * 63),
    ("kind", []),
    ("data", []),
    ("data", None),
    ("data", {"x": 0.5}),
    ("data", {"x": [[1e300]]}),
    ("data", {"x": 2.0**53}),
    ("w", 1),
]


@pytest.mark.parametrize(("name", "value"), ODD_MEMBERS)
def test_both_refuse_an_event_with_an_odd_member(
    name: str, value: object, both: Both, independent: ModuleType
) -> None:
    event = {"v": "theory.event.v1", "plan": "/world/acme/p1", "seq": 1, "data": {}}
    event |= {"at": "2026-11-21T04:25:00.000000Z", "kind": "plan.paused", name: value}
    body = canonicalize(event)
    report = both(line(body, independent.digest(body)))
    assert report.fault is not None
    assert report.fault.reason == "schema"


@pytest.mark.parametrize(
    "text",
    [
        b'[["event",{}],["hash",""]]',
        b'{"event":[["at",""],["data",{}],["kind",""],["plan",""],["seq",1],["v",""]],"hash":""}',
        b"[" * 256 + b"]" * 256,
        b"[" * 257 + b"]" * 257,
        b"[" * 100_000,
        b"NaN",
        b"-Infinity",
        b"1e400",
        b"9007199254740993",
        b"9007199254740992",
        b"9" * 5000,
        b'{"a":1,"\\u0061":2}',
        b'"\\ud800"',
        b'"\\uffff"',
        b'"\xff"',
        b"\xef\xbb\xbf1",
        b"1 2",
        b" 1",
        b"1.0",
        b"-0",
        b"",
        b"\t",
        b'"\x7f"',
        b'"\x1f"',
        b"true",
    ],
    ids=lambda text: text[:20],
)
def test_both_give_the_same_reason_for_a_strange_line(text: bytes, both: Both) -> None:
    assert both(text + b"\n").fault is not None


def test_a_line_beyond_the_limit_is_no_line_wherever_it_is_cut() -> None:
    lines, _ = ledger("/world/acme/p1", [("plan.paused", 1)])
    cap = 8 << 20
    for length, reason in ((cap, "schema"), (cap + 1, "syntax"), (cap + (3 << 20), "syntax")):
        long = b'"' + b"x" * (length - 2) + b'"\n'
        fault = verify(lines[0] + long).fault
        assert fault is not None
        assert (fault.seq, fault.reason) == (2, reason), length
