"""Attempts: how often work is tried, and how an attempt is told from another."""

from __future__ import annotations

import pytest

from theory_api.domain import commands as cmd
from theory_api.domain import events as ev
from theory_api.domain.decision import Delay
from theory_api.domain.runnable import why
from theory_api.domain.tests.book import BROKE, CID, PLAN, Book, output, policy, proposal
from theory_api.domain.values import Fault
from theory_core import TheoryError

OTHER = "b3:" + "8" * 64


def test_whoever_depends_on_what_failed_is_skipped_however_far_away() -> None:
    chain = [proposal("a"), proposal("b", "a"), proposal("c", "b"), proposal("d", "c", "e")]
    book = Book(*chain, proposal("e"), policy=policy(attempts=1))
    book.finish(book.admit("a"), "failed")
    skipped = [event for event in book.events if isinstance(event, ev.TransitionSkipped)]
    because = {event.transition: event.because for event in skipped}
    assert because == {"b": "a", "c": "b", "d": "c"}
    assert book.status("e") == "pending"


def test_a_failed_attempt_is_repeated_as_often_as_the_policy_allows() -> None:
    book = Book(proposal("a"), policy=policy(attempts=3))
    delays = []
    for attempt in (1, 2, 3):
        assert book.state.transitions["a"].attempt == attempt
        decision = book.finish(book.admit("a"), "failed")
        delays += [effect.delay_ms for effect in decision.effects if isinstance(effect, Delay)]
    assert delays == [200, 1000]
    assert book.status("a") == "failed"
    assert book.kinds().count("budget.settled") == 3


def test_a_code_that_the_policy_does_not_name_is_not_repeated() -> None:
    book = Book(proposal("a"), policy=policy(attempts=3, retry_on=("ERR_TIMEOUT",)))
    book.finish(book.admit("a"), "failed")
    assert book.status("a") == "failed"


def test_work_that_never_started_costs_nothing_and_does_not_count_as_an_attempt() -> None:
    book = Book(proposal("a"), policy=policy(attempts=1))
    for _ in range(5):
        book.finish(book.admit("a"), "void")
    assert book.state.transitions["a"].attempt == 6
    assert book.state.spent == {}
    book.finish(book.admit("a"))
    assert book.status("a") == "succeeded"


def test_a_failure_after_work_that_never_started_is_the_first() -> None:
    book = Book(proposal("a"), policy=policy(attempts=2))
    for outcome in ("void", "failed", "void"):
        book.finish(book.admit("a"), outcome)
        assert book.status("a") == "pending"
    book.finish(book.admit("a"), "failed")
    assert book.status("a") == "failed"


@pytest.mark.parametrize(("code", "tries"), [("ERR_PROVIDER", 3), ("ERR_ARTIFACT_DIGEST", 1)])
def test_what_cannot_be_started_for_its_own_sake_counts_as_an_attempt(
    code: str, tries: int
) -> None:
    book = Book(proposal("a"), policy=policy(attempts=3))
    for _ in range(tries):
        assert book.status("a") == "pending"
        book.finish(book.admit("a"), "void", error=Fault(code=code, message="unreadable"))
    assert (book.status("a"), book.state.spent) == ("failed", {})


def test_an_attempt_that_passed_its_hold_is_not_repeated() -> None:
    book = Book(proposal("a"), policy=policy(attempts=3, on_breach="pause"))
    book.finish(book.admit("a"), "failed", used={"usd_micro": 11})
    assert book.status("a") == "failed"


def test_a_transition_waits_for_all_of_its_dependencies() -> None:
    book = Book(proposal("a"), proposal("b"), proposal("c", "a", "b"))
    book.finish(book.admit("a"))
    assert book.do(book.admission("c")).events == ()
    book.finish(book.admit("b"))
    book.admit("c")


def test_attempts_end_where_a_ledger_cannot_name_the_next() -> None:
    book = Book(proposal("a"))
    book.state.transitions["a"].attempt = 1000
    book.finish(book.admit("a"), "void")
    assert book.status("a") == "failed"


@pytest.mark.scenario(68)
def test_the_same_report_of_an_attempt_changes_nothing() -> None:
    book = Book(proposal("a"))
    ident = book.admit("a")
    book.finish(ident, used={"usd_micro": 3})
    assert book.finish(ident, "failed").events == ()
    assert book.state.spent == {"usd_micro": 3}


@pytest.mark.scenario(19)
@pytest.mark.parametrize("how", ["succeeded", "failed", "cancelled", "void", "orphaned"])
def test_a_second_result_is_recorded_once_and_settles_nothing(how: str) -> None:
    book = Book(proposal("a"), proposal("b", "a"))
    ident = book.admit("a")
    book.finish(ident, how, used={"usd_micro": 3}, envelope="" if how == "orphaned" else CID)
    spent, status = dict(book.state.spent), book.status("a")
    for other in (OTHER, "b3:" + "9" * 64):
        (duplicate,) = book.finish(ident, envelope=other).events
        assert duplicate == ev.ExecutionDuplicate(
            execution_id=ident, transition="a", attempt=1, envelope=other
        )
        assert book.finish(ident, envelope=other).events == ()
    assert (book.state.spent, book.status("a")) == (spent, status)
    following = [name for name in ("a", "b") if book.status(name) == "pending"]
    assert book.admit(following[0])


