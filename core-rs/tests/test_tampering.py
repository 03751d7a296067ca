"""Ledgers that somebody with every right changed: what is found from inside, what from outside."""

import itertools

import pytest

from theory_core import Chain, TheoryError, event_hash, verify

Sealed = list[tuple[bytes, str]]


def events(count: int, plan: str = "/world/acme/p1") -> list[dict[str, object]]:
    """Events of a plan; the data of all is the same."""
    return [
        {
            "v": "theory.event.v1",
            "plan": plan,
            "seq": seq,
            "at": f"2026-11-21T04:25:00.{seq:06d}Z",
            "kind": "plan.paused",
            "data": {"by": "me", "reason": "x"},
        }
        for seq in range(1, count + 1)
    ]


def export(sealed: Sealed) -> bytes:
    return b"".join(b'{"event":%b,"hash":"%b"}\n' % (b, h.encode()) for b, h in sealed)


SEALED: Sealed = Chain().append(events(8))
HEAD = (8, SEALED[-1][1])


@pytest.mark.scenario(22)
def test_a_row_that_was_changed_and_hashed_anew_breaks_at_the_next_one() -> None:
    body = SEALED[3][0].replace(b'"reason":"x"', b'"reason":"y"')
    forged = [*SEALED[:3], (body, event_hash(SEALED[2][1], body)), *SEALED[4:]]
    fault = verify(export(forged)).fault
    assert fault is not None
    assert (fault.seq, fault.reason) == (5, "hash")


@pytest.mark.scenario(23, 25)
@pytest.mark.parametrize("since", [1, 4, 8])
def test_a_suffix_that_was_chained_anew_is_found_against_a_head_that_was_kept(since: int) -> None:
    told = events(8)
    for event in told[since - 1 :]:
        event["data"] = {"by": "me", "reason": "y"}
    forged = export(Chain().append(told))
    inside = verify(forged)
    assert (inside.fault, inside.anchored) == (None, False)
    assert inside.verdict.endswith("internally consistent, not anchored")
    outside = verify(forged, expect_head=HEAD)
    assert outside.fault is not None
    assert outside.fault.reason == "head"


@pytest.mark.scenario(24)
@pytest.mark.parametrize("kept", range(1, 8))
def test_a_tail_that_was_cut_is_found_against_a_head_that_was_kept(kept: int) -> None:
    part = export(SEALED[:kept])
    assert verify(part).verdict.endswith("internally consistent, not anchored")
    fault = verify(part, expect_head=HEAD).fault
    assert fault is not None
    assert fault.reason == "head"


@pytest.mark.scenario(26)
def test_the_chain_of_another_plan_is_not_this_plans_chain() -> None:
    other = Chain().append(events(8, "/world/acme/p2"))
    for place in range(1, 8):
        mixed = export([*SEALED[:place], *other[place:]])
        fault = verify(mixed).fault
        assert fault is not None
        assert (fault.seq, fault.reason) == (place + 1, "plan")
    renamed = [(body.replace(b"acme/p2", b"acme/p1"), stated) for body, stated in other]
    fault = verify(export(renamed)).fault
    assert fault is not None
    assert (fault.seq, fault.reason) == (1, "hash")


@pytest.mark.scenario(27)
def test_events_of_equal_data_that_change_places_are_found() -> None:
    for left, right in itertools.combinations(range(8), 2):
        swapped = list(SEALED)
        swapped[left], swapped[right] = swapped[right], swapped[left]
        fault = verify(export(swapped)).fault
        assert fault is not None
        assert fault.seq == left + 1


@pytest.mark.scenario(27)
def test_a_row_that_is_there_twice_or_forged_behind_a_gap_is_found() -> None:
    for place in range(8):
        doubled = [*SEALED[: place + 1], SEALED[place], *SEALED[place + 1 :]]
        fault = verify(export(doubled)).fault
        assert fault is not None
        assert fault.line == place + 2
        missing = [*SEALED[:place], *SEALED[place + 1 :]]
        if place < 7:
            fault = verify(export(missing)).fault
            assert fault is not None
            assert fault.line == place + 1
    body = SEALED[-1][0].replace(b'"seq":8', b'"seq":10')
    forged = [*SEALED, (body, event_hash(SEALED[-1][1], body))]
    fault = verify(export(forged)).fault
    assert fault is not None
    assert (fault.line, fault.reason) == (9, "gap")


@pytest.mark.scenario(28)
def test_no_byte_can_be_moved_between_the_hash_before_and_the_event() -> None:
    body, stated = SEALED[1]
    whole = bytes.fromhex(SEALED[0][1].removeprefix("b3:")) + body
    accepted = []
    for split in range(len(whole) + 1):
        before, event = whole[:split], whole[split:]
        prev = f"b3:{before.hex()}" if split else None
        try:
            if event_hash(prev, event) == stated:
                accepted.append(split)
        except TheoryError:
            continue
    assert accepted == [32]


@pytest.mark.scenario(28)
def test_a_first_event_is_not_the_hash_before_and_the_rest_of_it() -> None:
    body, stated = SEALED[0]
    accepted = []
    for split in range(len(body) + 1):
        prev = f"b3:{body[:split].hex()}" if split else None
        try:
            if event_hash(prev, body[split:]) == stated:
                accepted.append(split)
        except TheoryError:
            continue
    assert accepted == [0]


@pytest.mark.scenario(29)
def test_an_event_of_another_version_is_refused_and_never_passed_over() -> None:
    told = events(3)
    told[1]["v"] = "theory.event.v2"
    with pytest.raises(TheoryError):
        Chain().append(told)
    body = SEALED[1][0].replace(b"event.v1", b"event.v2")
    mixed = [SEALED[0], (body, SEALED[1][1]), *SEALED[2:]]
    fault = verify(export(mixed)).fault
    assert fault is not None
    assert (fault.seq, fault.reason) == (2, "schema")


@pytest.mark.scenario(35)
def test_nothing_is_no_sound_ledger_unless_nothing_was_asked_for() -> None:
    assert not verify(b"").ok
    assert not verify([]).ok
    assert verify(b"", allow_empty=True).verdict.startswith("0 events")
    assert not verify(b"", allow_empty=True, expect_head=HEAD).ok
