"""Control of an attempt that runs: what it leaves in the ledger, and what becomes of its plan."""

from __future__ import annotations

from typing import Any

import pytest

from theory_api.domain import commands as cmd
from theory_api.domain import events as ev
from theory_api.domain.decision import Steer, Stop
from theory_api.domain.runnable import why
from theory_api.domain.tests.book import BROKE, PLAN, Book, policy, proposal
from theory_api.domain.values import ControlOp
from theory_core import TheoryError


def running(**fields: Any) -> tuple[Book, str]:  # noqa: ANN401 - of a proposal
    book = Book(
        proposal("a", **fields), proposal("b", "a"), proposal("z"), policy=policy(attempts=3)
    )
    return book, book.admit("a")


@pytest.mark.parametrize("outcome", ["cancelled", "orphaned", "void"])
def test_a_cancelled_execution_is_never_tried_again_and_its_plan_goes_on(outcome: str) -> None:
    book, ident = running()
    decision = book.do(book.control(ident, "cancel"))
    assert decision.effects == (Stop(ident),)
    (event,) = decision.events
    assert isinstance(event, ev.ExecutionControlled)
    assert (event.op, event.by, event.attempt) == ("cancel", "me", 1)
    book.finish(ident, outcome)
    assert [book.status(name) for name in "abz"] == ["cancelled", "skipped", "pending"]
    ended = [one for one in book.events if isinstance(one, ev.TransitionCancelled)]
    assert [one.reason for one in ended] == ["the execution was cancelled"]
    book.finish(book.admit("z"))
    book.conclude()
    assert book.state.status == "failed"


def test_the_hold_of_a_cancelled_execution_stays_until_its_stop_is_confirmed() -> None:
    book, ident = running()
    book.do(book.control(ident, "cancel"))
    assert book.state.reserved == {"usd_micro": 10}
    book.do(cmd.Orphan(plan=PLAN, execution_id=ident, error=BROKE))
    assert book.state.reserved == {"usd_micro": 10}
    book.finish(ident, "orphaned")
    assert book.state.reserved == {"usd_micro": 0}
    assert book.status("a") == "cancelled"


def test_what_succeeded_before_its_cancel_reached_it_is_a_success() -> None:
    book, ident = running()
    book.do(book.control(ident, "cancel"))
    book.finish(ident)
    assert book.status("a") == "succeeded"


def test_what_failed_by_itself_meanwhile_has_failed_and_is_not_tried_again() -> None:
    book, ident = running()
    book.do(book.control(ident, "cancel"))
    book.finish(ident, "failed")
    assert book.status("a") == "failed"


def test_what_its_owner_stopped_to_go_away_is_tried_again_unless_it_was_cancelled() -> None:
    book, ident = running()
    book.finish(ident, "cancelled")
    assert book.status("a") == "pending"


def test_an_attempt_that_follows_a_paused_one_goes_on_by_itself() -> None:
    book, ident = running()
    book.do(book.control(ident, "pause"))
    assert book.state.open[ident].paused
    book.finish(ident, "cancelled")
    assert not book.state.open[book.admit("a")].paused


@pytest.mark.parametrize("op", ["cancel", "pause", "resume", "set_budget"])
def test_what_has_ended_is_steered_by_nobody_and_asking_changes_nothing(op: ControlOp) -> None:
    book, ident = running()
    book.finish(ident)
    for name in (ident, "x1"):
        decision = book.do(book.control(name, op))
        assert (decision.events, decision.effects) == ((), ())


def test_pause_and_resume_are_each_told_once() -> None:
    book, ident = running()
    told = [
        [event.KIND for event in book.do(book.control(ident, op)).events]
        for op in ("resume", "pause", "pause", "resume", "resume")
    ]
    assert [len(kinds) for kinds in told] == [0, 1, 0, 1, 0]


def test_an_adapter_that_cannot_have_a_run_stand_still_is_not_asked_to() -> None:
    book, ident = running()
    for op in ("pause", "resume"):
        with pytest.raises(TheoryError, match="process cannot have a run stand still") as caught:
            book.do(book.control(ident, op, able=("local",)))
        assert caught.value.code == "ERR_CONFLICT"
    assert book.do(book.control(ident, "cancel", able=())).events


def test_a_budget_only_falls_and_the_hold_stays() -> None:
    book, ident = running(hold={"usd_micro": 10, "cpu_ms": 50})
    decision = book.do(book.control(ident, "set_budget", budget={"usd_micro": 4}))
    assert decision.effects == (Steer(ident, paused=False, budget={"usd_micro": 4}),)
    attempt = book.state.open[ident]
    assert attempt.allowed == {"usd_micro": 4, "cpu_ms": 50}
    assert attempt.hold == {"usd_micro": 10, "cpu_ms": 50}
    assert book.state.reserved == {"usd_micro": 10, "cpu_ms": 50}
    book.do(book.control(ident, "set_budget", budget={"usd_micro": 4, "latency_ms": 9}))
    assert attempt.allowed == {"usd_micro": 4, "cpu_ms": 50, "latency_ms": 9}
    same = book.do(book.control(ident, "set_budget", budget={"usd_micro": 4}))
    assert same.events == ()
    book.finish(ident, "failed", used={"usd_micro": 5})
    assert book.state.spent["usd_micro"] == 5


@pytest.mark.parametrize(
    ("budget", "dimension"),
    [
        ({"usd_micro": 11}, "usd_micro"),
        ({"tokens": 1}, "tokens"),
        ({"usd_micro": 9, "tokens": 1}, "tokens"),
    ],
)
def test_a_budget_that_would_rise_is_refused_whole(budget: dict[str, int], dimension: str) -> None:
    limit = {"usd_micro": 100, "tokens": 5}
    book = Book(proposal("a"), limit=limit)
    ident = book.admit("a")
    with pytest.raises(TheoryError, match="only lowered") as caught:
        book.do(book.control(ident, "set_budget", budget=budget))
    assert caught.value.code == "ERR_CONFLICT"
    assert caught.value.detail["dimension"] == dimension
    assert book.state.open[ident].budget == {}


@pytest.mark.parametrize(
    ("op", "budget"),
    [("pause", {"usd_micro": 1}), ("set_budget", None), ("set_budget", {"cents": 1})],
)
def test_a_budget_comes_with_its_operation_and_by_dimension(
    op: ControlOp, budget: dict[str, int] | None
) -> None:
    book, ident = running()
    with pytest.raises(TheoryError, match=r"budget[:.]") as caught:
        book.do(book.control(ident, op, budget=budget))
    assert caught.value.code == "ERR_PLAN_INVALID"


def test_why_says_what_is_wanted_of_a_run() -> None:
    book, ident = running()
    told = []
    for op in ("pause", "resume", "cancel"):
        book.do(book.control(ident, op))
        blocked = why(book.state, "a")
        assert blocked is not None
        told.append(blocked.reason)
    assert told == [
        "attempt 1 stands still until somebody resumes it",
        "attempt 1 is running",
        "attempt 1 was cancelled, and is being stopped",
    ]
