"""Predicates: their parameters, what they read, and when an answer is too old to count."""

# ruff: noqa: ANN401 - builders hand fields of any type on

from __future__ import annotations

from typing import Any

import pytest

from theory_api.domain import commands as cmd
from theory_api.domain.predicates import judge, reads, stale, validate, where
from theory_api.domain.tests.book import PREFIX, Book, creation, output, policy, proposal, verdict
from theory_api.domain.values import Output, Predicate, SelectorSpec
from theory_core import TheoryError


def asked(name: str, /, **params: Any) -> Predicate:
    return Predicate(name=f"{name}@1", params=params)


EXISTS = asked("artifact.exists", path="/artifacts/shared/x")
COUNT = asked("file.count_min", path="/artifacts/shared", count=1)


@pytest.mark.parametrize(
    "predicate",
    [
        EXISTS,
        COUNT,
        asked("artifact.exists", path="outputs/x", transition="a"),
        asked("artifact.exists", path="/streams/x/"),
        asked("file.count_min", path="outputs/", count=0),
        asked("budget.available", amount={"tokens": 5}),
        asked("dependency.satisfied", transition="a"),
        asked("lease.acquirable", path="/artifacts/x/"),
        asked("disk.space_available", free_bytes=0),
        asked("series.has_new", path="/senses/eye/"),
        asked("series.has_new", path="/artifacts/feed", after="0003.json"),
        asked("series.has_new", path="outputs/feed/", after="", transition="a"),
        asked("stream.has_data", path="/streams/effectors/mouth/audio"),
        asked("stream.has_data", path="outputs/"),
        asked("world.listed", path="/artifacts/"),
        asked("world.judged", name=COUNT.name, params=COUNT.params),
    ],
)
def test_what_is_well_formed_is_accepted(predicate: Predicate) -> None:
    validate(predicate, place="$.goal[0]")


@pytest.mark.parametrize(
    ("predicate", "code"),
    [
        (asked("coffee.ready"), "ERR_PLAN_INVALID"),
        (Predicate(name="artifact.exists@2", params={"path": "/artifacts/x"}), "ERR_PLAN_INVALID"),
        (asked("artifact.exists"), "ERR_PLAN_INVALID"),
        (asked("artifact.exists", path=3), "ERR_PLAN_INVALID"),
        (asked("artifact.exists", path="/artifacts/x", colour="red"), "ERR_PLAN_INVALID"),
        (asked("artifact.exists", path="somewhere"), "ERR_PLAN_INVALID"),
        (asked("artifact.exists", path="world://acme/p2/artifacts/x"), "ERR_PLAN_INVALID"),
        (asked("artifact.exists", path="/world/acme/p2/artifacts/x"), "ERR_PLAN_INVALID"),
        (asked("artifact.exists", path="/nowhere/x"), "ERR_BAD_FACET"),
        (asked("artifact.exists", path="outputs/../x"), "ERR_DOT_SEGMENTS"),
        (asked("artifact.exists", path="/artifacts/a//b"), "ERR_PATH_SYNTAX"),
        (asked("file.count_min", path="/artifacts/x/", count=-1), "ERR_PLAN_INVALID"),
        (asked("file.count_min", path="/artifacts/x/", count=2**53), "ERR_PLAN_INVALID"),
        (asked("file.count_min", path="/artifacts/x/", count=True), "ERR_PLAN_INVALID"),
        (asked("file.count_min", path="/artifacts/x/", count=1.0), "ERR_PLAN_INVALID"),
        (asked("budget.available", amount={"bitcoin": 1}), "ERR_PLAN_INVALID"),
        (asked("budget.available", amount=[]), "ERR_PLAN_INVALID"),
        (asked("lease.acquirable", path="outputs/x"), "ERR_PLAN_INVALID"),
        (asked("dependency.satisfied", transition=None), "ERR_PLAN_INVALID"),
        (asked("disk.space_available"), "ERR_PLAN_INVALID"),
        (asked("disk.space_available", free_bytes=-1), "ERR_PLAN_INVALID"),
        (asked("disk.space_available", free_bytes=1, path="/artifacts/x"), "ERR_PLAN_INVALID"),
        (asked("stream.has_data", path="/artifacts/x/"), "ERR_PLAN_INVALID"),
        (asked("stream.has_data"), "ERR_PLAN_INVALID"),
        (asked("series.has_new", path="/artifacts/x/", after=3), "ERR_PLAN_INVALID"),
        (asked("series.has_new", path="/artifacts/x/", after="../y"), "ERR_DOT_SEGMENTS"),
        (asked("series.has_new", path="/artifacts/x/", after="0003.JSON"), "ERR_PLAN_INVALID"),
        (asked("series.has_new", path="/artifacts/x/", after="0003/"), "ERR_PLAN_INVALID"),
        (asked("world.listed", path="/artifacts/x"), "ERR_PLAN_INVALID"),
        (asked("world.listed", path="/streams/x/"), "ERR_PLAN_INVALID"),
        (asked("world.listed", path="outputs/"), "ERR_PLAN_INVALID"),
        (asked("world.listed"), "ERR_PLAN_INVALID"),
        (asked("world.judged", name=EXISTS.name), "ERR_PLAN_INVALID"),
        (asked("world.judged", name=EXISTS.name, params={}), "ERR_PLAN_INVALID"),
        (asked("world.judged", name="coffee.ready@1", params={}), "ERR_PLAN_INVALID"),
        (asked("world.judged", name="budget.available@1", params={}), "ERR_PLAN_INVALID"),
        (
            asked("world.judged", name="world.judged@1", params={"name": "x", "params": {}}),
            "ERR_PLAN_INVALID",
        ),
        (asked("world.judged", name=EXISTS.name, params={"path": "outputs/x"}), "ERR_PLAN_INVALID"),
        (
            asked(
                "world.judged",
                name=EXISTS.name,
                params={"path": "/artifacts/x", "transition": "a"},
            ),
            "ERR_PLAN_INVALID",
        ),
    ],
)
def test_what_is_not_is_refused_with_its_place(predicate: Predicate, code: str) -> None:
    with pytest.raises(TheoryError, match=r": \$\.goal\[0\]") as caught:
        validate(predicate, place="$.goal[0]")
    assert caught.value.code == code
    assert str(caught.value.detail["place"]).startswith("$.goal[0]")


