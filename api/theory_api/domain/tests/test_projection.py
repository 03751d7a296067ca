"""The rows that events imply, applied in one piece or in any pieces."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from theory_api.domain import commands as cmd
from theory_api.domain import events as ev
from theory_api.domain.projection import Changes, project
from theory_api.domain.tests.book import BROKE, CID, PLAN, PREFIX, Book, output, policy, proposal


class Rows:
    """What a store holds after changes were applied to it."""

    def __init__(self) -> None:
        self.plan: dict[str, Any] = {}
        self.limits: dict[str, int] = {}
        self.reserved: dict[str, int] = {}
        self.spent: dict[str, int] = {}
        self.transitions: dict[str, dict[str, Any]] = {}
        self.executions: dict[str, dict[str, Any]] = {}
        self.artifacts: dict[str, Any] = {}

    def apply(self, changes: Changes) -> None:
        """Law: no balance is negative; a guarded move keeps within the limit."""
        self.plan |= changes.plan
        self.limits |= changes.limits
        for move in changes.moves:
            name = move.dimension
            self.reserved[name] = self.reserved.get(name, 0) + move.reserved
            self.spent[name] = self.spent.get(name, 0) + move.spent
            assert self.reserved[name] >= 0
            assert self.spent[name] >= 0
            if move.guarded and name in self.limits:
                assert self.reserved[name] + self.spent[name] <= self.limits[name]
        for mine, theirs in (
            (self.transitions, changes.transitions),
            (self.executions, changes.executions),
        ):
            for key, columns in theirs.items():
                mine[key] = mine.get(key, {}) | columns
        for path, columns_or_none in changes.artifacts.items():
            self.artifacts[path] = columns_or_none


def _numbered(book: Book) -> list[tuple[int, str, ev.Event | None]]:
    return [
        (seq, f"2026-11-21T04:25:{seq % 60:02d}.000000Z", event)
        for seq, event in enumerate(book.events, 1)
    ]


def _rows(book: Book, cuts: list[int]) -> Rows:
    events, rows = _numbered(book), Rows()
    for start, end in zip([0, *cuts], [*cuts, len(events)], strict=True):
        rows.apply(project(PLAN, events[start:end]))
    return rows


def _busy() -> Book:
    lavish = {"usd_micro": 10, "tokens": 5}
    book = Book(
        proposal("a", hold=lavish),
        proposal("b", "a"),
        proposal("c"),
        policy=policy(on_breach="pause", on_refused="pause", attempts=3),
    )
    book.finish(book.admit("a"), "failed", used={"usd_micro": 3, "cpu_ms": 9})
    ident = book.admit("a")
    home = PREFIX.replace("{execution_id}", ident)
    book.finish(ident, used={"usd_micro": 11}, outputs=(output(f"{home}outputs/x"),))
    book.do(cmd.TopUp(plan=PLAN, by="me", amount={"usd_micro": 5}))
    book.do(cmd.ResumePlan(plan=PLAN, by="me", reason="paid"))
    book.finish(book.admit("c"), "void")
    book.do(cmd.Refuse(plan=PLAN, transition="b", attempt=1, error=BROKE))
    book.do(cmd.ResumePlan(plan=PLAN, by="me", reason="seen"))
    book.finish(book.admit("c"), "orphaned")
    book.admit("c")
    book.do(cmd.CancelPlan(plan=PLAN, by="me", reason="enough"))
    return book


BUSY = _busy()


def _some(balance: dict[str, int]) -> dict[str, int]:
    return {name: amount for name, amount in balance.items() if amount}


@given(st.lists(st.integers(min_value=0, max_value=len(BUSY.events)), max_size=8).map(sorted))
def test_any_pieces_lead_to_the_rows_of_one_piece(cuts: list[int]) -> None:
    assert vars(_rows(BUSY, cuts)) == vars(_rows(BUSY, []))


def test_the_balance_rows_are_the_folds_balances() -> None:
    rows, state = _rows(BUSY, []), BUSY.state
    assert (rows.limits, _some(rows.spent)) == (state.limit, _some(state.spent))
    assert _some(rows.reserved) == _some(state.reserved)


def test_the_transition_rows_are_the_folds_transitions() -> None:
    rows = _rows(BUSY, [])
    for name, entry in BUSY.state.transitions.items():
        row = rows.transitions[name]
        error = None if entry.error is None else entry.error.code
        assert (row["status"], row["attempt"], row["execution_id"]) == (
            entry.status,
            entry.attempt,
            entry.execution_id,
        )
        assert row["error_code"] == error
    order = sorted(rows.transitions, key=lambda name: rows.transitions[name]["position"])
    assert order == list(BUSY.state.transitions)


def test_the_execution_rows_tell_every_attempt() -> None:
    rows = _rows(BUSY, []).executions
    assert [(row["transition"], row["attempt"], row["status"]) for row in rows.values()] == [
        ("a", 1, "failed"),
        ("a", 2, "succeeded"),
        ("c", 1, "orphaned"),
        ("c", 2, "orphaned"),
        ("c", 3, "running"),
    ]
    assert [row["actual"] for row in rows.values()] == [
        {"usd_micro": 3, "cpu_ms": 9, "tokens": 5},
        {"usd_micro": 11, "tokens": 5},
        {},
        {"usd_micro": 10},
        None,
    ]
    for row in rows.values():
        assert (row["ended_at"] is None) == (row["status"] == "running")
    assert [row["envelope"] for row in rows.values()] == [CID, CID, None, None, None]


def test_the_plan_row_tells_status_and_error() -> None:
    rows = _rows(BUSY, [])
    assert rows.plan["status"] == "cancelling"
    assert (rows.plan["tenant"], rows.plan["transitions"]) == ("acme", 3)
    assert rows.plan["created_at"] < rows.plan["updated_at"]
    failing = Book(proposal("a"), policy=policy(attempts=1))
    failing.finish(failing.admit("a"), "failed")
    failing.conclude()
    plan = _rows(failing, []).plan
    assert (plan["status"], plan["error_code"]) == ("failed", "ERR_PROVIDER")


def test_every_reservation_is_guarded_by_the_store_too() -> None:
    moves = project(PLAN, _numbered(BUSY)).moves
    assert {move.guarded for move in moves if move.reserved > 0} == {True}
    assert {move.guarded for move in moves if move.reserved < 0} == {False}


def test_an_event_that_moves_no_plan_still_touches_its_row() -> None:
    changes = project(PLAN, [(7, "2026-11-21T04:25:07.000000Z", None)])
    assert changes.plan == {"updated_at": "2026-11-21T04:25:07.000000Z"}
