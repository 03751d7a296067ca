"""The lifecycle, whole: every command in every state, every event in every status."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from theory_api.domain import commands as cmd
from theory_api.domain import events as ev
from theory_api.domain.evolve import evolve, fold
from theory_api.domain.kinds import EVENT_TYPES, from_data
from theory_api.domain.lifecycle import ATTEMPT, PLAN, TRANSITION, stage
from theory_api.domain.state import PlanState
from theory_api.domain.tests import lifecycle
from theory_api.domain.tests.book import BROKE, VECTORS, Book, policy, proposal, wire
from theory_api.domain.tests.book import PLAN as PATH
from theory_api.domain.tests.lifecycle import CELLS, COMMANDS, SETTINGS, TABLE, Cell
from theory_api.domain.values import TERMINAL_PLAN, TERMINAL_TRANSITION
from theory_core import TheoryError, canonicalize, execution_id

IDENT = execution_id(PATH, "a", 1)


# -- commands ---------------------------------------------------------------------------------


@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: f"{cell.setting}-{cell.command}")
def test_a_command_leads_to_what_the_table_says(cell: Cell) -> None:
    book = SETTINGS[cell.setting]()
    try:
        came = " ".join(event.KIND for event in book.do(COMMANDS[cell.command](book)).events)
    except TheoryError as error:
        came = error.code
    assert came == cell.stated


def test_the_table_has_every_command_in_every_status_of_a_plan() -> None:
    stated = {(setting, asked) for setting, row in TABLE.items() for asked in row}
    assert stated == {(cell.setting, cell.command) for cell in CELLS}
    assert len(CELLS) == len(SETTINGS) * len(COMMANDS)
    assert {kind.__name__ for kind in cmd.Command.__subclasses__()} == {
        type(asking(lifecycle.active())).__name__ for asking in COMMANDS.values()
    }
    assert {setting().state.status for setting in SETTINGS.values()} == set(PLAN)


# -- events -----------------------------------------------------------------------------------


def example(kind: str) -> ev.Event:
    """The first valid event of a kind's vectors."""
    document = json.loads((VECTORS / f"{kind}.json").read_text(encoding="ascii"))
    cases = [case for group in document["testGroups"] for case in group["tests"]]
    data = next(case["event"]["data"] for case in cases if case["result"] == "valid")
    event = from_data(kind, data)
    assert event is not None
    return event


def about(kind: str) -> ev.Event:
    """An event of a kind about the transition `a` and its first attempt."""
    event: Any = example(kind)
    own: dict[str, Any] = {
        "transition": "a",
        "execution_id": IDENT,
        "attempt": 1,
        "next_attempt": 2,
        "hold": {"usd_micro": 10},
        "write_prefix": f"/artifacts/outputs/demo-echo-v1/{IDENT}/",
        "depends_on": (),
    }
    if kind in {"transition.proposed", "transition.refused", "transition.skipped"}:
        own.pop("execution_id")
    names = set(event.__struct_fields__)
    changed = {name: value for name, value in own.items() if name in names}
    made: ev.Event = msgspec.structs.replace(event, **changed)
    return made


def upto(kind: str | None) -> Callable[[], PlanState]:
    """The plan as it is right after the first event of a kind, in a run that succeeds."""

    def made() -> PlanState:
        book = Book(proposal("a"))
        book.finish(book.admit("a"), used={"usd_micro": 11})
        kinds = book.kinds()
        state = PlanState(plan=PATH)
        for seq, event in enumerate(book.events[: kinds.index(kind) + 1 if kind else None], 1):
            evolve(state, seq, event)
        return state

    return made


def skipped() -> PlanState:
    book = Book(proposal("z"), proposal("a", "z"), policy=policy(attempts=1))
    book.finish(book.admit("z"), "failed")
    return book.state


def refused() -> PlanState:
    book = Book(proposal("a"))
    book.do(cmd.Refuse(plan=PATH, transition="a", attempt=1, error=BROKE))
    return book.state


