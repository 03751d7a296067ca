"""What an execution costs: from what was measured, reported or never learned, to what is booked."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b

from theory_api.domain.commands import Usage
from theory_api.domain.values import Basis, Policy
from theory_api.domain.vector import MAX_AMOUNT, dimensions

_MG_PER_UNIT = 3_600_000
"""ms x W x g/kWh to mg: / 1000 (s) / 3,600,000 (kWh) x 1000 (mg)."""


def settle(hold: Mapping[str, int], usage: Usage) -> tuple[dict[str, int], dict[str, Basis]]:
    """What is booked per dimension, and why it is that amount (spec: budgets).

    Law: not measured is not zero. Unknown usage is booked at the hold; where the processor states
    something else than was measured, the larger counts.
    """
    actual: dict[str, int] = {}
    basis: dict[str, Basis] = {}
    source: Basis
    for dimension in dimensions(hold, usage.measured, usage.reported):
        measured = usage.measured.get(dimension)
        reported = usage.reported.get(dimension)
        if measured is not None and (reported is None or reported <= measured):
            amount, source = measured, "measured"
        elif reported is not None:
            amount, source = reported, "reported"
        else:
            amount, source = hold[dimension], "hold"
        actual[dimension] = min(amount, MAX_AMOUNT)
        basis[dimension] = source
    return actual, basis


def booked(
    hold: Mapping[str, int], usage: Usage, spent: Mapping[str, int]
) -> tuple[dict[str, int], dict[str, Basis]]:
    """What is booked beside what is `spent`, and why.

    Law: what is spent stays an exact integer; usage beyond that is booked up to it.
    """
    used, basis = settle(hold, usage)
    return {
        dimension: min(amount, MAX_AMOUNT - spent.get(dimension, 0))
        for dimension, amount in used.items()
    }, basis


def left(
    hold: Mapping[str, int], actual: Mapping[str, int], limit: Mapping[str, int]
) -> dict[str, int]:
    """What a settled hold leaves, in every dimension that is held or limited.

    Law: a limited dimension that is not held leaves nothing.
    """
    return {
        dimension: max(hold.get(dimension, 0) - actual.get(dimension, 0), 0)
        for dimension in dimensions(hold, limit)
    }


def excess(
    hold: Mapping[str, int], actual: Mapping[str, int], limit: Mapping[str, int]
) -> dict[str, int]:
    """By how much `actual` passed the hold, in the dimensions that are held or limited.

    Law: an absent dimension is zero in an ask, so whatever is used of a limited one is beyond it.
    """
    return {
        dimension: actual[dimension] - hold.get(dimension, 0)
        for dimension in dimensions(hold, limit)
        if actual.get(dimension, 0) > hold.get(dimension, 0)
    }


def larger(left: Mapping[str, int], right: Mapping[str, int]) -> dict[str, int]:
    """Per dimension, the larger of two statements."""
    return {
        dimension: max(left.get(dimension, 0), right.get(dimension, 0))
        for dimension in dimensions(left, right)
    }


def carbon_mg(*, cpu_ms: int, gpu_ms: int, watts: Mapping[str, int], g_per_kwh: int) -> int:
    """Milligrams of CO2, rounded up, from declared watts of `cpu` and `gpu`."""
    watt_ms = cpu_ms * watts.get("cpu", 0) + gpu_ms * watts.get("gpu", 0)
    return -(-watt_ms * g_per_kwh // _MG_PER_UNIT)


def retry_delay_ms(policy: Policy, *, attempt: int, execution_id: str) -> int:
    """How long the next attempt waits: the policy's backoff, spread by a jitter of the id.

    The jitter is a function of the execution id, so that a decision stays a function of its input.
    """
    steps = policy.retry.backoff_ms
    base = steps[min(attempt, len(steps)) - 1]
    draw = int.from_bytes(blake2b(execution_id.encode(), digest_size=4).digest())
    spread = base * policy.retry.jitter_permille // 1000
    return base + (draw % (spread + 1))