@pytest.mark.scenario(19)
def test_a_result_of_what_was_told_to_be_lost_is_recorded_with_its_settle() -> None:
    book = Book(proposal("a"))
    ident = book.admit("a")
    book.do(cmd.Orphan(plan=PLAN, execution_id=ident, error=BROKE))
    kinds = [event.KIND for event in book.finish(ident).events]
    assert kinds[:2] == ["execution.duplicate", "budget.settled"]
    assert book.finish(ident).events == ()


@pytest.mark.scenario(19)
@pytest.mark.parametrize("how", ["cancelled", "refused"])
def test_a_second_result_bears_its_own_number_when_the_next_attempt_was_given_up(how: str) -> None:
    book = Book(proposal("a"), proposal("b"))
    other, ident = book.admit("b"), book.admit("a")
    book.finish(ident, "failed")
    if how == "cancelled":
        book.do(cmd.CancelPlan(plan=PLAN, by="me", reason="enough"))
    else:
        book.do(cmd.Refuse(plan=PLAN, transition="a", attempt=2, error=BROKE))
    assert (book.status("a"), book.status("b")) == (how, "applying")
    (duplicate,) = book.finish(ident, envelope=OTHER).events
    assert duplicate == ev.ExecutionDuplicate(
        execution_id=ident, transition="a", attempt=1, envelope=OTHER
    )
    assert book.finish(other).events


@pytest.mark.scenario(19)
def test_nothing_is_recorded_after_the_end_of_a_plan() -> None:
    book = Book(proposal("a"))
    ident = book.admit("a")
    book.finish(ident)
    book.conclude()
    assert book.finish(ident, "failed", envelope=OTHER).events == ()


@pytest.mark.scenario(68)
def test_a_report_of_an_attempt_that_is_not_the_newest_is_refused() -> None:
    book = Book(proposal("a"))
    first = book.admit("a")
    book.finish(first, "failed")
    book.admit("a")
    with pytest.raises(TheoryError, match="not the newest") as caught:
        book.finish(first)
    assert caught.value.code == "ERR_CONFLICT"


@pytest.mark.scenario(4)
def test_the_second_of_two_admissions_of_one_attempt_comes_to_nothing() -> None:
    book = Book(proposal("a"))
    command = book.admission("a")
    assert book.do(command).events
    assert book.do(command).events == ()


def test_a_name_that_runs_cannot_be_given_to_another_attempt() -> None:
    book = Book(proposal("a"), proposal("b"))
    taken = book.admit("a")
    with pytest.raises(TheoryError) as caught:
        book.do(book.admission("b", execution_id=taken))
    assert caught.value.code == "ERR_CONFLICT"


def test_admission_of_what_was_never_proposed_is_not_found() -> None:
    book = Book(proposal("a"))
    other = Book(proposal("z")).admission("z")
    with pytest.raises(TheoryError, match="no transition z") as caught:
        book.do(other)
    assert caught.value.code == "ERR_NOT_FOUND"


def _orphaned(book: Book, name: str = "a") -> str:
    ident = book.admit(name)
    book.do(cmd.Orphan(plan=PLAN, execution_id=ident, error=BROKE))
    return ident


@pytest.mark.scenario(69)
def test_an_attempt_that_nobody_can_confirm_stopped_keeps_its_hold_and_its_leases() -> None:
    book = Book(proposal("a"), proposal("b"), proposal("c", "a"), policy=policy(attempts=1))
    ident = _orphaned(book)
    assert book.kinds()[-1] == "execution.orphaned"
    assert book.state.reserved == {"usd_micro": 10}
    assert book.status("a") == "applying"
    held = why(book.state, "a")
    assert held is not None
    assert "nobody has confirmed" in held.reason
    assert book.do(cmd.Orphan(plan=PLAN, execution_id=ident, error=BROKE)).events == ()
    book.finish(book.admit("b"))
    assert book.state.reserved == {"usd_micro": 10}
    book.finish(ident, "orphaned")
    assert book.state.reserved == {"usd_micro": 0}
    assert book.state.spent == {"usd_micro": 20}
    assert (book.status("a"), book.status("c")) == ("failed", "skipped")
    assert book.kinds().count("execution.orphaned") == 1


def test_a_success_that_is_told_after_the_end_settles_the_hold_and_nothing_else() -> None:
    book = Book(proposal("a"), policy=policy(attempts=2))
    ident = _orphaned(book)
    written = (output(f"/artifacts/outputs/demo-echo-v1/{ident}/outputs/x"),)
    late = book.finish(ident, "succeeded", used={"usd_micro": 4}, outputs=written)
    assert [event.KIND for event in late.events] == [
        "execution.duplicate",
        "budget.settled",
        "lease.released",
        "transition.retried",
    ]
    assert book.state.spent == {"usd_micro": 4}
    assert book.state.touches == []


def test_work_that_was_told_an_orphan_did_start_and_is_never_voided() -> None:
    book = Book(proposal("a"))
    book.finish(_orphaned(book), "void")
    assert "budget.voided" not in book.kinds()
    assert book.state.spent == {"usd_micro": 10}


def test_a_cancelled_plan_ends_when_its_last_orphan_is_confirmed_gone() -> None:
    book = Book(proposal("a"))
    ident = _orphaned(book)
    book.do(cmd.CancelPlan(plan=PLAN, by="me", reason="enough"))
    assert book.state.status == "cancelling"
    book.finish(ident, "orphaned")
    assert (book.state.status, book.status("a")) == ("cancelled", "cancelled")