def test_a_relative_path_is_below_the_newest_attempts_prefix() -> None:
    book = Book(proposal("a"), proposal("b"))
    mine = asked("artifact.exists", path="outputs/X")
    assert where(mine, book.state, "a") is None
    first = book.admit("a")
    home = PREFIX.replace("{execution_id}", first)
    assert where(mine, book.state, "a") == f"{home}outputs/x", "in its canonical form"
    assert where(mine, book.state, None) is None
    other = asked("artifact.exists", path="outputs/x", transition="a")
    assert where(other, book.state, "b") == f"{home}outputs/x"
    book.finish(first, "failed")
    second = book.admit("a")
    assert where(mine, book.state, "a") == f"{home.replace(first, second)}outputs/x"


def test_what_counts_files_reads_a_whole_prefix() -> None:
    state = Book(proposal("a")).state
    scope = reads(COUNT, state, None)
    assert scope is not None
    assert (scope.kind, str(scope.path)) == ("prefix", "/world/acme/p1/artifacts/shared/")
    assert reads(asked("budget.available", amount={}), state, None) is None


@pytest.mark.parametrize(
    ("predicate", "answer"),
    [
        (asked("dependency.satisfied", transition="done"), "true"),
        (asked("dependency.satisfied", transition="runs"), "false"),
        (asked("dependency.satisfied", transition="nobody"), "false"),
        (asked("budget.available", amount={"usd_micro": 80}), "true"),
        (asked("budget.available", amount={"usd_micro": 81}), "false"),
        (asked("budget.available", amount={"tokens": 10**9}), "true"),
        (asked("lease.acquirable", path="/artifacts/free/"), "true"),
        (asked("lease.acquirable", path="/artifacts/taken/one"), "false"),
        (asked("no.such"), "error"),
    ],
)
def test_the_state_answers_what_it_knows(predicate: Predicate, answer: str) -> None:
    taken = SelectorSpec(kind="prefix", path="/artifacts/taken/")
    runs = proposal("runs", write_set=(*proposal("runs").write_set, taken))
    book = Book(proposal("done"), runs)
    book.finish(book.admit("done"), used={"usd_micro": 10})
    book.admit("runs")
    verdict_given, reason = judge(predicate, book.state, None)
    assert (verdict_given, bool(reason)) == (answer, True)
    own = judge(asked("lease.acquirable", path="/artifacts/taken/x"), book.state, "runs")
    assert own[0] == "true", "a transition does not stand in its own way"


