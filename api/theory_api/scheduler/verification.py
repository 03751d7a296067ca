"""Goes over all ledgers of a shard in the background, slowly, from their first bytes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

import structlog

from theory_api.ports.clock import Clock
from theory_api.ports.truth import PlanRow, ReadModel, StoredEvent
from theory_core import Report, TheoryError, verify

log = structlog.get_logger(__name__)

PAGE: Final = 250
"""Events read and verified at once."""

PLANS: Final = 100
"""Plans listed at once."""

SHARE: Final = 0.05
"""Of one processor's time, at most."""

REST_S: Final = 600.0
"""Between the end of one walk and the start of the next."""

Judge = Callable[[list[bytes], tuple[int, str] | None], Awaitable[Report]]


@dataclass(frozen=True, slots=True)
class Verified:
    """What a walk over all ledgers found."""

    age_s: float
    """Since its end."""
    plans: int
    events: int
    faults: tuple[str, ...]
    """Plans whose ledger is not what was written."""


async def in_a_thread(lines: list[bytes], before: tuple[int, str] | None) -> Report:
    """Verify exported lines beside the loop; the core lets others run meanwhile."""
    return await asyncio.to_thread(verify, lines, expect_prev=before)


class Verification:
    """Verifies ledger after ledger, again and again; finished plans too.

    Law: what it finds, it says, and the plan is set aside; it never changes anything. `mine` tells
    which plans are this process's to verify.
    """

    def __init__(
        self,
        read: ReadModel,
        clock: Clock,
        *,
        mine: Callable[[str], bool] = lambda _plan: True,
        judge: Judge = in_a_thread,
    ) -> None:
        self._read = read
        self._clock = clock
        self._mine = mine
        self._judge = judge
        self._newest: Verified | None = None
        self._ended = 0.0

    @property
    def newest(self) -> Verified | None:
        """The last walk that came to its end."""
        found = self._newest
        if found is None:
            return None
        age = self._clock.monotonic() - self._ended
        return Verified(age, found.plans, found.events, found.faults)

    async def run(self, on_fault: Callable[[str, TheoryError], None]) -> None:
        """Walk until cancelled; a store that is away ends a walk without a result."""
        while True:
            try:
                await self._walk(on_fault)
            except TheoryError as error:
                log.warning("verification.waits", code=error.code, reason=error.message)
            await self._clock.sleep(REST_S)

    async def _walk(self, on_fault: Callable[[str, TheoryError], None]) -> None:
        plans, events, after = 0, 0, ""
        faults: list[str] = []
        while rows := await self._read.plans(after=after, limit=PLANS):
            after = rows[-1].plan
            for row in rows:
                if not self._mine(row.plan):
                    continue
                plans += 1
                try:
                    events += await self._ledger(row)
                except TheoryError as error:
                    if error.code != "ERR_CHAIN_BROKEN":
                        raise
                    faults.append(row.plan)
                    on_fault(row.plan, error)
        self._newest = Verified(0.0, plans, events, tuple(faults))
        self._ended = self._clock.monotonic()
        log.info("ledgers.verified", plans=plans, events=events, faults=len(faults))

    async def _ledger(self, row: PlanRow) -> int:
        """Verify a ledger up to the head that the plan's row states; how many events it has."""
        before: tuple[int, str] | None = None
        seq, digest = 0, ""
        while seq < row.head_seq:
            began = self._clock.monotonic()
            page = await self._read.events(row.plan, after=seq, limit=min(PAGE, row.head_seq - seq))
            if not page:
                raise _broken(row.plan, seq + 1, "missing")
            report = await self._judge([line(event) for event in page], before)
            if report.fault is not None:
                raise _broken(row.plan, report.fault.seq or seq + 1, report.fault.reason)
            seq, digest = before = (page[-1].seq, page[-1].hash)
            spent = self._clock.monotonic() - began
            await self._clock.sleep(spent / SHARE)
        if digest != row.head_hash:
            raise _broken(row.plan, seq, "head")
        return seq


def line(event: StoredEvent) -> bytes:
    """One line of an export (spec: ledger, export)."""
    return b'{"event":%b,"hash":"%b"}\n' % (event.body, event.hash.encode())


def _broken(plan: str, seq: int, reason: str) -> TheoryError:
    message = f"event {seq} of {plan} does not verify: {reason}"
    return TheoryError("ERR_CHAIN_BROKEN", message, {"plan": plan, "seq": seq})
