"""Admission: the ask fits beside what is held and spent, or waits, or is refused."""

from __future__ import annotations

from typing import Literal

import pytest

from theory_api.domain import commands as cmd
from theory_api.domain import events as ev
from theory_api.domain.runnable import expand, hopeless, unaffordable, why
from theory_api.domain.tests.book import (
    BROKE,
    CID,
    PLAN,
    PREFIX,
    Book,
    creation,
    output,
    policy,
    proposal,
    verdict,
)
from theory_api.domain.values import Fault, InputBytes, Predicate, SelectorSpec
from theory_api.domain.vector import MAX_AMOUNT, checked
from theory_core import TheoryError


def _fixed(name: str, path: str, *depends_on: str) -> cmd.Proposal:
    """A transition that leases a path besides its own prefix."""
    kind = "prefix" if path.endswith("/") else "exact"
    own = proposal(name).write_set
    return proposal(name, *depends_on, write_set=(*own, SelectorSpec(kind=kind, path=path)))  # type: ignore[arg-type]


@pytest.mark.scenario(65)
def test_an_ask_that_fits_exactly_is_admitted_and_one_more_waits() -> None:
    tight = [proposal(name, hold={"usd_micro": 50}) for name in "abc"]
    book = Book(*tight)
    first = book.admit("a")
    book.admit("b")
    assert book.do(book.admission("c")).events == (), "waiting writes nothing"
    blocked = why(book.state, "c")
    assert blocked is not None
    assert blocked.condition == "budget.available"
    assert blocked.detail == {"dimension": "usd_micro", "ask": 50, "headroom": 0}
    book.finish(first, used={"usd_micro": 0})
    book.admit("c")
    assert book.state.reserved == {"usd_micro": 100}


@pytest.mark.scenario(65)
def test_an_ask_that_can_never_fit_any_more_is_refused_by_name() -> None:
    book = Book(proposal("a", hold={"usd_micro": 60}), proposal("b", hold={"usd_micro": 50}))
    ident = book.admit("a")
    assert book.do(book.admission("b")).events == (), "it may fit once the hold returns"
    book.finish(ident, used={"usd_micro": 55})
    book.do(book.admission("b"))
    refused = next(event for event in book.events if isinstance(event, ev.TransitionRefused))
    assert refused.error.code == "ERR_BUDGET_EXCEEDED"
    assert refused.error.detail == {"dimension": "usd_micro", "ask": 50, "headroom": 45}
    final = book.conclude().events[-1]
    assert isinstance(final, ev.PlanFailed)
    assert final.error == refused.error


def test_what_is_not_limited_is_limited_by_exact_integers() -> None:
    book = Book(proposal("a", hold={"tokens": MAX_AMOUNT}), proposal("b", hold={"tokens": 1}))
    ident = book.admit("a")
    assert unaffordable(book.state, {"tokens": 1}) is not None
    assert book.do(book.admission("b")).events == ()
    assert hopeless(book.state, {"tokens": 1}) is None
    book.finish(ident, used={"tokens": 5})
    book.admit("b")


def test_a_plan_whose_work_cannot_fit_is_refused_before_anything_is_spent() -> None:
    dear = proposal("b", hold={"usd_micro": 101, "tokens": 5})
    book = Book(proposal("a"), dear, proposal("c", "b"), proposal("d"))
    assert book.kinds()[:5] == ["plan.created", *["transition.proposed"] * 4]
    refused = next(event for event in book.events if isinstance(event, ev.TransitionRefused))
    assert refused.transition == "b"
    assert refused.error.detail == {"dimension": "usd_micro", "ask": 101, "headroom": 100}
    assert "usd_micro" in refused.error.message
    assert "101" in refused.error.message
    assert "100" in refused.error.message
    statuses = {name: book.status(name) for name in "abcd"}
    assert statuses == {"a": "cancelled", "b": "refused", "c": "skipped", "d": "cancelled"}
    final = book.conclude().events[-1]
    assert isinstance(final, ev.PlanFailed)
    assert final.error == refused.error
    assert final.spent == {}
    assert "budget.reserved" not in book.kinds()


