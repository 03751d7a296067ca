"""The chain, its hashes and execution ids, seen from Python."""

import json
import threading
from pathlib import Path
from typing import Any

import pytest

from theory_core import (
    EVENT_VERSION,
    LIMITS,
    Chain,
    TheoryError,
    digest,
    event_hash,
    execution_id,
)

VECTORS = Path(__file__).parents[1] / "vectors" / "chain"
PREV = "b3:" + "17" * 32


def cases(file: str) -> pytest.MarkDecorator:
    document = json.loads((VECTORS / file).read_text(encoding="ascii"))
    tests = [case for group in document["testGroups"] for case in group["tests"]]
    ids = [f"{file}-{case['tcId']}" for case in tests]
    return pytest.mark.parametrize("case", tests, ids=ids)


def event(seq: int, **changes: object) -> dict[str, object]:
    return {
        "v": EVENT_VERSION,
        "plan": "/world/acme/p1",
        "seq": seq,
        "at": f"2026-11-21T04:25:00.{seq:06d}Z",
        "kind": "plan.paused",
        "data": {"by": "local", "reason": "né"},
        **changes,
    }


@cases("append.json")
def test_a_chain_seals_or_refuses(case: dict[str, Any]) -> None:
    prev = case["prev"]
    chain = Chain(tuple(prev) if isinstance(prev, list) else prev)
    if case["result"] == "valid":
        sealed = chain.append(case["events"])
        assert [[body.decode(), written] for body, written in sealed] == case["sealed"]
        return
    before = (chain.seq, chain.hash, chain.at, chain.plan)
    with pytest.raises(TheoryError) as refusal:
        chain.append(case["events"])
    assert refusal.value.code == case["code"]
    for fact in ("reason", "member", "index"):
        if fact in case:
            assert refusal.value.detail[fact] == case[fact]
    assert (chain.seq, chain.hash, chain.at, chain.plan) == before


@cases("execution_id.json")
def test_an_execution_id_is_computed_alike(case: dict[str, Any]) -> None:
    def call() -> str:
        return execution_id(case["plan"], case["transition"], case["attempt"])

    if case["result"] == "valid":
        assert call() == case["execution_id"]
        return
    with pytest.raises(TheoryError) as refusal:
        call()
    assert (refusal.value.code, refusal.value.detail["member"]) == (case["code"], case["member"])


def test_a_hash_covers_the_one_before_and_the_bytes() -> None:
    (first, first_hash), (second, second_hash) = Chain().append([event(1), event(2)])
    assert first_hash == digest(first) == event_hash(None, event(1)) == event_hash(None, first)
    raw = bytes.fromhex(first_hash.removeprefix("b3:"))
    assert second_hash == digest(raw + second) == event_hash(first_hash, event(2))


def test_a_hash_is_refused_where_the_link_is_wrong() -> None:
    body = Chain().append([event(1)])[0][0]
    wrong: list[tuple[object, object, str]] = [
        (PREV, event(1), "gap"),
        (None, event(2), "gap"),
        (None, body + b" ", "bytes"),
    ]
    for prev, given, reason in wrong:
        with pytest.raises(TheoryError) as refusal:
            event_hash(prev, given)  # type: ignore[arg-type]
        assert refusal.value.detail["reason"] == reason


def test_a_chain_says_where_it_stands() -> None:
    chain = Chain()
    assert (chain.seq, chain.hash, chain.at, chain.plan) == (0, None, None, None)
    written = chain.append([event(1), event(2)])[1][1]
    assert (chain.seq, chain.hash) == (2, written)
    assert (chain.at, chain.plan) == (event(2)["at"], "/world/acme/p1")
    unknown = Chain(PREV, plan="/world/acme/p1")
    assert (unknown.seq, unknown.hash, unknown.at) == (None, PREV, None)
    assert unknown.plan == "/world/acme/p1"


def test_a_chain_resumes_as_if_it_had_never_stopped() -> None:
    whole = Chain().append([event(seq) for seq in range(1, 6)])
    resumed = Chain((3, whole[2][1], f"{event(3)['at']}"))
    assert resumed.append([event(4), event(5)]) == whole[3:]


def test_a_bound_chain_takes_events_of_its_plan_alone() -> None:
    with pytest.raises(TheoryError) as refusal:
        Chain(plan="/world/acme/p2").append([event(1)])
    assert refusal.value.detail["reason"] == "plan"


@pytest.mark.parametrize(
    "prev",
    [
        7,
        "b3:17",
        PREV.upper(),
        (0, PREV),
        (1,),
        (1, None),
        (1, PREV, "yesterday"),
        {},
        b"",
        ("1", PREV),
    ],
)
def test_a_link_that_is_none_is_refused(prev: object) -> None:
    with pytest.raises(TheoryError) as refusal:
        Chain(prev)  # type: ignore[arg-type]
    assert refusal.value.code == "ERR_INPUTS"


@pytest.mark.parametrize("plan", ["/world/acme", "/world/acme/p1/", 7, "\udc80"])
def test_a_plan_that_is_none_is_refused(plan: object) -> None:
    with pytest.raises(TheoryError):
        Chain(plan=plan)  # type: ignore[arg-type]


@pytest.mark.parametrize("events", [None, 7, {"a": 1}, "ab", iter([])])
def test_events_come_in_a_list(events: object) -> None:
    with pytest.raises(TheoryError) as refusal:
        Chain().append(events)  # type: ignore[arg-type]
    assert refusal.value.code == "ERR_INPUTS"


@pytest.mark.parametrize(
    ("data", "code"),
    [
        ({"a": 1.0}, "ERR_JSON_NUMBER"),
        ({"a": [0.5]}, "ERR_JSON_NUMBER"),
        ({"a": 2**53}, "ERR_JSON_NUMBER"),
        ({"a": float("nan")}, "ERR_JSON_NUMBER"),
        ({"a": b""}, "ERR_JSON_TYPE"),
        ({1: 2}, "ERR_JSON_TYPE"),
        ({"a": "\ud800"}, "ERR_JSON_UNICODE"),
    ],
)
def test_what_no_ledger_holds_is_refused_with_its_index(data: object, code: str) -> None:
    with pytest.raises(TheoryError) as refusal:
        Chain().append([event(1), event(2, data=data)])
    assert (refusal.value.code, refusal.value.detail["index"]) == (code, 1)


def test_an_event_may_be_as_large_as_the_limit_and_no_larger() -> None:
    room = LIMITS["json_in_truth_bytes"] - len(Chain().append([event(1, data={"a": ""})])[0][0])
    assert len(Chain().append([event(1, data={"a": "x" * room})])[0][0]) == 256 << 10
    with pytest.raises(TheoryError) as refusal:
        Chain().append([event(1, data={"a": "x" * (room + 1)})])
    assert refusal.value.code == "ERR_TOO_LARGE"


def test_threads_that_share_a_chain_leave_no_hole() -> None:
    chain, lost, sealed = Chain(), threading.Event(), []

    def append() -> None:
        for _ in range(200):
            try:
                sealed.extend(chain.append([event((chain.seq or 0) + 1, at=event(1)["at"])]))
            except TheoryError:
                lost.set()

    threads = [threading.Thread(target=append) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert chain.seq == len(sealed)
    assert chain.seq == 800 or lost.is_set()
