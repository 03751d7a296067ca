"""A command in the inbox of a writer, and who waits for its answer."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from theory_api.domain.commands import Command
from theory_api.ports.truth import IdempotencyRow
from theory_api.scheduler.answer import Answer
from theory_core import TheoryError


@dataclass(slots=True, eq=False)
class Item:
    """A command in the inbox."""

    command: Command
    idempotency: IdempotencyRow | None
    future: asyncio.Future[Answer]

    def answer(self, answer: Answer) -> None:
        """Tell the caller, unless it left."""
        if not self.future.done():
            self.future.set_result(answer)

    def fail(self, error: TheoryError) -> None:
        """Tell the caller, unless it left."""
        if not self.future.done():
            self.future.set_exception(error)
            self.future.exception()  # A caller that left does not make it an unhandled error.
