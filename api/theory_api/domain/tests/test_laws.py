"""The laws of budgets, leases and endings, at every prefix of random ledgers."""

from __future__ import annotations

import contextlib
import copy

from hypothesis import given, settings
from hypothesis import strategies as st

from theory_api.domain.runnable import why
from theory_api.domain.tests.auditor import Audit
from theory_api.domain.tests.book import Book
from theory_api.domain.tests.ledgers import ENDS, NAMES, command, policies, proposals, usages
from theory_api.domain.values import TERMINAL_PLAN
from theory_core import TheoryError

OFTEN = ("admit", "complete", "control")
SELDOM = ("orphan", "refuse", "topup", "pause", "resume", "cancel", "conclude")
VERBS = (*OFTEN, *OFTEN[:2], *OFTEN, *SELDOM)

steps = st.tuples(st.sampled_from(VERBS), st.sampled_from(NAMES), st.sampled_from(ENDS), usages)
limits = st.fixed_dictionaries(
    {}, optional={"usd_micro": st.integers(0, 60), "tokens": st.integers(0, 60)}
)
law = settings(max_examples=60, deadline=None)


@st.composite
def ledgers(draw: st.DrawFn) -> Book:
    """A plan after up to forty commands; those that are refused leave no trace."""
    book = Book(*draw(proposals()), limit=draw(limits), policy=draw(policies))
    for verb, name, end, amounts in draw(st.lists(steps, max_size=40)):
        if name in book.state.transitions:
            with contextlib.suppress(TheoryError):
                book.do(command(book, verb, name, end, amounts))
    return book


def audits(book: Book) -> list[Audit]:
    """The second reading's view after each event."""
    audit, views = Audit(), []
    for event in book.events:
        audit.read(event.KIND, event.data())
        views.append(copy.deepcopy(audit))
    return views


@law
@given(ledgers())
def test_balances_are_never_negative(book: Book) -> None:
    """Law: reserved >= 0, spent >= 0, at every prefix and per dimension."""
    for view in audits(book):
        assert all(amount >= 0 for amount in (*view.reserved.values(), *view.spent.values()))
    assert all(amount >= 0 for amount in book.state.reserved.values())
    assert all(amount >= 0 for amount in book.state.spent.values())


@law
@given(ledgers())
def test_an_admission_keeps_within_the_limit(book: Book) -> None:
    """Law: spent + reserved + ask <= limit at admission; the ask is never shrunk."""
    assert not [fault for fault in audits(book)[-1].broken if "over its limit" in fault]
    asked = {name: entry.proposed.hold for name, entry in book.state.transitions.items()}
    for event in book.events:
        if event.KIND == "budget.reserved":
            assert event.data()["hold"] == asked[event.data()["transition"]]


@law
@given(ledgers())
def test_reserved_is_the_sum_of_the_open_holds(book: Book) -> None:
    """Law: reserved == sum of the holds of open; spent == sum of all settlements."""
    view = audits(book)[-1]
    some = {name: amount for name, amount in book.state.reserved.items() if amount}
    assert some == {name: amount for name, amount in view.reserved.items() if amount}
    assert book.state.spent == view.spent
    assert set(book.state.open) == set(view.holds)


@law
@given(ledgers())
def test_an_attempt_is_settled_or_voided_once(book: Book) -> None:
    """Law: one reservation and one settle or void per attempt, of the same hold."""
    kinds = book.kinds()
    done = kinds.count("budget.settled") + kinds.count("budget.voided")
    assert kinds.count("budget.reserved") == done + len(book.state.open)
    assert not [fault for fault in audits(book)[-1].broken if "settled" in fault]
    idents = [
        event.data()["execution_id"] for event in book.events if event.KIND == "budget.reserved"
    ]
    assert len(set(idents)) == len(idents)


@law
@given(ledgers())
def test_leases_never_overlap(book: Book) -> None:
    """Law: overlapping leases in one plan never coexist."""
    assert "leases overlap" not in audits(book)[-1].broken


@law
@given(ledgers())
def test_terminal_is_final(book: Book) -> None:
    """Law: nothing follows a terminal event of a plan, nor of a transition in it."""
    view = audits(book)[-1]
    assert view.broken == []
    assert len(view.final) == (1 if book.state.status in TERMINAL_PLAN else 0)
    ended = {name for name, entry in book.state.transitions.items() if entry.terminal}
    assert ended == set(view.ended)


@law
@given(ledgers())
def test_a_plan_whose_work_stops_ends_once(book: Book) -> None:
    """Law: whatever happened, once nothing runs a cancellation ends the plan: exactly once."""
    for ident in list(book.state.open):
        book.finish(ident, "orphaned")
    if book.state.status not in TERMINAL_PLAN:
        book.do(command(book, "cancel", "a", "", {}))
    assert book.state.status in TERMINAL_PLAN
    assert len(audits(book)[-1].final) == 1
    assert not any(book.state.reserved.values())
    assert all(entry.terminal for entry in book.state.transitions.values())


@law
@given(ledgers())
def test_whoever_waits_is_told_why(book: Book) -> None:
    """Law: a candidate is admitted, or something in the state says what it waits for."""
    for name in list(book.state.candidates):
        blocked = why(book.state, name)
        decision = book.do(book.admission(name))
        admitted = any(event.KIND == "transition.admitted" for event in decision.events)
        assert admitted == (blocked is None) or decision.events[0].KIND == "transition.refused"
