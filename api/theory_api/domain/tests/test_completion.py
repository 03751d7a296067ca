"""Completion: what an attempt's end leaves in the ledger, in which order, and what follows."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from theory_api.domain import events as ev
from theory_api.domain.commands import Conclude, Orphan
from theory_api.domain.decision import PORTION, portions
from theory_api.domain.tests.book import (
    BROKE,
    CID,
    PLAN,
    PREFIX,
    Book,
    output,
    policy,
    proposal,
    verdict,
)
from theory_api.domain.values import Output, Predicate, StreamSeal, Verdict
from theory_core import LIMITS, TheoryError, canonicalize

SEAL = StreamSeal(path="/streams/a", digest=CID, count=2, bytes=7)
EXISTS = Predicate(name="artifact.exists@1", params={"path": "outputs/x"})


def _home(ident: str) -> str:
    return PREFIX.replace("{execution_id}", ident)


def test_events_of_a_success_stand_in_their_order() -> None:
    book = Book(proposal("a", success=(EXISTS,)), proposal("b", "a"))
    ident = book.admit("a")
    written = (output(_home(ident) + "outputs/x"),)
    kept = (output(f"/artifacts/execution/{ident}/trace.jsonl"),)
    decision = book.finish(ident, used={"usd_micro": 4}, outputs=written, records=kept)
    assert [event.KIND for event in decision.events] == [
        "artifact.produced",
        "execution.succeeded",
        "predicate.checked",
        "budget.settled",
        "lease.released",
        "transition.succeeded",
    ]
    assert list(book.state.candidates) == ["b"]
    assert book.state.open == {}


def test_events_of_a_breach_stand_in_their_order() -> None:
    book = Book(proposal("a"), proposal("b", "a"), proposal("c"), policy=policy(attempts=1))
    decision = book.finish(book.admit("a"), "failed", used={"usd_micro": 11})
    assert [event.KIND for event in decision.events] == [
        "execution.failed",
        "budget.settled",
        "budget.breached",
        "lease.released",
        "transition.failed",
        "transition.skipped",
        "transition.cancelled",
    ]


@pytest.mark.parametrize(
    ("holds", "taken"),
    [([{"usd_micro": 6}], 1), ([{"usd_micro": 7}], 0), ([{"usd_micro": 3}] * 3, 0)],
)
def test_proposals_hold_no_more_than_the_settled_hold_has_left(
    holds: list[dict[str, int]], taken: int
) -> None:
    book = Book(proposal("a"))
    more = tuple(proposal(f"b{n}", "a", hold=hold) for n, hold in enumerate(holds))
    decision = book.finish(book.admit("a"), used={"usd_micro": 4}, proposals=more)
    assert decision.stale == (not taken)
    assert len(book.state.transitions) == 1 + taken


@pytest.mark.parametrize(
    ("limit", "hold", "taken"),
    [
        ({"usd_micro": 100}, {"tokens": 5}, 1),
        ({"usd_micro": 100, "tokens": 5}, {"tokens": 5}, 0),
        ({}, {"usd_micro": 11}, 0),
        ({}, {"tokens": 5}, 1),
    ],
    ids=["neither held nor limited", "limited, not held", "held, not limited", "nothing limited"],
)
def test_what_bounds_proposals_is_what_is_held_or_limited(
    limit: dict[str, int], hold: dict[str, int], taken: int
) -> None:
    book = Book(proposal("a"), limit=limit)
    more = (proposal("b", "a", hold=hold),)
    decision = book.finish(book.admit("a"), used={"usd_micro": 0}, proposals=more)
    assert decision.stale == (not taken)


def test_a_hold_that_was_passed_leaves_nothing() -> None:
    book = Book(proposal("a"), policy=policy(on_breach="pause"))
    ident = book.admit("a")
    more = (proposal("b", "a", hold={"usd_micro": 1}),)
    assert book.finish(ident, used={"usd_micro": 11}, proposals=more).stale
    nothing = (proposal("b", "a", hold={"usd_micro": 0}),)
    assert book.finish(ident, used={"usd_micro": 11}, proposals=nothing).events


def test_a_false_success_predicate_is_a_failure_and_may_be_repeated() -> None:
    rules = policy(attempts=2, retry_on=("ERR_PREDICATE_FAILED",))
    book = Book(proposal("a", success=(EXISTS,)), policy=rules)
    for _ in range(2):
        ident = book.admit("a")
        book.finish(ident, used={"usd_micro": 1}, verdicts=(verdict(EXISTS, "false"),))
    assert book.status("a") == "failed"
    error = book.state.transitions["a"].error
    assert error is not None
    assert error.code == "ERR_PREDICATE_FAILED"
    assert error.detail == {"predicate": "artifact.exists@1"}
    assert book.state.spent == {"usd_micro": 2}


def test_answers_to_other_questions_complete_nothing() -> None:
    book = Book(proposal("a", success=(EXISTS,)))
    with pytest.raises(TheoryError) as caught:
        book.finish(book.admit("a"), verdicts=())
    assert caught.value.code == "ERR_CONFLICT"


@pytest.mark.parametrize(
    "path",
    [
        "/artifacts/outputs/demo-echo-v1/",
        "/artifacts/outputs/demo-echo-v1/x0/outputs/y",
        "/artifacts/execution/x0/determinism.json",
        "/artifacts/execution/other",
    ],
)
def test_an_attempt_brings_nothing_into_the_world_outside_its_own(path: str) -> None:
    book = Book(proposal("a"))
    ident = book.admit("a")
    for member in ("outputs", "records"):
        stray: dict[str, Any] = {member: (output(path),)}
        with pytest.raises(TheoryError) as caught:
            book.finish(ident, **stray)
        assert caught.value.code == "ERR_OUTPUT_PREFIX"


def test_many_outputs_are_stated_in_parts() -> None:
    book = Book(proposal("a"))
    ident = book.admit("a")
    many = tuple(output(f"{_home(ident)}outputs/{n}") for n in range(2 * PORTION + 1))
    book.finish(ident, outputs=many)
    parts = [event for event in book.events if isinstance(event, ev.ArtifactProduced)]
    assert [(part.part, part.parts, len(part.outputs)) for part in parts] == [
        (1, 3, PORTION),
        (2, 3, PORTION),
        (3, 3, 1),
    ]


def test_a_part_fits_into_an_event_however_long_its_paths_are() -> None:
    long = [
        Output(path="/artifacts/" + '"' * 900 + f"/{n}", cid="b3:", size_bytes=0, mime='"' * 900)
        for n in range(PORTION)
    ]
    pieces = list(portions(long))
    assert [entry for piece in pieces for entry in piece] == long
    cap = LIMITS["json_in_truth_bytes"]
    for piece in pieces:
        stated = [{"path": entry.path, "mime": entry.mime, "cid": "x" * 67} for entry in piece]
        assert len(canonicalize(stated)) < cap


def test_a_plan_completes_when_its_goal_holds_whatever_failed() -> None:
    goal = (Predicate(name="artifact.exists@1", params={"path": "/artifacts/x"}),)
    book = Book(proposal("a"), goal=goal, policy=policy(attempts=1))
    book.finish(book.admit("a"), "failed")
    final = book.conclude().events[-1]
    assert isinstance(final, ev.PlanCompleted)
    assert (final.counts.failed, final.counts.succeeded) == (1, 0)


@pytest.mark.parametrize("answer", ["false", "error"])
def test_a_plan_fails_and_names_the_first_false_predicate(answer: str) -> None:
    asked = [
        Predicate(name="artifact.exists@1", params={"path": f"/artifacts/{n}"}) for n in range(2)
    ]
    book = Book(proposal("a"), goal=tuple(asked))
    book.finish(book.admit("a"))
    final = book.conclude(answer).events[-1]
    assert isinstance(final, ev.PlanFailed)
    assert final.error.code == "ERR_PREDICATE_FAILED"
    assert "artifact.exists@1" in final.error.message


def test_without_a_goal_every_transition_has_to_succeed() -> None:
    book = Book(proposal("a"), proposal("b", "a"), policy=policy(attempts=1))
    book.finish(book.admit("a"), "failed")
    final = book.conclude().events[-1]
    assert isinstance(final, ev.PlanFailed)
    assert final.error.code == "ERR_PROVIDER"
    assert final.error.detail == {"transition": "a"}


def test_a_goal_is_judged_by_its_own_predicates() -> None:
    goal = (Predicate(name="artifact.exists@1", params={"path": "/artifacts/x"}),)
    book = Book(proposal("a"), goal=goal)
    book.finish(book.admit("a"))
    with pytest.raises(TheoryError) as caught:
        book.do(Conclude(plan=PLAN, verdicts=()))
    assert caught.value.code == "ERR_CONFLICT"
    assert book.conclude().events[-1].KIND == "plan.completed"


def test_the_longest_reason_still_fits_into_the_final_event() -> None:
    goal = (Predicate(name="artifact.exists@1", params={"path": "/artifacts/x"}),)
    book = Book(proposal("a"), goal=goal)
    book.finish(book.admit("a"))
    answer = Verdict(
        name=goal[0].name, params=goal[0].params, verdict="false", reason="r" * 1024, at_seq=99
    )
    assert book.do(Conclude(plan=PLAN, verdicts=(answer,))).events


@pytest.mark.parametrize("outcome", ["succeeded", "failed", "cancelled"])
def test_what_streamed_is_sealed_before_the_end_whatever_the_end_is(outcome: str) -> None:
    book = Book(proposal("a"))
    ident = book.admit("a")
    decision = book.finish(ident, outcome, streams=(SEAL, replace(SEAL, path="/streams/b")))
    kinds = [event.KIND for event in decision.events]
    at = kinds.index("stream.sealed")
    assert kinds[at : at + 3] == ["stream.sealed", "stream.sealed", f"execution.{outcome}"]
    assert decision.events[at].data() == {
        "path": "/streams/a",
        "digest": CID,
        "count": 2,
        "bytes": 7,
        "execution_id": ident,
        "transition": "a",
        "attempt": 1,
    }


def test_of_an_attempt_that_was_given_up_nothing_is_sealed_later() -> None:
    book = Book(proposal("a"))
    ident = book.admit("a")
    book.do(Orphan(plan=PLAN, execution_id=ident, error=BROKE))
    book.finish(ident, streams=(SEAL,))
    assert "stream.sealed" not in book.kinds()