def failed() -> PlanState:
    book = Book(proposal("a"), proposal("z"), policy=policy(attempts=1))
    book.finish(book.admit("a"), "failed")
    return book.state


def halted() -> PlanState:
    book = Book(proposal("z"), proposal("a"))
    book.admit("z")
    book.do(cmd.Refuse(plan=PATH, transition="z", attempt=1, error=BROKE))
    book.do(cmd.CancelPlan(plan=PATH, by="me", reason="enough"))
    return book.state


def alone() -> PlanState:
    return Book(proposal("z")).state


POSITIONS: dict[str, tuple[str, str, Callable[[], PlanState]]] = {
    "absent": ("absent", "absent", alone),
    "pending": ("pending", "absent", upto("transition.proposed")),
    "admitted": ("applying", "admitted", upto("transition.admitted")),
    "running": ("applying", "running", upto("execution.started")),
    "ended": ("applying", "ended", upto("execution.succeeded")),
    "settled": ("applying", "absent", upto("budget.settled")),
    "succeeded": ("succeeded", "absent", upto(None)),
    "failed": ("failed", "absent", failed),
    "skipped": ("skipped", "absent", skipped),
    "refused": ("refused", "absent", refused),
    "cancelled": ("cancelled", "absent", halted),
}
"""Where a transition can stand: its status, the stage of its attempt, and a plan in which it is."""

NAMING = sorted({kind for row in TRANSITION.values() for kind in row})
"""Every kind that is about a transition."""


def asked(position: str, kind: str) -> ev.Event:
    """The event to try; before an admission nothing names an execution but the admission."""
    event = about(kind)
    if (position, kind) == ("pending", "predicate.checked"):
        return msgspec.structs.replace(event, scope="admission", execution_id=None)
    return event


def after(position: str, event: ev.Event) -> str | None:
    """What the tables say becomes of the transition; None where they refuse the event."""
    status, standing, made = POSITIONS[position]
    if event.KIND not in PLAN[made().status] or event.KIND not in TRANSITION[status]:
        return None
    if getattr(event, "execution_id", None) is None or event.KIND in ATTEMPT[standing]:
        # What never began has no attempt that could be told to have ended.
        ends = ev.TransitionCancelled | ev.ExecutionDuplicate
        unstarted = position in {"pending", "refused", "cancelled"} and isinstance(event, ends)
        return None if unstarted else TRANSITION[status][event.KIND]
    return None


@pytest.mark.parametrize("kind", NAMING)
@pytest.mark.parametrize("position", POSITIONS)
def test_an_event_of_a_transition_is_taken_where_the_table_has_it_and_nowhere_else(
    position: str, kind: str
) -> None:
    status, standing, made = POSITIONS[position]
    state = made()
    entry = state.transitions.get("a")
    assert ("absent" if entry is None else entry.status) == status
    assert stage(state.open.get(IDENT)) == standing
    event, before = asked(position, kind), copy.deepcopy(state)
    expected = after(position, event)
    if expected is None:
        with pytest.raises(TheoryError, match="cannot follow here") as caught:
            evolve(state, state.seq + 1, event)
        assert caught.value.code == "ERR_CHAIN_BROKEN"
        assert state == before
    else:
        evolve(state, state.seq + 1, event)
        assert state.transitions["a"].status == expected


def test_every_status_and_stage_has_its_place_in_the_tables() -> None:
    assert {status for status, _, _ in POSITIONS.values()} == set(TRANSITION)
    assert {standing for _, standing, _ in POSITIONS.values()} == set(ATTEMPT)
    named = {kind for row in (*PLAN.values(), *TRANSITION.values()) for kind in row}
    assert named == set(EVENT_TYPES)
    for table in (PLAN, TRANSITION, ATTEMPT):
        assert {status for row in table.values() for status in row.values()} <= set(table)
    assert {status for status, row in PLAN.items() if not row} == TERMINAL_PLAN
    final = {status for status, row in TRANSITION.items() if row.keys() <= {"execution.duplicate"}}
    assert final == TERMINAL_TRANSITION


