"""Gives everybody else a turn of the loop: no time is asked for, so no clock is needed."""

from __future__ import annotations

from collections.abc import Generator


class Turn:
    """Awaited, it lets every task that is ready go first."""

    def __await__(self) -> Generator[None, None, None]:
        """Suspend once."""
        yield