def test_several_hopeless_asks_pause_a_plan_once_where_the_policy_says_so() -> None:
    dear = [proposal(name, hold={"usd_micro": 101}) for name in "ab"]
    book = Book(*dear, proposal("c"), policy=policy(on_refused="pause"))
    assert book.kinds().count("plan.paused") == 1
    assert book.kinds().count("transition.refused") == 2
    assert (book.state.status, book.status("c")) == ("paused", "pending")
    book.do(cmd.ResumePlan(plan=PLAN, by="me", reason="go on"))
    book.finish(book.admit("c"))
    assert book.conclude().events[-1].KIND == "plan.failed"


def test_attachments_come_into_the_world_with_the_plan() -> None:
    book = Book()
    text = output("/artifacts/attachments/text")
    book.do(creation(proposal("a"), attachments=(text,)))
    assert book.kinds() == ["plan.created", "artifact.produced", "transition.proposed"]


def test_leases_that_overlap_wait_for_each_other() -> None:
    shared = "/artifacts/shared/"
    book = Book(_fixed("a", shared), _fixed("b", shared + "one"), _fixed("c", "/artifacts/shar"))
    ident = book.admit("a")
    assert book.do(book.admission("b")).events == ()
    blocked = why(book.state, "b")
    assert blocked is not None
    assert blocked.condition == "lease.acquirable"
    assert blocked.detail["transition"] == "a"
    book.admit("c")
    book.finish(ident)
    book.admit("b")


@pytest.mark.parametrize(
    "prefix",
    [
        PREFIX,
        "/artifacts/outputs/demo-echo-v1/x0/",
        "/artifacts/outputs/demo-echo-v1/",
        "/world/acme/p1/artifacts/outputs/demo-echo-v1/{ident}/",
    ],
    ids=["unexpanded", "another attempt's", "wider", "absolute"],
)
def test_a_write_prefix_that_was_not_proposed_is_refused(prefix: str) -> None:
    book = Book(proposal("a"))
    ident = book.admission("a").execution_id
    with pytest.raises(TheoryError, match="write prefix") as caught:
        book.do(book.admission("a", write_prefix=prefix.replace("{ident}", ident)))
    assert caught.value.code == "ERR_CONFLICT"
    assert book.admit("a") == ident


@pytest.mark.parametrize(
    ("kind", "path"),
    [
        ("prefix", "/artifacts/shared/"),
        ("prefix", "/artifacts/outputs/demo-echo-v1/another/"),
        ("exact", "/artifacts/execution/x1/determinism.json"),
    ],
)
def test_a_write_set_that_was_not_proposed_is_refused_whole(
    kind: Literal["exact", "prefix"], path: str
) -> None:
    book = Book(proposal("a"))
    right = book.admission("a")
    more = SelectorSpec(kind=kind, path=path)
    for wrong in ((*right.write_set, more), (more,), ()):
        with pytest.raises(TheoryError) as caught:
            book.do(book.admission("a", write_set=wrong))
        assert caught.value.code == "ERR_CONFLICT"
    assert book.do(right).events != ()


def test_candidates_are_expanded_with_the_name_that_they_will_have() -> None:
    book = Book(proposal("a"))
    planned = [str(selector.path) for selector in expand(book.state, "a")]
    book.admit("a")
    (attempt,) = book.state.open.values()
    assert [str(selector.path) for selector in attempt.selectors] == planned


def test_a_long_template_is_expanded_without_a_fault() -> None:
    prefix = "/artifacts/" + "a/" * 470 + "{execution_id}/"
    specs = (SelectorSpec(kind="prefix", path=prefix),)
    book = Book(proposal("a" * 63, write_prefix=prefix, write_set=specs))
    assert why(book.state, "a" * 63) is None


