"""What people read while they wait."""

from __future__ import annotations

import pytest

from theory_api.cli.board import Board
from theory_api.cli.costs import amount, sentence, used

X = {"execution_id": "x1", "transition": "cut", "attempt": 1}
HOLD = {"cpu_ms": 1500, "io_bytes": 0}


@pytest.fixture
def board() -> Board:
    made = Board()
    made.event("transition.proposed", {"transition": "cut"})
    return made


def test_a_step_is_told_from_its_reservation_to_its_settlement(board: Board) -> None:
    assert board.event("budget.reserved", {**X, "hold": HOLD}) is None
    started = board.event("execution.started", X)
    assert started == "cut: started, reserved 1.5 s of CPU"
    assert board.rows["cut"].status == "running"
    assert board.event("budget.settled", {**X, "hold": HOLD, "actual": {"cpu_ms": 300}}) is None
    assert board.event("transition.succeeded", X) == "cut: succeeded, spent 0.3 s of CPU"
    assert board.rows["cut"].status == "succeeded"


def test_attempts_add_up(board: Board) -> None:
    error = {"code": "ERR_PROVIDER", "message": "provider call failed", "detail": {}}
    board.event("budget.reserved", {**X, "hold": HOLD})
    board.event("execution.started", X)
    board.event("budget.settled", {**X, "actual": {"cpu_ms": 300}})
    again = board.event("transition.retried", {**X, "delay_ms": 500, "error": error})
    assert again == "cut: ERR_PROVIDER: provider call failed; next attempt in 0.5 s"
    second = {**X, "attempt": 2}
    board.event("budget.reserved", {**second, "hold": HOLD})
    assert board.event("execution.started", second) == (
        "cut: started (attempt 2), reserved 1.5 s of CPU"
    )
    board.event("budget.settled", {**second, "actual": {"cpu_ms": 200}})
    assert board.event("transition.succeeded", second) == "cut: succeeded, spent 0.5 s of CPU"


@pytest.mark.parametrize(
    ("kind", "data", "told"),
    [
        (
            "transition.refused",
            {"error": {"code": "ERR_INPUTS", "message": "invalid inputs payload"}},
            "cut: refused, ERR_INPUTS: invalid inputs payload",
        ),
        ("transition.skipped", {"because": "write"}, "cut: skipped because of write"),
        ("transition.cancelled", {"reason": "enough"}, "cut: cancelled"),
    ],
)
def test_other_endings_say_why(board: Board, kind: str, data: dict[str, object], told: str) -> None:
    assert board.event(kind, {"transition": "cut", **data}) == told
    assert board.rows["cut"].status == kind.removeprefix("transition.")


def test_preparations_are_told_and_progress_is_only_shown(board: Board) -> None:
    assert board.notice("cut", "prepare", "Making it", None) == "cut: Making it"
    assert board.notice("cut", "encode", "", 0.5) is None
    assert board.rows["cut"].progress == 0.5
    assert board.rows["cut"].note == "encode"


def test_preparations_that_begin_before_the_first_event_are_told() -> None:
    assert Board().notice("cut", "prepare", "Making it", None) == "cut: Making it"


def test_an_ended_step_takes_no_notice(board: Board) -> None:
    board.event("transition.skipped", {"transition": "cut", "because": "write"})
    assert board.notice("cut", "prepare", "Making it", None) is None
    assert board.event("execution.started", {**X, "transition": "paste"}) is None


def test_amounts_stand_in_everyday_units() -> None:
    assert amount("usd_micro", 9600) == "0.0096"
    assert amount("io_bytes", 16_777_216) == "16.78"
    assert amount("cpu_ms", None) == "-"
    assert used([{"tokens": 1}, {"cpu_ms": 2}]) == ["cpu_ms", "tokens"]
    assert sentence({"cpu_ms": 0}) == "nothing"
    assert sentence({"latency_ms": 1200, "tokens": 3}) == "1.2 s, 3 tokens"
