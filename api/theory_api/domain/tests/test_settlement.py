"""What is booked: measured, reported, held; how much later the next attempt comes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from theory_api.domain.commands import Usage
from theory_api.domain.settlement import carbon_mg, excess, larger, retry_delay_ms, settle
from theory_api.domain.tests.book import Book, policy, proposal
from theory_api.domain.values import Policy, Retry
from theory_api.domain.vector import DIMENSIONS, MAX_AMOUNT

AMOUNTS = st.integers(min_value=0, max_value=MAX_AMOUNT)
VECTORS = st.dictionaries(st.sampled_from(DIMENSIONS), AMOUNTS)


@pytest.mark.scenario(72)
@pytest.mark.parametrize(
    ("measured", "reported", "booked", "basis"),
    [
        (None, None, 50, "hold"),
        (7, None, 7, "measured"),
        (0, None, 0, "measured"),
        (None, 7, 7, "reported"),
        (7, 7, 7, "measured"),
        (7, 3, 7, "measured"),
        (3, 7, 7, "reported"),
        (80, None, 80, "measured"),
        (None, 80, 80, "reported"),
    ],
)
def test_unknown_usage_is_the_hold_and_a_contradiction_the_larger(
    measured: int | None, reported: int | None, booked: int, basis: str
) -> None:
    usage = Usage(
        measured={} if measured is None else {"tokens": measured},
        reported={} if reported is None else {"tokens": reported},
    )
    assert settle({"tokens": 50}, usage) == ({"tokens": booked}, {"tokens": basis})


@given(VECTORS, VECTORS, VECTORS)
def test_nothing_that_was_held_measured_or_reported_is_booked_lower(
    hold: dict[str, int], measured: dict[str, int], reported: dict[str, int]
) -> None:
    """Law: not measured is not zero; of two statements the larger counts."""
    actual, basis = settle(hold, Usage(measured=measured, reported=reported))
    assert set(actual) == set(basis) == {*hold, *measured, *reported}
    for dimension, amount in actual.items():
        stated = [each[dimension] for each in (measured, reported) if dimension in each]
        assert amount == (max(stated) if stated else hold[dimension])


def test_a_dimension_nobody_knows_is_not_booked() -> None:
    assert settle({}, Usage(reported={"bitcoin": 3})) == ({}, {})


def test_what_is_limited_and_not_held_counts_from_zero() -> None:
    used = {"tokens": 60, "cpu_ms": 5, "usd_micro": 1}
    assert excess({"tokens": 50}, used, {}) == {"tokens": 10}
    assert excess({"tokens": 50}, used, {"cpu_ms": 1000}) == {"tokens": 10, "cpu_ms": 5}
    assert excess({"tokens": 60}, used, {}) == {}


def test_a_limit_is_not_passed_unseen_by_asking_for_nothing() -> None:
    limit = {"usd_micro": 100, "tokens": 10}
    book = Book(proposal("a"), proposal("b"), limit=limit)
    book.finish(book.admit("a"), used={"usd_micro": 1, "tokens": 500})
    assert "budget.breached" in book.kinds()
    assert book.status("b") == "cancelled"


def test_usage_beyond_exact_integers_is_booked_up_to_them() -> None:
    lavish = policy(on_breach="pause", attempts=1)
    book = Book(proposal("a"), proposal("b"), limit={}, policy=lavish)
    first, second = book.admit("a"), book.admit("b")
    book.finish(first, used={"usd_micro": MAX_AMOUNT})
    book.finish(second, used={"usd_micro": MAX_AMOUNT})
    assert book.state.spent == {"usd_micro": MAX_AMOUNT}
    assert book.conclude().events[-1].KIND == "plan.completed"


@given(VECTORS, VECTORS)
def test_the_larger_of_two_statements_is_at_least_both(
    left: dict[str, int], right: dict[str, int]
) -> None:
    both = larger(left, right)
    assert all(both[name] >= amount for each in (left, right) for name, amount in each.items())
    assert set(both) == {*left, *right}


@pytest.mark.parametrize(
    ("cpu_ms", "gpu_ms", "expected"),
    [(0, 0, 0), (1, 0, 1), (3_600_000, 0, 4_000), (0, 3_600_000, 120_000), (3_601, 0, 5)],
)
def test_carbon_is_rounded_up(cpu_ms: int, gpu_ms: int, expected: int) -> None:
    watts = {"cpu": 10, "gpu": 300}
    assert carbon_mg(cpu_ms=cpu_ms, gpu_ms=gpu_ms, watts=watts, g_per_kwh=400) == expected


def _jittery(permille: int) -> Policy:
    retry = Retry(max_attempts=9, backoff_ms=(100, 400), jitter_permille=permille, retry_on=())
    return Policy(ref="p@1", on_refused="fail", on_breach="fail", lease_ms=1, retry=retry)


def test_later_attempts_wait_as_long_as_the_last_step() -> None:
    delays = [retry_delay_ms(_jittery(0), attempt=n, execution_id="x1") for n in (1, 2, 3, 9)]
    assert delays == [100, 400, 400, 400]


@given(st.text(max_size=30), st.integers(min_value=1, max_value=1000))
def test_jitter_depends_on_the_name_alone_and_stays_in_its_bounds(name: str, attempt: int) -> None:
    rules = _jittery(500)
    delay = retry_delay_ms(rules, attempt=attempt, execution_id=name)
    base = 100 if attempt == 1 else 400
    assert base <= delay <= base + base // 2
    assert delay == retry_delay_ms(rules, attempt=attempt, execution_id=name)


def test_jitter_separates_names() -> None:
    names = [f"x{n}" for n in range(50)]
    delays = {retry_delay_ms(_jittery(500), attempt=2, execution_id=name) for name in names}
    assert len(delays) > 20