def test_events_of_an_admission_stand_in_their_order() -> None:
    asked = Predicate(name="artifact.exists@1", params={"path": "/artifacts/x"})
    book = Book(proposal("a", admission=(asked,)))
    consumed = tuple(InputBytes(path=f"/artifacts/{n}", cid=CID, size_bytes=1) for n in range(501))
    book.do(book.admission("a", consumed=consumed, secrets=("KEY",)))
    assert book.kinds()[2:] == [
        "predicate.checked",
        "transition.admitted",
        "lease.acquired",
        "budget.reserved",
        "artifact.consumed",
        "artifact.consumed",
        "secret.used",
        "execution.started",
    ]


@pytest.mark.parametrize("answer", ["false", "error"])
def test_a_predicate_that_is_not_true_holds_a_candidate(answer: str) -> None:
    asked = Predicate(name="artifact.exists@1", params={"path": "/artifacts/x"})
    book = Book(proposal("a", admission=(asked,)))
    assert book.do(book.admission("a", verdicts=(verdict(asked, answer),))).events == ()


def test_answers_to_other_questions_admit_nothing() -> None:
    asked = Predicate(name="artifact.exists@1", params={"path": "/artifacts/x"})
    other = Predicate(name="artifact.exists@1", params={"path": "/artifacts/y"})
    book = Book(proposal("a", admission=(asked,)))
    for answers in ((), (verdict(other),), (verdict(asked), verdict(asked))):
        with pytest.raises(TheoryError) as caught:
            book.do(book.admission("a", verdicts=answers))
        assert caught.value.code == "ERR_CONFLICT"


def test_a_refusal_of_an_attempt_that_is_past_changes_nothing() -> None:
    book = Book(proposal("a"))
    book.finish(book.admit("a"), "failed")
    stale = cmd.Refuse(plan=PLAN, transition="a", attempt=1, error=BROKE)
    assert book.do(stale).events == ()
    assert book.status("a") == "pending"


def test_what_had_no_hope_when_it_was_looked_at_is_judged_by_the_budget_that_is_there_now() -> None:
    book = Book(proposal("a", hold={"usd_micro": 100}), proposal("b"))
    book.finish(book.admit("b"), used={"usd_micro": 1})
    over = Fault(code="ERR_BUDGET_EXCEEDED", message="as it looked before the top-up")
    late = cmd.Refuse(plan=PLAN, transition="a", attempt=1, error=over)
    book.do(cmd.TopUp(plan=PLAN, by="local", amount={"usd_micro": 50}))
    assert book.do(late).events == ()
    assert book.status("a") == "pending"


@pytest.mark.parametrize(
    ("transition", "condition"),
    [
        ("done", "transition.ended"),
        ("runs", "transition.applying"),
        ("waits", "dependency.satisfied"),
        ("free", None),
    ],
)
def test_why_names_the_first_condition_that_fails(transition: str, condition: str | None) -> None:
    book = Book(proposal("done"), proposal("runs"), proposal("waits", "runs"), proposal("free"))
    book.finish(book.admit("done"))
    book.admit("runs")
    blocked = why(book.state, transition)
    assert (blocked and blocked.condition) == condition


def test_why_names_the_plan_where_the_plan_is_the_reason() -> None:
    book = Book(proposal("a"), proposal("b"), policy=policy(on_breach="pause"))
    runs = book.admit("a")
    book.do(cmd.PausePlan(plan=PLAN, by="me", reason="lunch"))
    reasons = [why(book.state, "b")]
    book.finish(runs, used={"usd_micro": 90})
    book.do(cmd.ResumePlan(plan=PLAN, by="me", reason="go on"))
    reasons.append(why(book.state, "b"))
    assert [reason and reason.condition for reason in reasons] == [
        "plan.active",
        "budget.available",
    ]


@pytest.mark.scenario(65)
@pytest.mark.parametrize("bad", [-1, 2**53, True, 1.0, "1", None])
def test_an_amount_is_an_exact_integer_from_zero(bad: object) -> None:
    with pytest.raises(TheoryError, match=r"place\.tokens") as caught:
        checked({"tokens": bad}, place="place")
    assert caught.value.code == "ERR_PLAN_INVALID"
    assert checked({"tokens": 2**53 - 1, "gpu_ms": 0}, place="p")["tokens"] == 2**53 - 1
