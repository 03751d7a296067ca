"""Requests that carry a key: one effect, and the first answer to every repeat."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from theory_api.ports.truth import IdempotencyRow, TruthStore
from theory_api.scheduler.answer import Answer
from theory_api.scheduler.item import Item
from theory_core import TheoryError

TAKEN: Final = "ERR_IDEMPOTENCY_IN_FLIGHT"
"""What a store says of a key that another commit took first, and what a caller is told of one
that is in use here."""


class Once:
    """The keys that one writer has in use, and the store's answers to those of others."""

    def __init__(self, store: TruthStore) -> None:
        self._store = store
        self._used: set[tuple[str, str]] = set()

    def take(self, row: IdempotencyRow) -> None:
        """Use a key; raises `TheoryError` `ERR_IDEMPOTENCY_IN_FLIGHT` while it is in use."""
        if (row.scope, row.key) in self._used:
            raise TheoryError(TAKEN, "a request with this idempotency key is still running", {})
        self._used.add((row.scope, row.key))

    def free(self, row: IdempotencyRow) -> None:
        """Let a key go; idempotent."""
        self._used.discard((row.scope, row.key))

    async def answered(self, plan: str, row: IdempotencyRow) -> Answer | None:
        """The answer that the store holds for the key, or None.

        Raises `TheoryError` `ERR_IDEMPOTENCY_MISMATCH` for a key of another request, and what the
        store raises.
        """
        earlier = await self._store.idempotency(row.scope, row.key)
        if earlier is None:
            return None
        if earlier.body != row.body:
            message = "this idempotency key was used with another request"
            raise TheoryError("ERR_IDEMPOTENCY_MISMATCH", message, {})
        return Answer(plan, 0, replayed=earlier.answer)

    async def untaken(self, items: Sequence[Item]) -> list[Item]:
        """The items whose key nobody else has taken; the others are answered by the store."""
        rest = []
        for item in items:
            answer = None
            try:
                if item.idempotency is not None:
                    answer = await self.answered(item.command.plan, item.idempotency)
            except TheoryError as error:
                item.fail(error)
                continue
            if answer is None:
                rest.append(item)
            else:
                item.answer(answer)
        return rest
