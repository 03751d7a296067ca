"""Folds in memory: they outlive a simulated crash beside the ledger that they belong to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from theory_api.ports.folds import Fold


class MemoryFolds:
    """Implements `theory_api.ports.folds.FoldStore` over a mapping that others may share."""

    def __init__(self, folds: dict[str, Fold]) -> None:
        self._folds = folds

    async def put(self, folds: Sequence[Fold]) -> None:
        """Keep folds."""
        self._folds.update({fold.plan: fold for fold in folds})

    async def newest(self, plans: Sequence[str]) -> Mapping[str, Fold]:
        """The folds of these plans."""
        return {plan: self._folds[plan] for plan in plans if plan in self._folds}

    async def drop(self, plans: Sequence[str]) -> None:
        """Forget folds."""
        for plan in plans:
            self._folds.pop(plan, None)
