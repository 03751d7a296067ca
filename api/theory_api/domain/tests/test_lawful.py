"""Random ledgers before the core's own judge of laws, which shares nothing with the domain."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from theory_api.domain.proposal import proposed
from theory_api.domain.tests.book import PLAN, Book, creation, policy, proposal, wire
from theory_api.domain.tests.ledgers import ENDS, command, policies, proposals, usages
from theory_api.domain.tests.test_laws import ledgers, steps
from theory_api.domain.values import Predicate
from theory_core import Chain, Fault, TheoryError, verify

Wire = dict[str, Any]
Forged = tuple[int, list[Wire]]
"""Events of a ledger that lies, and the first place from 1 at which it does."""

law = settings(max_examples=60, deadline=None)
ROOM = st.integers(12, 60)
"""A limit that lets the first transition in."""
HELD = ("budget.reserved", "budget.settled", "budget.voided")
EITHER_ORDER = ({"lease.acquired", "budget.reserved"}, {"execution.controlled"})
"""What an admission may write in any order, and what people may ask for in any."""


@st.composite
def busy(draw: st.DrawFn) -> Book:
    """A plan in which at least one attempt came to its end."""
    limit = draw(st.fixed_dictionaries({}, optional=dict.fromkeys(("usd_micro", "tokens"), ROOM)))
    book = Book(*draw(proposals()), limit=limit, policy=draw(policies))
    first = [("admit", "a", "", {}), ("complete", "a", draw(st.sampled_from(ENDS)), draw(usages))]
    for verb, name, end, amounts in [*first, *draw(st.lists(steps, max_size=20))]:
        if name in book.state.transitions:
            with contextlib.suppress(TheoryError):
                book.do(command(book, verb, name, end, amounts))
    return book


def stated(book: Book) -> list[Wire]:
    """The events of a book as its ledger states them."""
    return [wire(seq, event) for seq, event in enumerate(book.events, start=1)]


def chained(events: list[Wire]) -> list[bytes]:
    """The lines of an export of these events, its chain made anew."""
    placed = [{**event, "seq": seq} for seq, event in enumerate(events, start=1)]
    sealed = Chain().append(placed)
    return [b'{"event":%b,"hash":"%b"}\n' % (body, digest.encode()) for body, digest in sealed]


def judged(events: list[Wire]) -> Fault | None:
    """What the judge finds; the chain itself is sound."""
    lines = chained(events)
    assert verify(lines).ok
    report = verify(lines, laws=True)
    assert report.laws == "judged"
    return report.fault


def about(event: Wire, *kinds: str) -> bool:
    """Whether the event has one of these kinds."""
    return event["kind"] in kinds


def places(events: list[Wire], holds: Callable[[Wire], bool]) -> list[int]:
    """Places from 0 of the events of which something holds."""
    return [place for place, event in enumerate(events) if holds(event)]


@law
@given(ledgers())
def test_every_prefix_of_a_ledger_of_the_domain_is_lawful(book: Book) -> None:
    lines = chained(stated(book))
    for end in range(1, len(lines) + 1):
        report = verify(lines[:end], laws=True)
        assert report.ok, report.verdict


def test_a_ledger_with_predicates_outputs_and_a_goal_is_lawful() -> None:
    exists = Predicate(name="artifact.exists@1", params={"path": "/artifacts/attachments/text"})
    book = Book()
    asked = proposal("a", admission=(exists,), success=(exists, exists))
    book.do(creation(asked, proposal("b", "a", hold={"tokens": 3}), goal=(exists,)))
    for name in "ab":
        ident = book.admit(name)
        book.finish(ident, used={"tokens": 1})
    book.conclude()
    assert book.state.status == "completed"
    assert judged(stated(book)) is None


def without_a_settle(draw: st.DrawFn, events: list[Wire]) -> Forged:
    found = places(events, lambda event: about(event, "budget.settled", "budget.voided"))
    place = draw(st.sampled_from(found))
    return place + 1, events[:place] + events[place + 1 :]


def with_a_settle_twice(draw: st.DrawFn, events: list[Wire]) -> Forged:
    found = places(events, lambda event: about(event, "budget.settled", "budget.voided"))
    place = draw(st.sampled_from(found))
    later = draw(st.integers(place + 1, len(events)))
    return later + 1, [*events[:later], events[place], *events[later:]]


def with_two_events_swapped(draw: st.DrawFn, events: list[Wire]) -> Forged:
    """Neighbours about one attempt, unless their order is free."""

    def one_attempt(place: int) -> bool:
        pair = [event["data"].get("execution_id") for event in events[place : place + 2]]
        kinds = {event["kind"] for event in events[place : place + 2]}
        free = kinds in EITHER_ORDER
        return len(pair) == 2 and pair[0] == pair[1] is not None and not free

    found = [place for place in range(len(events)) if one_attempt(place)]
    place = draw(st.sampled_from(found))
    pair = events[place : place + 2]
    return place + 1, [*events[:place], *reversed(pair), *events[place + 2 :]]


def with_an_amount_changed(draw: st.DrawFn, events: list[Wire]) -> Forged:
    """One more in a hold, an excess, a raised limit or the spending that a plan ends with."""

    def vectors(event: Wire) -> Iterator[str]:
        if about(event, *HELD):
            yield "hold"
        if about(event, "budget.breached"):
            yield "excess"
        if about(event, "budget.topped_up"):
            yield "limit"
        if about(event, "plan.completed", "plan.failed"):
            yield "spent"

    spots = [(place, name) for place, event in enumerate(events) for name in vectors(event)]
    place, name = draw(st.sampled_from(spots))
    vector = events[place]["data"][name]
    vector["tokens"] = vector.get("tokens", 0) + 1
    return place + 1, events


def with_an_admission_forged(draw: st.DrawFn, events: list[Wire]) -> Forged:
    """An admission that was, once more and at any later time."""
    found = places(events, lambda event: about(event, "transition.admitted"))
    place = draw(st.sampled_from(found))
    later = draw(st.integers(place + 1, len(events)))
    return later + 1, [*events[:later], events[place], *events[later:]]


@pytest.mark.scenario(23)
@pytest.mark.parametrize(
    "lie",
    [
        without_a_settle,
        with_a_settle_twice,
        with_two_events_swapped,
        with_an_amount_changed,
        with_an_admission_forged,
    ],
)
def test_a_ledger_that_lies_is_found_out_although_its_chain_holds(
    lie: Callable[[st.DrawFn, list[Wire]], Forged],
) -> None:
    forgeries = st.composite(lambda draw: lie(draw, copy.deepcopy(stated(draw(busy())))))

    @law
    @given(forgeries())
    def found_out(forged: Forged) -> None:
        first, events = forged
        fault = judged(events)
        assert fault is not None, [event["kind"] for event in events]
        assert fault.reason == "law"
        assert fault.seq is not None
        assert fault.seq >= first

    found_out()


AMOUNTS = st.fixed_dictionaries(
    {}, optional=dict.fromkeys(("usd_micro", "tokens", "cpu_ms"), st.integers(0, 9))
)
WIDE = st.fixed_dictionaries({}, optional=dict.fromkeys(("usd_micro", "tokens"), st.just(100)))
"""A limit that nothing here comes near."""


@law
@given(WIDE, AMOUNTS, AMOUNTS, st.lists(AMOUNTS, min_size=1, max_size=3))
def test_both_judge_alike_what_a_run_may_propose(
    limit: dict[str, int], hold: dict[str, int], used: dict[str, int], asks: list[dict[str, int]]
) -> None:
    more = tuple(proposal(f"b{n}", "a", hold=ask) for n, ask in enumerate(asks))
    rules = policy(on_breach="pause")

    def ledger() -> tuple[Book, str]:
        book = Book(proposal("a", hold=hold), limit=limit, policy=rules)
        return book, book.admit("a")

    book, ident = ledger()
    refused = book.finish(ident, used=used, proposals=more).stale
    if refused:
        book, ident = ledger()
        book.finish(ident, used=used)
    events = stated(book)
    if refused:
        (place,) = places(events, lambda event: about(event, "transition.succeeded"))
        added = [wire(1, proposed(one, f"execution {ident}")) for one in more]
        events[place:place] = added
    fault = judged(events)
    assert (fault is not None) == refused
    assert fault is None or fault.law == "proposal-hold"


def test_the_judge_names_what_a_cheaper_settle_would_hide() -> None:
    book = Book(proposal("a", hold={"usd_micro": 10}), policy=policy())
    book.finish(book.admit("a"), used={})
    events = stated(book)
    (place,) = places(events, lambda event: about(event, "budget.settled"))
    assert events[place]["data"]["basis"] == {"usd_micro": "hold"}
    events[place]["data"]["actual"] = {"usd_micro": 0}
    report = verify(chained(events), laws=True)
    assert report.fault == Fault(place + 1, "law", place + 1, "budget-basis")
    assert "law budget-basis (unknown usage settles at the hold)" in report.verdict
    assert PLAN in chained(events)[0].decode()
