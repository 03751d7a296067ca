"""What the orchestrator remembers of one execution outside truth, until it settled."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class Scratch(Protocol):
    """One durable note an execution: its outcome, written before the settle is proposed.

    Law: `load` returns either all of what `save` was given, or None.
    """

    async def save(self, execution_id: str, outcome: bytes) -> None:
        """Keep the outcome, atomically and durably; replaces an earlier one."""

    async def load(self, execution_id: str) -> bytes | None:
        """The outcome, or None."""

    async def names(self) -> tuple[str, ...]:
        """Executions that a note is kept of."""

    async def drop(self, execution_id: str) -> None:
        """Forget it; idempotent."""


class Keeping(Protocol):
    """Notes that are kept together with the artifacts that they name.

    Law: whoever finds the note finds all of them, after any crash.
    """

    async def keep(self, execution_id: str, outcome: bytes, named: Sequence[bytes]) -> None:
        """Store artifacts and the outcome, all of it durable on return, in one wait for a disk."""