def _book(*, success: tuple[Predicate, ...] = (), **fields: Any) -> Book:
    """`a` runs and writes to the shared folder; `b` asks for something in it."""
    shared = SelectorSpec(kind="prefix", path="/artifacts/shared/")
    writer = proposal(
        "a",
        write_prefix="/artifacts/shared/{execution_id}/",
        write_set=(shared,),
        success=success,
    )
    return Book(writer, proposal("b", **fields))


def _written(ident: str, name: str = "x") -> tuple[Output, ...]:
    return (output(f"/artifacts/shared/{ident}/outputs/{name}"),)


@pytest.mark.parametrize(
    "predicate",
    [
        COUNT,
        asked("artifact.exists", path="/artifacts/shared/"),
        asked("world.listed", path="/artifacts/"),
        asked("world.judged", name=COUNT.name, params=COUNT.params),
    ],
)
def test_an_answer_older_than_a_write_to_what_it_read_is_stale(predicate: Predicate) -> None:
    book = _book(admission=(predicate,))
    before = book.state.seq
    ident = book.admit("a")
    book.finish(ident, outputs=_written(ident))
    written = next(n for n, kind in enumerate(book.kinds(), 1) if kind == "artifact.produced")
    for at_seq, old in ((before, True), (written - 1, True), (written, False)):
        decision = book.do(book.admission("b", verdicts=(verdict(predicate, "true", at_seq),)))
        assert (decision.stale, bool(decision.events)) == (old, not old)


def test_a_write_elsewhere_makes_no_answer_stale() -> None:
    elsewhere = asked("artifact.exists", path="/artifacts/other/x")
    book = _book(admission=(elsewhere,))
    before = book.state.seq
    ident = book.admit("a")
    book.finish(ident, outputs=_written(ident))
    assert not stale(book.state, (verdict(elsewhere, "true", before),), "b")


def test_the_records_of_an_execution_are_part_of_the_world() -> None:
    book = _book()
    ident = book.admit("a")
    before = book.state.seq
    trace = asked("artifact.exists", path=f"/artifacts/execution/{ident}/trace.jsonl")
    book.finish(ident, records=(output(f"/artifacts/execution/{ident}/trace.jsonl"),))
    assert stale(book.state, (verdict(trace, "false", before),))


def test_an_attachment_is_part_of_the_world() -> None:
    text = asked("artifact.exists", path="/artifacts/attachments/text")
    book = Book()
    book.do(creation(proposal("a"), attachments=(output("/artifacts/attachments/text"),)))
    assert stale(book.state, (verdict(text, "false", 1),))
    assert not stale(book.state, (verdict(text, "true", 2),))


def test_an_answer_of_the_state_counts_only_while_it_is_the_same() -> None:
    affordable = asked("budget.available", amount={"usd_micro": 95})
    book = Book(proposal("a"), proposal("b", admission=(affordable,)))
    book.admit("a")
    assert book.do(book.admission("b")).stale


def test_a_stale_success_is_evaluated_again() -> None:
    book = _book(success=(EXISTS,), write_prefix="/artifacts/b/{execution_id}/")
    book.do(
        cmd.ProposeTransition(
            plan=book.state.plan,
            by="me",
            proposal=proposal("c", success=(COUNT,)),
        )
    )
    first, third = book.admit("a"), book.admit("c")
    early = book.state.seq
    book.finish(first, outputs=_written(first))
    decision = book.finish(third, verdicts=(verdict(COUNT, "false", early),))
    assert (decision.stale, decision.events) == (True, ())
    book.finish(third, verdicts=(verdict(COUNT, "true", book.state.seq),))
    assert book.status("c") == "succeeded"


def test_a_goal_is_judged_on_the_last_write() -> None:
    prefix = "/artifacts/shared/{execution_id}/"
    own = SelectorSpec(kind="prefix", path=prefix)
    book = Book(proposal("a", write_prefix=prefix, write_set=(own,)), goal=(COUNT,))
    ident = book.admit("a")
    early = book.state.seq
    book.finish(ident, outputs=_written(ident))
    old = cmd.Conclude(plan=book.state.plan, verdicts=(verdict(COUNT, "false", early),))
    assert book.do(old).stale
    assert book.conclude().events[-1].KIND == "plan.completed"


def test_a_failed_attempt_leaves_the_answer_of_its_goal_alone() -> None:
    book = Book(proposal("a"), goal=(EXISTS,), policy=policy(attempts=1))
    before = book.state.seq
    book.finish(book.admit("a"), "failed")
    assert not stale(book.state, (verdict(EXISTS, "false", before),))
