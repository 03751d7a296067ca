"""Hints between schedulers that there is news somewhere."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol


class Signals(Protocol):
    """Topics, e.g. `plan /world/acme/p1`: ids only, never what the news is.

    Law: a hint may be lost, late or double. Whoever listens also looks from time to time without
    one, and nothing is correct because of a hint.
    """

    def send(self, *topics: str) -> None:
        """Tell every listener of every process, this one included, soon; never waits."""

    def listen(self, heard: Callable[[str], None]) -> Callable[[], None]:
        """Call `heard` with each topic from now on; the answer ends that."""

    async def close(self) -> None:
        """Close every connection; hints not sent yet may be lost."""
