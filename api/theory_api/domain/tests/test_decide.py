"""Every command in every state: what it leads to, and what it is refused with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from theory_api.domain import commands as cmd
from theory_api.domain import events as ev
from theory_api.domain.decide import decide
from theory_api.domain.decision import Start, Stop
from theory_api.domain.state import PlanState
from theory_api.domain.tests.book import BROKE, PLAN, Book, creation, policy, proposal
from theory_core import TheoryError

Setting = Callable[[], Book]
Asking = Callable[[Book], cmd.Command]


def absent() -> Book:
    return Book()


def active() -> Book:
    return Book(proposal("a"), proposal("b", "a"))


def running() -> Book:
    book = active()
    book.admit("a")
    return book


def paused() -> Book:
    book = active()
    book.do(cmd.PausePlan(plan=PLAN, by="me", reason="lunch"))
    return book


def cancelling() -> Book:
    book = running()
    book.do(cmd.CancelPlan(plan=PLAN, by="me", reason="enough"))
    return book


def cancelled() -> Book:
    book = active()
    book.do(cmd.CancelPlan(plan=PLAN, by="me", reason="enough"))
    return book


def ended() -> Book:
    """Every transition has ended, the plan has not."""
    book = Book(proposal("a"))
    book.finish(book.admit("a"))
    return book


def completed() -> Book:
    book = ended()
    book.conclude()
    return book


def failed() -> Book:
    book = Book(proposal("a"), policy=policy(attempts=1))
    book.finish(book.admit("a"), "failed")
    book.conclude()
    return book


SETTINGS: dict[str, Setting] = {
    "absent": absent,
    "active": active,
    "running": running,
    "paused": paused,
    "cancelling": cancelling,
    "cancelled": cancelled,
    "ended": ended,
    "completed": completed,
    "failed": failed,
}


def _admit(book: Book) -> cmd.Command:
    known = book if book.state.transitions else active()
    return known.admission("a")


def _complete(book: Book) -> cmd.Command:
    return book.completion(active().admission("a").execution_id)


def _orphan(_: Book) -> cmd.Command:
    ident = active().admission("a").execution_id
    return cmd.Orphan(plan=PLAN, execution_id=ident, error=BROKE)


COMMANDS: dict[str, Asking] = {
    "create": lambda _: creation(proposal("a"), document="b3:" + "1" * 64),
    "propose": lambda _: cmd.ProposeTransition(plan=PLAN, by="me", proposal=proposal("c")),
    "admit": _admit,
    "refuse": lambda _: cmd.Refuse(plan=PLAN, transition="a", attempt=1, error=BROKE),
    "complete": _complete,
    "orphan": _orphan,
    "conclude": lambda _: cmd.Conclude(plan=PLAN, verdicts=()),
    "cancel": lambda _: cmd.CancelPlan(plan=PLAN, by="me", reason="stop"),
    "pause": lambda _: cmd.PausePlan(plan=PLAN, by="me", reason="wait"),
    "resume": lambda _: cmd.ResumePlan(plan=PLAN, by="me", reason="go on"),
    "topup": lambda _: cmd.TopUp(plan=PLAN, by="me", amount={"usd_micro": 1}),
}

ADMITTED = "transition.admitted lease.acquired budget.reserved execution.started"
SETTLED = "execution.succeeded budget.settled lease.released transition.succeeded"
REFUSED = "transition.refused transition.skipped"
STOPPED = "plan.cancel_requested transition.cancelled transition.cancelled plan.cancelled"

# What a command leads to in a state: kinds of events, a code, or nothing.
TABLE: dict[str, dict[str, str]] = {
    "absent": {"create": "plan.created transition.proposed"}
    | dict.fromkeys(set(COMMANDS) - {"create"}, "ERR_NOT_FOUND"),
    "active": {
        "create": "ERR_CONFLICT",
        "propose": "transition.proposed",
        "admit": ADMITTED,
        "refuse": REFUSED,
        "complete": "ERR_CONFLICT",
        "orphan": "",
        "conclude": "",
        "cancel": STOPPED,
        "pause": "plan.paused",
        "resume": "",
        "topup": "budget.topped_up",
    },
    "running": {
        "create": "ERR_CONFLICT",
        "propose": "transition.proposed",
        "admit": "",
        "refuse": "",
        "complete": SETTLED,
        "orphan": "execution.orphaned",
        "conclude": "",
        "cancel": "plan.cancel_requested transition.cancelled",
        "pause": "plan.paused",
        "resume": "",
        "topup": "budget.topped_up",
    },
    "paused": {
        "create": "ERR_CONFLICT",
        "propose": "transition.proposed",
        "admit": "",
        "refuse": REFUSED,
        "complete": "ERR_CONFLICT",
        "orphan": "",
        "conclude": "",
        "cancel": STOPPED,
        "pause": "",
        "resume": "plan.resumed",
        "topup": "budget.topped_up",
    },
    "cancelling": {
        "create": "ERR_CONFLICT",
        "propose": "ERR_CONFLICT",
        "admit": "",
        "refuse": "",
        "complete": SETTLED + " plan.cancelled",
        "orphan": "execution.orphaned",
        "conclude": "",
        "cancel": "",
        "pause": "",
        "resume": "",
        "topup": "budget.topped_up",
    },
    "cancelled": {
        "create": "ERR_CONFLICT",
        "propose": "ERR_CONFLICT",
        "admit": "",
        "refuse": "",
        "complete": "ERR_CONFLICT",
        "orphan": "",
        "conclude": "",
        "cancel": "",
        "pause": "ERR_CONFLICT",
        "resume": "ERR_CONFLICT",
        "topup": "ERR_CONFLICT",
    },
    "ended": {
        "create": "ERR_CONFLICT",
        "propose": "ERR_CONFLICT",
        "admit": "",
        "refuse": "",
        "complete": "",
        "orphan": "",
        "conclude": "plan.completed",
        "cancel": "plan.cancel_requested plan.cancelled",
        "pause": "plan.paused",
        "resume": "",
        "topup": "budget.topped_up",
    },
    "completed": {
        "create": "ERR_CONFLICT",
        "propose": "ERR_CONFLICT",
        "admit": "",
        "refuse": "",
        "complete": "",
        "orphan": "",
        "conclude": "",
        "cancel": "ERR_CONFLICT",
        "pause": "ERR_CONFLICT",
        "resume": "ERR_CONFLICT",
        "topup": "ERR_CONFLICT",
    },
}
TABLE["failed"] = TABLE["completed"]


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("asked", COMMANDS)
def test_a_command_leads_to_what_the_table_says(setting: str, asked: str) -> None:
    book = SETTINGS[setting]()
    try:
        came = " ".join(event.KIND for event in book.do(COMMANDS[asked](book)).events)
    except TheoryError as error:
        came = error.code
    assert came == TABLE[setting][asked]


def test_the_table_is_total() -> None:
    cells = {(setting, asked) for setting, row in TABLE.items() for asked in row}
    assert cells == {(setting, asked) for setting in SETTINGS for asked in COMMANDS}
    assert {kind.__name__ for kind in cmd.Command.__subclasses__()} == {
        type(asking(active())).__name__ for asking in COMMANDS.values()
    }


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


def test_a_top_up_raises_something_that_is_limited() -> None:
    book = active()
    for amount in ({}, {"usd_micro": 0}, {"tokens": 5}, {"usd_micro": -1}, {"bitcoin": 1}):
        with pytest.raises(TheoryError) as caught:
            book.do(cmd.TopUp(plan=PLAN, by="me", amount=amount))
        assert caught.value.code == "ERR_PLAN_INVALID"


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
