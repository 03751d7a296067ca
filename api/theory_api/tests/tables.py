"""What a long test tells of itself: what was tried, how often, what broke."""

from __future__ import annotations

from collections.abc import Callable, Iterable

Table = Callable[[str, Iterable[Iterable[object]]], None]
"""(title, rows), the first row the heads."""
