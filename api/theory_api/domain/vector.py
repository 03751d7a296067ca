"""Budget vectors: integers by dimension, added and compared without surprises."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from theory_core import TheoryError

DIMENSIONS: Final = (
    "usd_micro",
    "cpu_ms",
    "gpu_ms",
    "io_bytes",
    "co2_mg",
    "tokens",
    "latency_ms",
)
"""Every budget dimension, unit last (spec: budgets)."""

MAX_AMOUNT: Final = 2**53 - 1
"""The largest amount, and the largest sum, that a ledger can state exactly."""

Vector = Mapping[str, int]
"""Dimension -> amount; an absent dimension is zero in an ask, and unlimited in a limit."""


def checked(amounts: Mapping[str, object], *, place: str) -> dict[str, int]:
    """`amounts` as a vector.

    Raises `TheoryError` `ERR_PLAN_INVALID` for an unknown dimension, a negative, too large or
    non-integer amount, naming `place`.
    """
    vector: dict[str, int] = {}
    for dimension, amount in amounts.items():
        if dimension not in DIMENSIONS:
            known = ", ".join(DIMENSIONS)
            message = f"{place}: unknown budget dimension; known are {known}"
            raise TheoryError("ERR_PLAN_INVALID", message, {"place": place})
        if type(amount) is not int or not 0 <= amount <= MAX_AMOUNT:
            message = f"{place}.{dimension}: must be an integer from 0 to 2^53-1"
            raise TheoryError("ERR_PLAN_INVALID", message, {"place": f"{place}.{dimension}"})
        vector[dimension] = amount
    return vector


def add(left: Vector, right: Vector) -> dict[str, int]:
    """The sum per dimension; raises `ERR_BUDGET_EXCEEDED` rather than leave the exact range."""
    total = dict(left)
    for dimension, amount in right.items():
        total[dimension] = total.get(dimension, 0) + amount
        if total[dimension] > MAX_AMOUNT:
            message = f"budget exceeded: {dimension} would pass the largest exact integer"
            raise TheoryError("ERR_BUDGET_EXCEEDED", message, {"dimension": dimension})
    return total


def subtract(left: Vector, right: Vector) -> dict[str, int]:
    """The difference per dimension; may be negative, which the laws of the caller forbid."""
    rest = dict(left)
    for dimension, amount in right.items():
        rest[dimension] = rest.get(dimension, 0) - amount
    return rest


def dimensions(*vectors: Vector) -> list[str]:
    """Every dimension that one of `vectors` names, in the order of `DIMENSIONS`."""
    named = set[str]().union(*vectors)
    return [dimension for dimension in DIMENSIONS if dimension in named]