@pytest.mark.parametrize("kind", sorted(EVENT_TYPES))
@pytest.mark.parametrize("setting", ["absent", "active", "paused", "cancelling", "ended", "failed"])
def test_an_event_is_taken_in_the_statuses_of_its_plan_and_in_no_other(
    setting: str, kind: str
) -> None:
    state = SETTINGS[setting]().state
    status = state.status
    before = copy.deepcopy(state)
    event = example(kind)
    if kind not in PLAN[status]:
        with pytest.raises(TheoryError, match=f"the plan is {status}") as caught:
            evolve(state, state.seq + 1, event)
        assert caught.value.code == "ERR_CHAIN_BROKEN"
        assert state == before
    elif kind.startswith("plan."):
        closing = PLAN[status][kind] in TERMINAL_PLAN
        if closing and (state.unfinished or state.open):
            with pytest.raises(TheoryError, match="work that has not ended"):
                evolve(state, state.seq + 1, event)
        else:
            assert evolve(state, state.seq + 1, event).status == PLAN[status][kind]


AGAIN = {
    *("predicate.checked", "artifact.produced", "artifact.consumed", "secret.used"),
    "stream.sealed",
    *("lease.acquired", "lease.released", "budget.breached", "budget.topped_up"),
}
"""Kinds that may stand twice in a row; every other one happens once."""


@pytest.mark.scenario(27)
@pytest.mark.parametrize("how", ["succeeded", "failed", "cancelled", "orphaned", "void"])
def test_an_event_that_is_there_twice_is_refused(how: str) -> None:
    book = Book(proposal("a"), proposal("b", "a"))
    ident = book.admit("a")
    for op in ("pause", "resume", "set_budget", "cancel"):
        book.do(book.control(ident, op))
    book.finish(ident, how)
    book.do(cmd.PausePlan(plan=PATH, by="me", reason="wait"))
    book.do(cmd.CancelPlan(plan=PATH, by="me", reason="enough"))
    for place, doubled in enumerate(book.events, start=1):
        story = [*book.events[:place], doubled]
        bodies = [canonicalize(wire(seq, event)) for seq, event in enumerate(story, 1)]
        if doubled.KIND in AGAIN:
            fold(PATH, bodies)
            continue
        with pytest.raises(TheoryError) as caught:
            fold(PATH, bodies)
        assert caught.value.code == "ERR_CHAIN_BROKEN"


@pytest.mark.parametrize(
    ("kind", "changed", "why"),
    [
        ("budget.settled", {"hold": {"usd_micro": 1}}, "held something else"),
        ("budget.voided", {"hold": {}}, "held something else"),
        ("budget.settled", {"attempt": 2}, "attempt 2 is not attempt 1"),
        ("budget.settled", {"execution_id": "x1"}, "is absent"),
        ("transition.cancelled", {"execution_id": None, "attempt": None}, "is ended"),
    ],
)
def test_a_hold_leaves_as_it_came_and_an_attempt_keeps_its_number(
    kind: str, changed: dict[str, Any], why: str
) -> None:
    state = upto("execution.succeeded")()
    with pytest.raises(TheoryError, match=why):
        evolve(state, state.seq + 1, msgspec.structs.replace(about(kind), **changed))


def test_a_budget_is_held_once() -> None:
    state = upto("budget.reserved")()
    with pytest.raises(TheoryError, match="holds a budget already"):
        evolve(state, state.seq + 1, about("budget.reserved"))


def test_an_earlier_attempt_says_nothing_any_more() -> None:
    book = lifecycle.retrying()
    book.admit("a")
    late = about("lease.released")
    with pytest.raises(TheoryError, match="not the newest attempt"):
        evolve(book.state, book.state.seq + 1, late)
