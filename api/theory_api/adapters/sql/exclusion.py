"""What keeps a second process from writing to the same database file."""

from __future__ import annotations

from typing import Protocol


class Exclusion(Protocol):
    """A lock that dies with its process.

    Law: at most one holder on the machine, and only the holder opens a connection that writes;
    SQLite before 3.51.3 can lose its log when two connections write and checkpoint.
    """

    def acquire(self) -> None:
        """Take it; `TheoryError` `ERR_NOT_WRITER` names the holder, `ERR_STORAGE`."""

    def release(self) -> None:
        """Let it go; idempotent."""
