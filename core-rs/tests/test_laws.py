"""The judge of laws: shapes of data held against their schemas, and what a report says."""

import copy
import importlib.util
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import jsonschema_rs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from theory_core import Chain, Report, TheoryError, verify

VECTORS = Path(__file__).parents[1] / "vectors"
SCHEMAS = {
    path.name.removesuffix(".schema.json"): json.loads(path.read_text(encoding="ascii"))
    for path in sorted((VECTORS / "events").glob("*.schema.json"))
}
SEALED = {
    path.name.removesuffix(".json"): json.loads(path.read_text(encoding="ascii"))
    for path in sorted((VECTORS / "events").glob("*.json"))
    if not path.name.endswith(".schema.json")
}
GROUPS = json.loads((VECTORS / "laws" / "plan.json").read_text(encoding="ascii"))["testGroups"]
WORDS = ("a", "b3:" + "5e" * 32, "/artifacts/a/", "plan", "ERR_A", "ns/name@1", "text/plain", "A")
POOL: tuple[Any, ...] = (
    *(None, True, 0, -1, 1, 1000, 1001, 2**53 - 1, [], {}, [1], {"a": 1}, {"cpu_ms": 1}),
    *("", " ", "x", "X", ".", "a..b", "/", "//", "\n", "é", "\U0001f600", "{execution_id}"),
    *("x" * size for size in (63, 64, 255, 256, 1024, 1025)),
    *("é" * size for size in (255, 256, 1024, 1025)),
    *WORDS,
)
"""What a member may be replaced by."""


