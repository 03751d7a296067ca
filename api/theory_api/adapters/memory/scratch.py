"""Notes of unfinished executions in memory."""

from __future__ import annotations

from theory_core import TheoryError, is_name


class MemoryScratch:
    """Implements `theory_api.ports.scratch.Scratch`; `notes` outlives a simulated crash."""

    def __init__(self) -> None:
        self.notes: dict[str, bytes] = {}

    async def save(self, execution_id: str, outcome: bytes) -> None:
        """Keep the outcome; replaces an earlier one."""
        self.notes[_named(execution_id)] = outcome

    async def load(self, execution_id: str) -> bytes | None:
        """The outcome, or None."""
        return self.notes.get(_named(execution_id))

    async def names(self) -> tuple[str, ...]:
        """Executions that a note is kept of."""
        return tuple(sorted(self.notes))

    async def drop(self, execution_id: str) -> None:
        """Forget it; idempotent."""
        self.notes.pop(_named(execution_id), None)


def _named(execution_id: str) -> str:
    if not is_name(execution_id):
        raise TheoryError("ERR_INPUTS", "an execution id is a name", {"reason": "name"})
    return execution_id
