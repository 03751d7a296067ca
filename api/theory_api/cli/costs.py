"""Budget vectors as people read them: one column a dimension, each in its everyday unit."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

COLUMNS: Final[tuple[tuple[str, str, int, int], ...]] = (
    ("cpu_ms", "cpu s", 1000, 1),
    ("gpu_ms", "gpu s", 1000, 1),
    ("latency_ms", "wall s", 1000, 1),
    ("io_bytes", "io MB", 1_000_000, 2),
    ("tokens", "tokens", 1, 0),
    ("usd_micro", "usd", 1_000_000, 4),
    ("co2_mg", "co2 g", 1000, 3),
)
"""Dimension, heading, units of the ledger in one of the heading's, digits shown."""

SPOKEN: Final[Mapping[str, str]] = {
    "cpu_ms": "{} s of CPU",
    "gpu_ms": "{} s of GPU",
    "latency_ms": "{} s",
    "io_bytes": "{} MB",
    "tokens": "{} tokens",
    "usd_micro": "{} USD",
    "co2_mg": "{} g CO2",
}
"""An amount of a dimension in a sentence."""


def used(vectors: Iterable[Mapping[str, int]]) -> list[str]:
    """The dimensions that occur, in the order of the columns."""
    named = {dimension for vector in vectors for dimension in vector}
    return [dimension for dimension, *_ in COLUMNS if dimension in named]


def heading(dimension: str) -> str:
    """The heading of a dimension's column."""
    return next(title for name, title, _, _ in COLUMNS if name == dimension)


def amount(dimension: str, value: int | None) -> str:
    """A value in the heading's unit; a dash for what is not known or not limited."""
    if value is None:
        return "-"
    _, _, scale, digits = next(column for column in COLUMNS if column[0] == dimension)
    return f"{value / scale:.{digits}f}"


def sentence(vector: Mapping[str, int]) -> str:
    """A vector in one line, without the dimensions that are 0."""
    shown = [name for name in used([vector]) if vector[name]]
    return ", ".join(SPOKEN[name].format(amount(name, vector[name])) for name in shown) or "nothing"