def load_judge() -> ModuleType:
    spec = importlib.util.spec_from_file_location("judge_of_laws", VECTORS / "judge.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


JUDGE = load_judge()


def film() -> list[bytes]:
    lines: list[bytes] = JUDGE.lawbook(GROUPS[0]["plan"], GROUPS[0]["events"])
    return lines


LINES = film()


def validator(kind: str) -> jsonschema_rs.Draft202012Validator:
    family = kind.partition(".")[0]
    return jsonschema_rs.Draft202012Validator(SCHEMAS.get(kind) or SCHEMAS[family])


def sample(kind: str) -> dict[str, Any]:
    event: dict[str, Any] = copy.deepcopy(SEALED[kind]["testGroups"][0]["tests"][0]["event"])
    return {**event, "seq": 1}


def shaped(event: dict[str, Any]) -> bool:
    """Whether the judge finds kind and data in order; what else it says is not asked here."""
    ((body, stated),) = Chain().append([event])
    line = b'{"event":%b,"hash":"%b"}\n' % (body, stated.encode())
    fault = verify(line, laws=True).fault
    return fault is None or fault.reason == "law"


def spots(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:  # noqa: ANN401 - JSON
    yield path
    inside = value.items() if isinstance(value, dict) else ()
    for name, item in enumerate(value) if isinstance(value, list) else inside:
        yield from spots(item, (*path, name))


def replaced(value: Any, path: tuple[Any, ...], new: object) -> Any:  # noqa: ANN401 - JSON
    if not path:
        return new
    made = copy.copy(value)
    made[path[0]] = replaced(value[path[0]], path[1:], new)
    return made


def mutated(value: Any) -> Iterator[Any]:  # noqa: ANN401 - JSON
    """The value with something of it replaced, left out, put in or written another way."""
    for path in spots(value):
        here = value
        for name in path:
            here = here[name]
        others: list[Any] = [*POOL]
        if isinstance(here, dict):
            others += [{key: item for key, item in here.items() if key != gone} for gone in here]
            others += [{**here, name: item} for name in ("more", "by") for item in ("x", 1)]
        elif isinstance(here, list):
            others += [here[1:], here * 2, here * 500, here * 501]
        elif isinstance(here, str):
            others += [here + end for end in ("/", "a", "A", "0", "\n", "/.", "..", ";a", "@1", "")]
            others += [here[1:], here[:-1], here.upper(), "x" + here, here.replace("/", "//")]
        else:
            others += [here + 1, here - 1, str(here)]
        yield from (replaced(value, path, other) for other in others)


@pytest.mark.parametrize("kind", SEALED)
def test_the_judge_and_the_schema_agree_on_mutated_data(kind: str) -> None:
    event, schema = sample(kind), validator(kind)
    members = SEALED[kind]["testGroups"][1]["tests"]
    every = [case["change"] for case in members if case["result"] == "valid" and "change" in case]
    verdicts = set()
    for base in [event["data"], *({**event["data"], **change} for change in every)]:
        for data in mutated(base):
            if not isinstance(data, dict):
                continue
            changed = {**event, "data": data}
            verdicts.add(accepted := schema.is_valid(changed))
            assert shaped(changed) == accepted, data
    assert verdicts == {True, False} or kind == "lease.released"


@pytest.mark.parametrize("kind", SEALED)
def test_the_judge_and_the_schema_agree_on_data_mutated_twice(kind: str) -> None:
    event, schema = sample(kind), validator(kind)
    every = [data for data in mutated(event["data"]) if isinstance(data, dict)]
    good = [data for data in every if schema.is_valid({**event, "data": data})]

    @settings(max_examples=30, deadline=None)
    @given(st.data())
    def agree(draw: st.DataObject) -> None:
        base = draw.draw(st.sampled_from(good))
        path = draw.draw(st.sampled_from(list(spots(base))[1:]))
        new = draw.draw(st.sampled_from(POOL) | st.text(max_size=20))
        changed = {**event, "data": replaced(base, path, new)}
        assert shaped(changed) == schema.is_valid(changed), changed

    agree()


@pytest.mark.parametrize(
    "kind",
    ["plan.admired", "audit", "audits.key_used", "thread_.a", "plan", "budget.reserved.twice"],
)
def test_the_set_of_kinds_is_closed(kind: str) -> None:
    event = {**sample("plan.paused"), "kind": kind}
    if "." not in kind:
        with pytest.raises(TheoryError):
            Chain().append([event])
        return
    assert not shaped(event)


def test_a_family_takes_any_word() -> None:
    for kind, word in (("audit.key_used", "audit.x.y"), ("thread.replied", "thread.closed")):
        assert shaped({**sample(kind), "kind": word})
        assert not shaped({**sample("plan.paused"), "kind": word})


def edited(*edits: list[Any]) -> list[bytes]:
    lines: list[bytes] = JUDGE.lawbook(GROUPS[0]["plan"], GROUPS[0]["events"], edits)
    return lines


def test_a_report_says_whether_laws_were_judged() -> None:
    asked, other = verify(LINES, laws=True), verify(LINES)
    assert (asked.laws, other.laws) == ("judged", "not asked")
    assert asked.verdict == "37 events, internally consistent, lawful, not anchored"
    assert other.verdict == "37 events, internally consistent, not anchored"
    assert (asked.count, asked.head, asked.anchored) == (other.count, other.head, other.anchored)
    assert asked.head is not None
    anchored = verify(LINES, laws=True, expect_head=asked.head)
    assert anchored.verdict == "37 events, internally consistent, lawful, anchored at seq 37"


def test_a_broken_law_is_named_in_words() -> None:
    report = verify(edited(["copy", 13, 14]), laws=True)
    words = "an attempt reserves once and settles or voids once"
    assert (
        report.verdict == f"broken at seq 14 (line 14): law budget-once ({words}), after 13 events"
    )
    assert report.fault is not None
    assert (report.fault.law, report.fault.member) == ("budget-once", None)
    report = verify(edited(["change", 7, ["data", "hold"]]), laws=True)
    assert report.verdict == "broken at seq 7 (line 7): data (member hold), after 6 events"
    assert report.fault is not None
    assert (report.fault.law, report.fault.member) == (None, "hold")


def test_a_kind_that_no_event_has_is_named() -> None:
    report = verify(edited(["change", 7, ["kind"], "budget.promised"]), laws=True)
    told = "kind (no event is a budget.promised)"
    assert report.verdict == f"broken at seq 7 (line 7): {told}, after 6 events"


def test_on_one_line_the_chain_comes_before_the_laws() -> None:
    lines = edited(["copy", 13, 14])
    line = lines[13].replace(b'"seq":14', b'"seq":15')
    found = verify([*lines[:13], line], laws=True).fault
    assert found is not None
    assert (found.seq, found.reason, found.law) == (14, "gap", None)
    head = (13, "b3:" + "5e" * 32)
    found = verify(lines, laws=True, expect_head=head).fault
    assert found is not None
    assert (found.seq, found.reason) == (13, "head")


def test_the_lowest_line_comes_first_whatever_its_reason() -> None:
    lines = edited(["copy", 13, 14])
    found = verify([*lines[:20], b"{}\n"], laws=True).fault
    assert found is not None
    assert (found.seq, found.reason) == (14, "law")


def many(count: int) -> Report:
    """The report on a plan of so many transitions that run at once and end."""
    group = GROUPS[0]
    events, ids = [group["events"][0]], []
    events[0] = {**events[0], "data": {**events[0]["data"], "transitions": count, "limit": {}}}
    old = group["events"][4]["data"]["execution_id"]
    chosen = [group["events"][place] for place in (2, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24)]
    attempt = group["events"][15]["data"]["execution_id"]
    for number in range(count):
        name = f"t{number}"
        ident = JUDGE.core.execution_id(group["plan"], name, 1)
        text = json.dumps(chosen).replace(attempt, ident).replace(old, ident)
        text = text.replace('"script"', f'"{name}"').replace('"attempt": 2', '"attempt": 1')
        ids.append(json.loads(text))
    events += [made[0] for made in ids]
    events += [event for made in ids for event in made[1:]]
    return verify(JUDGE.lawbook(group["plan"], events), laws=True)


def test_a_plan_of_many_transitions_is_judged_whatever_the_threads() -> None:
    report = many(300)
    assert report.ok, report.verdict
    assert report.count == 1 + 300 * 11


@pytest.mark.parametrize("threads", [1, 2, None])
def test_threads_never_change_what_laws_find(threads: int | None) -> None:
    lines = edited(["drop", 13])
    one = verify(lines, laws=True, threads=1)
    assert verify(lines, laws=True, threads=threads) == one


@pytest.mark.parametrize("prev", ["b3:" + "5e" * 32, (3, "b3:" + "5e" * 32)])
def test_a_part_cannot_be_judged_by_laws(prev: Any) -> None:  # noqa: ANN401 - either form
    with pytest.raises(TheoryError) as refusal:
        verify(LINES[3:], laws=True, expect_prev=prev)
    assert refusal.value.code == "ERR_INPUTS"


def test_no_event_breaks_no_law() -> None:
    assert verify(b"", laws=True, allow_empty=True).ok
    assert not verify(b"", laws=True).ok


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_no_ledger_makes_the_judge_fail(data: st.DataObject) -> None:
    """Any order of any events leads to a report, and it is the same for a prefix that holds."""
    group = data.draw(st.sampled_from(GROUPS))
    events = data.draw(st.lists(st.sampled_from(group["events"]), min_size=1, max_size=20))
    lines = JUDGE.lawbook(group["plan"], [group["events"][0], *events])
    report = verify(lines, laws=True)
    pick: Callable[[int], bool] = lambda end: verify(lines[:end], laws=True).ok  # noqa: E731
    assert all(pick(end) for end in range(1, report.count + 1))
    assert report.ok == (report.count == len(lines))
