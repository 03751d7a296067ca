"""Keeps folds of open plans in the background, so that the next start has little to read."""

from __future__ import annotations

import asyncio
from typing import Final

import structlog

from theory_api.domain.encoding import size
from theory_api.ports.clock import Clock
from theory_api.ports.folds import Fold, FoldStore
from theory_api.scheduler.folding import Folded, Folding, freeze, freeze_slowly
from theory_api.scheduler.plans import Plans
from theory_api.scheduler.turns import Turn
from theory_api.scheduler.writer import Committed
from theory_core import TheoryError

log = structlog.get_logger(__name__)

SMALL: Final = 1_000
"""Entries of a state that is encoded in one go; what is larger is folded anew beside the writer."""

TOGETHER: Final = 16
"""Folds put into the store at once."""

WORTH: Final = 100
"""Events that are worth a fold when the scheduler stops."""

PATIENCE_S: Final = 5.0
"""For the folds of an orderly stop."""


class Keeper:
    """Watches commits and keeps a fold of each plan now and then.

    Laws: never inside an append, never in the way of one: no step of it takes the loop for longer
    than a small state's encoding; a fold that fails is a line in the log, and nothing is lost.
    """

    def __init__(
        self, folds: FoldStore, folding: Folding, plans: Plans, clock: Clock, *, every: int
    ) -> None:
        self._folds = folds
        self._folding = folding
        self._plans = plans
        self._clock = clock
        self._every = every
        self._due: dict[str, None] = {}
        self._ended: dict[str, None] = {}
        self._news = asyncio.Event()

    def committed(self, commit: Committed) -> None:
        """Look whether a plan is due."""
        if commit.state.terminal:
            self._due.pop(commit.plan, None)
            self._ended[commit.plan] = None
            self._news.set()
            return
        folded = self._plans.held(commit.plan)
        if folded is not None and folded.committed - folded.kept >= self._pause(folded):
            self._due[commit.plan] = None
            self._news.set()

    async def run(self) -> None:
        """Work until cancelled."""
        while True:
            await self._news.wait()
            self._news.clear()
            while self._due or self._ended:
                await self._turn()

    async def last(self) -> None:
        """The folds of an orderly stop, as many as there is patience for; no commit is under way.

        States that take long are left to the background, which kept one not long ago.
        """
        until = self._clock.monotonic() + PATIENCE_S
        worth = [
            plan
            for plan, folded in self._plans.folded.items()
            if folded.committed - folded.kept >= min(WORTH, self._every)
            and size(folded.state) <= SMALL
        ]
        for start in range(0, len(worth), TOGETHER):
            if self._clock.monotonic() >= until:
                return
            made = [self._at_once(plan) for plan in worth[start : start + TOGETHER]]
            await self._put([fold for fold in made if fold is not None])

    def _pause(self, folded: Folded) -> int:
        """Events between two folds: as many as a large state has entries, lest folds cost more."""
        entries = size(folded.state)
        return self._every if entries <= SMALL else max(self._every, entries)

    async def _turn(self) -> None:
        """A few plans that are due; those that have ended need no fold any more."""
        ended, self._ended = list(self._ended), {}
        if ended:
            await self._drop(ended)
        made: list[Fold] = []
        while self._due and len(made) < TOGETHER:
            plan = next(iter(self._due))
            del self._due[plan]
            fold = self._at_once(plan) or await self._beside(plan)
            if fold is not None:
                made.append(fold)
            await Turn()
        await self._put(made)

    def _at_once(self, plan: str) -> Fold | None:
        """The fold of a small state that the store holds all of."""
        folded = self._plans.held(plan)
        if folded is None or folded.committed != folded.state.seq or folded.state.terminal:
            return None
        return freeze(folded) if size(folded.state) <= SMALL else None

    async def _beside(self, plan: str) -> Fold | None:
        """A fold of what the store holds, made on a state of its own: nobody has to wait."""
        if self._plans.held(plan) is None:
            return None
        try:
            folded = await self._folding.plan(plan)
        except TheoryError as error:
            if error.code == "ERR_CHAIN_BROKEN":
                self._plans.set_aside(plan, error)
            else:
                log.warning("fold.unkept", plan=plan, code=error.code, reason=error.message)
            return None
        return None if folded.state.terminal else await freeze_slowly(folded)

    async def _put(self, made: list[Fold]) -> None:
        if not made:
            return
        try:
            await self._folds.put(made)
        except TheoryError as error:
            log.warning("fold.unkept", plans=len(made), code=error.code, reason=error.message)
            return
        for fold in made:
            folded = self._plans.held(fold.plan)
            if folded is not None:
                folded.kept = fold.seq

    async def _drop(self, plans: list[str]) -> None:
        try:
            await self._folds.drop(plans)
        except TheoryError as error:
            log.warning("fold.undropped", plans=len(plans), code=error.code, reason=error.message)
