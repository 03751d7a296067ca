"""The fold: what events say becomes state; a ledger that cannot be true is refused."""

from __future__ import annotations

from typing import Any

import pytest

from theory_api.domain import commands as cmd
from theory_api.domain import events as ev
from theory_api.domain.evolve import evolve, fold
from theory_api.domain.kinds import EVENT_TYPES, from_data
from theory_api.domain.state import PlanState
from theory_api.domain.tests.book import (
    BROKE,
    CID,
    PLAN,
    PREFIX,
    Book,
    output,
    policy,
    proposal,
    schema,
    wire,
)
from theory_core import TheoryError, canonicalize


def _eventful() -> Book:
    """A ledger that holds nearly every kind."""
    book = Book(proposal("a"), proposal("b", "a"), proposal("c"), policy=policy(on_breach="pause"))
    first = book.admit("a")
    book.finish(first, "failed")
    ident = book.admit("a")
    home = PREFIX.replace("{execution_id}", ident)
    book.finish(ident, used={"usd_micro": 11}, outputs=(output(f"{home}outputs/x"),))
    book.do(cmd.TopUp(plan=PLAN, by="me", amount={"usd_micro": 5}))
    book.do(cmd.ResumePlan(plan=PLAN, by="me", reason="paid"))
    book.finish(book.admit("c"), "void")
    book.admit("c")
    book.do(cmd.Refuse(plan=PLAN, transition="b", attempt=1, error=BROKE))
    book.do(cmd.CancelPlan(plan=PLAN, by="me", reason="enough"))
    return book


def _bodies(book: Book) -> list[bytes]:
    return [canonicalize(wire(seq, event)) for seq, event in enumerate(book.events, 1)]


def test_folding_the_stored_bytes_is_the_state_that_decided() -> None:
    book = _eventful()
    folded = fold(PLAN, _bodies(book))
    assert repr(folded) == repr(book.state)


def test_folding_goes_on_from_any_prefix() -> None:
    book = _eventful()
    bodies = _bodies(book)
    for cut in range(len(bodies) + 1):
        assert repr(fold(PLAN, bodies[cut:], fold(PLAN, bodies[:cut]))) == repr(book.state)


def test_an_event_that_does_not_follow_is_refused() -> None:
    event = ev.PlanPaused(by="me", reason="x")
    for seq in (0, 2):
        with pytest.raises(TheoryError, match="does not follow") as caught:
            evolve(PlanState(plan=PLAN), seq, event)
        assert caught.value.code == "ERR_CHAIN_BROKEN"


@pytest.mark.scenario(26, 29)
@pytest.mark.parametrize("member", [{"plan": "/world/evil/p1"}, {"v": "theory.event.v2"}])
def test_an_event_of_another_plan_or_version_is_refused(member: dict[str, Any]) -> None:
    body = canonicalize(wire(1, Book(proposal("a")).events[0]) | member)
    with pytest.raises(TheoryError, match="another version") as caught:
        fold(PLAN, [body])
    assert caught.value.code == "ERR_CHAIN_BROKEN"


def test_a_kind_that_moves_no_plan_only_counts() -> None:
    assert from_data("segment.sealed", {}) is None
    state = evolve(PlanState(plan=PLAN), 1, None)
    assert (state.seq, state.status) == (1, "absent")


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        ("plan.exploded", {}),
        ("plan.paused", {"by": "me"}),
        ("plan.paused", {"by": "me", "reason": "x", "more": 1}),
        ("plan.paused", {"by": 1, "reason": "x"}),
    ],
)
def test_an_event_is_refused_and_never_skipped(kind: str, data: dict[str, Any]) -> None:
    with pytest.raises(TheoryError) as caught:
        from_data(kind, data)
    assert caught.value.code == "ERR_CHAIN_BROKEN"


def test_every_kind_that_moves_a_plan_has_its_schema_and_its_place_in_the_fold() -> None:
    for kind in EVENT_TYPES:
        assert schema(kind) is not None
    seen = {event.KIND for event in _eventful().events}
    assert {"plan.created", "transition.retried", "budget.voided", "budget.breached"} <= seen


def test_absent_members_are_absent_and_never_null() -> None:
    event = ev.TransitionCancelled(transition="a", reason="x")
    assert event.data() == {"transition": "a", "reason": "x"}
    produced = ev.ArtifactProduced(part=1, parts=1, outputs=(output("/artifacts/x"),), by="me")
    assert set(produced.data()) == {"part", "parts", "outputs", "by"}


def test_a_retry_comes_back_among_the_candidates_at_the_end() -> None:
    book = Book(proposal("a"), proposal("b"))
    book.finish(book.admit("a"), "failed")
    assert list(book.state.candidates) == ["b", "a"]
    assert book.state.transitions["a"].cost == {"usd_micro": 10}
    assert book.state.registry_snapshot == CID
