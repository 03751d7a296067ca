"""Moves merged into one are refused exactly when one of them would be; which batch is plain."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from theory_api.adapters.conftest import Story
from theory_api.adapters.sql.postgres.payload import merged, one
from theory_api.domain import events as ev
from theory_api.domain.projection import BalanceMove
from theory_api.ports.truth import IdempotencyRow

amounts = st.integers(-6, 6)
moves = st.lists(
    st.builds(
        BalanceMove, st.just("tokens"), reserved=amounts, spent=amounts, guarded=st.booleans()
    ),
    min_size=1,
    max_size=6,
)
balances = st.tuples(st.integers(0, 8), st.integers(0, 8), st.none() | st.integers(0, 16))


def one_by_one(
    balance: tuple[int, int, int | None], moved: list[BalanceMove]
) -> tuple[int, int] | None:
    """The balance after all moves, or None when one of them is refused."""
    reserved, spent, limit = balance
    for move in moved:
        reserved, spent = reserved + move.reserved, spent + move.spent
        if reserved < 0 or spent < 0:
            return None
        if move.guarded and limit is not None and reserved + spent > limit:
            return None
    return reserved, spent


@given(balances, moves)
def test_merged_moves_say_what_they_say_one_by_one(
    balance: tuple[int, int, int | None], moved: list[BalanceMove]
) -> None:
    reserved, spent, limit = balance
    (row,) = merged("p", moved)
    used = row["most_used"]
    taken = (
        reserved + row["least_reserved"] >= 0
        and spent + row["least_spent"] >= 0
        and (used is None or limit is None or reserved + spent + used <= limit)
    )
    after = (reserved + row["reserved"], spent + row["spent"]) if taken else None
    assert after == one_by_one(balance, moved)


def test_only_events_that_move_one_head_and_nothing_else_of_a_plan_go_the_short_way() -> None:
    story = Story()
    created = story.created(tokens=1)
    plain = story.append(ev.BudgetToppedUp(amount={"tokens": 1}, limit={"tokens": 2}, by="x"))
    paused = story.append(ev.PlanPaused(by="x", reason="x"))
    request = IdempotencyRow(scope="s", key="k", body="b3:", answer=b"{}")
    given = one([plain], ())
    assert given is not None
    assert given[:2] == (story.plan, 1)
    assert given[-1] is not None
    plain.changes.limits.clear()
    nothing_else = one([plain], ())
    assert nothing_else is not None
    assert nothing_else[-1] is None
    assert one([created], ()) is None
    assert one([paused], ()) is None
    assert one([plain], [request]) is None
    assert one([plain, paused], ()) is None
    assert one([], ()) is None
