"""A fold as bytes: it comes back as it was, whatever ledger led to it."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from theory_api.domain.encoding import PIECE, absorb, frames, layout, size
from theory_api.domain.evolve import fold, selector
from theory_api.domain.state import PlanState
from theory_api.domain.tests.book import PLAN, Book, output, proposal, wire
from theory_api.domain.tests.ledgers import ENDS, command, policies, proposals, usages
from theory_core import TheoryError, canonicalize, digest

VERBS = ("admit", "admit", "admit", "complete", "complete", "complete", "topup", "pause", "resume")


def back(state: PlanState) -> PlanState:
    """Encoded and decoded."""
    made = PlanState(plan="")
    for frame in frames(state):
        absorb(made, frame)
    return made


def same(left: PlanState, right: PlanState) -> bool:
    """Equal, the order of every mapping included."""
    return left == right and repr(left) == repr(right)


@st.composite
def books(draw: st.DrawFn) -> Book:
    """A plan of any shape after commands of any kind."""
    book = Book(*draw(proposals()), limit={"usd_micro": 60}, policy=draw(policies))
    names = st.sampled_from(sorted(book.state.transitions))
    for _ in range(draw(st.integers(0, 30))):
        verb = draw(st.sampled_from((*VERBS, "orphan", "refuse", "cancel", "conclude")))
        asked = draw(usages) if verb == "complete" else {"usd_micro": draw(st.integers(1, 20))}
        with contextlib.suppress(TheoryError):
            book.do(command(book, verb, draw(names), draw(st.sampled_from(ENDS)), asked))
    return book


@given(books())
def test_a_fold_comes_back_as_it_was(book: Book) -> None:
    assert same(back(book.state), book.state)


@given(books(), st.data())
def test_a_fold_and_the_rest_of_the_ledger_lead_where_the_whole_ledger_leads(
    book: Book, data: st.DataObject
) -> None:
    bodies = [canonicalize(wire(seq, event)) for seq, event in enumerate(book.events, 1)]
    cut = data.draw(st.integers(0, len(bodies)))
    assert same(fold(PLAN, bodies[cut:], back(fold(PLAN, bodies[:cut]))), fold(PLAN, bodies))


def test_a_large_state_is_many_small_frames() -> None:
    book = Book(*(proposal(f"t{place}") for place in range(3 * PIECE)), limit={})
    attached = [output(f"/artifacts/in/{place}") for place in range(2 * PIECE)]
    state = book.state
    for one in attached:
        state.touches.append((1, selector(PLAN, "exact", one.path)))
    pieces = list(frames(state))
    assert max(len(piece) for piece in pieces) < PIECE * 1024
    assert len(pieces) > 10
    assert size(state) == 8 * PIECE
    assert same(back(state), state)


@pytest.mark.parametrize("frame", [b"", b"\x93", b"\x92\xa3odd\x01", b"\x92\xa3seq\xa1x"])
def test_a_frame_of_something_else_is_refused(frame: bytes) -> None:
    with pytest.raises(TheoryError) as caught:
        absorb(PlanState(plan=PLAN), frame)
    assert caught.value.code == "ERR_STORAGE"


def test_the_same_events_make_the_state_that_stored_folds_hold() -> None:
    """If this fails because `evolve` means something else now, raise `REVISION` with the digest."""
    book = Book(proposal("a"), proposal("b", "a"), proposal("c"))
    book.finish(book.admit("a"), "failed")
    ident = book.admit("a")
    path = f"/artifacts/outputs/demo-echo-v1/{ident}/outputs/x"
    book.finish(ident, used={"usd_micro": 11}, outputs=(output(path),))
    book.do(command(book, "topup", "a", "", {"usd_micro": 5}))
    assert digest(b"".join(frames(book.state))) == (
        "b3:e33ceb016fd60047069ce57d0e46f133728be0c0317312776fe38045c8a4fae3"
    )
    assert layout().startswith("b3:")
