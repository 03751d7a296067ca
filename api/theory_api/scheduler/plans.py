"""The folded plans of one shard: which are held, which are set aside, what was acknowledged."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable

import structlog

from theory_api.ports.truth import TruthStore
from theory_api.scheduler.folding import Folded, Folding
from theory_core import TheoryError

log = structlog.get_logger(__name__)


class Plans:
    """What a writer knows by heart.

    Laws: a plan is folded once at a time, two folds of it would write against each other; a plan
    that is set aside is never handed out; a store that lost what it acknowledged is not believed.
    """

    def __init__(
        self,
        store: TruthStore,
        folding: Folding,
        on_aside: Callable[[str], None] = lambda _plan: None,
    ) -> None:
        """`on_aside` hears of every plan that is set aside."""
        self.folded: dict[str, Folded] = {}
        self.aside: dict[str, TheoryError] = {}
        """Plans whose ledger is not what was written, and why."""
        self._store = store
        self._folding = folding
        self._on_aside = on_aside
        self._one_at_a_time = asyncio.Lock()
        self._known: dict[str, tuple[int, str]] = {}

    async def get(self, plan: str) -> Folded:
        """The plan, from the store if need be.

        Raises `TheoryError`: `ERR_CHAIN_BROKEN` for one that is set aside, now or before;
        `ERR_CHAIN_REGRESSION` for a store behind what it acknowledged; `ERR_UNAVAILABLE`.
        """
        async with self._one_at_a_time:
            if plan in self.aside:
                raise self.aside[plan]
            folded = self.folded.get(plan)
            if folded is None:
                try:
                    folded = await self._folding.plan(plan)
                except TheoryError as error:
                    if error.code == "ERR_CHAIN_BROKEN":
                        self.set_aside(plan, error)
                    raise
                await self._check_known(folded)
                self.folded[plan] = folded
            return folded

    def held(self, plan: str) -> Folded | None:
        """The plan, if it is held and trusted."""
        return None if plan in self.aside else self.folded.get(plan)

    def adopt(self, folded: Folded) -> None:
        """Take a plan that was folded from the same store and is not held yet."""
        self.folded.setdefault(folded.state.plan, folded)

    def set_aside(self, plan: str, fault: TheoryError) -> None:
        """Hand the plan out no more; its ledger stays as it is, for people to look at."""
        if plan not in self.aside:
            self.aside[plan] = fault
            failure, detail = "error." + fault.code, fault.detail or {}
            log.error(failure, plan=plan, seq=detail.get("seq"), reason=fault.message)
            self._on_aside(plan)

    async def trusting(self, plan: str, work: Callable[[], Awaitable[None]]) -> None:
        """Do `work`; a fault of it is only this plan's own once the plan is set aside."""
        try:
            await work()
        except TheoryError as error:
            if plan not in self.aside:
                raise
            log.warning("plan.left", plan=plan, code=error.code, reason=error.message)

    def forget(self, plans: Iterable[str]) -> None:
        """Fold these anew when they are asked for; what was acknowledged of them stays known."""
        for plan in plans:
            folded = self.folded.pop(plan, None)
            if folded is not None and folded.committed:
                self._known[plan] = (folded.committed, folded.hash)

    async def _check_known(self, folded: Folded) -> None:
        plan = folded.state.plan
        seq, digest = self._known.get(plan, (0, ""))
        if seq and (seq, digest) != (folded.committed, folded.hash):
            there = await self._store.events(plan, after=seq - 1, limit=1)
            if not there or there[0].hash != digest:
                raise regression(plan, seq, folded.committed)
        self._known.pop(plan, None)


def regression(plan: str, known: int, found: int) -> TheoryError:
    """A ledger that is behind what was known of it, or has another event there."""
    has = f"ends at event {found}" if found < known else "has another one there"
    message = f"ledger is behind its last known head: {plan} had event {known}, and now {has}"
    detail = {"plan": plan, "known": known, "found": found}
    return TheoryError("ERR_CHAIN_REGRESSION", message, detail)
