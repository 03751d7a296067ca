"""What commands lead to beyond the table of the lifecycle: reasons, amounts, what comes along."""

from __future__ import annotations

from typing import Any

import pytest

from theory_api.domain import commands as cmd
from theory_api.domain import events as ev
from theory_api.domain.decide import decide
from theory_api.domain.decision import Start, Stop
from theory_api.domain.state import PlanState
from theory_api.domain.tests.book import PLAN, Book, creation, policy, proposal
from theory_api.domain.tests.lifecycle import active
from theory_core import TheoryError


def test_a_command_without_a_rule_is_an_error_of_the_program() -> None:
    with pytest.raises(TypeError, match="no rule for Command"):
        decide(active().state, cmd.Command(plan=PLAN))


def test_the_same_document_again_changes_nothing() -> None:
    book = active()
    assert book.do(creation(proposal("a"), proposal("b", "a"))).events == ()


def test_an_admission_starts_the_execution_after_its_commit() -> None:
    book = active()
    command = book.admission("a")
    assert book.do(command).effects == (Start(command.execution_id),)
    assert book.state.reserved == {"usd_micro": 10}


def test_a_cancellation_stops_what_runs_and_waits_for_it() -> None:
    book = Book(proposal("a"), proposal("b"), proposal("c", "a"))
    first, second = book.admit("a"), book.admit("b")
    decision = book.do(cmd.CancelPlan(plan=PLAN, by="me", reason="enough"))
    assert set(decision.effects) == {Stop(first), Stop(second)}
    assert book.status("c") == "cancelled"
    assert book.state.reserved == {"usd_micro": 20}
    book.finish(first, "cancelled")
    assert (book.state.status, book.status("a")) == ("cancelling", "cancelled")
    book.finish(second, "orphaned")
    assert (book.state.status, book.status("b")) == ("cancelled", "cancelled")
    assert book.state.spent == {"usd_micro": 20}
    assert book.state.reserved == {"usd_micro": 0}


def test_work_that_failed_by_itself_while_the_plan_was_cancelled_has_failed() -> None:
    book = Book(proposal("a"))
    ident = book.admit("a")
    book.do(cmd.CancelPlan(plan=PLAN, by="me", reason="enough"))
    book.finish(ident, "failed")
    assert (book.status("a"), book.state.status) == ("failed", "cancelled")


def test_a_plan_that_is_paused_or_breached_admits_nothing() -> None:
    book = Book(proposal("a"), proposal("b"), policy=policy(on_breach="pause"))
    book.finish(book.admit("a"), used={"usd_micro": 12})
    assert (book.state.status, book.state.breached) == ("paused", True)
    assert book.do(book.admission("b")).events == ()
    book.do(cmd.ResumePlan(plan=PLAN, by="me", reason="go on"))
    assert book.do(book.admission("b")).events == ()
    book.do(cmd.TopUp(plan=PLAN, by="me", amount={"usd_micro": 5}))
    assert book.state.limit == {"usd_micro": 105}
    book.finish(book.admit("b"))
    assert book.conclude().events[-1].KIND == "plan.completed"


@pytest.mark.scenario(67)
def test_a_breach_fails_the_plan_where_the_policy_says_so() -> None:
    book = Book(proposal("a"), proposal("b"), proposal("c"))
    first, second = book.admit("a"), book.admit("b")
    book.finish(first, used={"usd_micro": 12})
    assert (book.status("a"), book.status("c")) == ("succeeded", "cancelled")
    book.finish(second, "failed")
    assert book.status("b") == "failed", "a failing plan repeats nothing"
    final = book.conclude().events[-1]
    assert isinstance(final, ev.PlanFailed)
    assert final.error.code == "ERR_BUDGET_EXCEEDED"
    assert final.error.detail == {"transition": "a", "usd_micro": 2}
    assert final.spent == {"usd_micro": 22}


@pytest.mark.scenario(65, 70)
def test_a_top_up_raises_something_that_is_limited() -> None:
    book = active()
    for amount in ({}, {"usd_micro": 0}, {"tokens": 5}, {"usd_micro": -1}, {"bitcoin": 1}):
        with pytest.raises(TheoryError) as caught:
            book.do(cmd.TopUp(plan=PLAN, by="me", amount=amount))
        assert caught.value.code == "ERR_PLAN_INVALID"


@pytest.mark.scenario(65)
def test_a_top_up_stays_within_exact_integers() -> None:
    book = active()
    with pytest.raises(TheoryError) as caught:
        book.do(cmd.TopUp(plan=PLAN, by="me", amount={"usd_micro": 2**53 - 1}))
    assert caught.value.code == "ERR_BUDGET_EXCEEDED"


@pytest.mark.parametrize(
    ("offered", "code"),
    [
        (proposal("a"), "ERR_CONFLICT"),
        (proposal("c", "c"), "ERR_PLAN_INVALID"),
        (proposal("c", "nobody"), "ERR_PLAN_INVALID"),
        (proposal("c", hold={"usd_micro": 101}), "ERR_BUDGET_EXCEEDED"),
    ],
)
def test_a_proposal_that_cannot_be_is_refused(offered: cmd.Proposal, code: str) -> None:
    with pytest.raises(TheoryError) as caught:
        active().do(cmd.ProposeTransition(plan=PLAN, by="me", proposal=offered))
    assert caught.value.code == code


def test_a_proposal_may_depend_on_what_has_succeeded() -> None:
    book = Book(proposal("a"), proposal("b"))
    book.finish(book.admit("a"))
    book.do(cmd.ProposeTransition(plan=PLAN, by="me", proposal=proposal("c", "a", "b")))
    assert list(book.state.candidates) == ["b"]
    book.finish(book.admit("b"))
    assert list(book.state.candidates) == ["c"]


def test_an_outcome_must_come_with_what_its_event_states() -> None:
    book = Book(proposal("a"))
    ident = book.admit("a")
    for lacking in ("envelope", "receipt", "outputs_index"):
        nothing: dict[str, Any] = {lacking: None}
        with pytest.raises(ValueError, match=f"needs its {lacking}"):
            book.finish(ident, **nothing)
    with pytest.raises(ValueError, match="needs its error"):
        book.finish(ident, "failed", error=None)


def test_a_state_without_a_plan_has_no_rules() -> None:
    with pytest.raises(ValueError, match="no policy"):
        _ = PlanState(plan=PLAN).rules
