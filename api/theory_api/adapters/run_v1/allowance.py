"""The time that an adapter gives a run, which stands still while the run does."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Final, Protocol

from theory_api.adapters.run_v1.calling import coded
from theory_api.adapters.run_v1.client import Dial, send_control
from theory_api.ports.adapter import SteeringOp
from theory_core import TheoryError

STEERS: Final = frozenset[SteeringOp]({"pause", "resume"})
"""What a runtime that is reached by `theory.run.v1` can be told."""


class Still(Protocol):
    """Something that passes while a run goes on, and only then."""

    def stand_still(self, *, still: bool) -> None:
        """Stand still, or go on; what does so already goes on doing so."""


class Allowance:
    """A context whose body is cut by `TimeoutError` once it took so long without standing still."""

    def __init__(self, seconds: float) -> None:
        self._left = seconds
        self._since: float | None = None
        self._still = False
        self._timeout = asyncio.timeout(None)

    async def __aenter__(self) -> None:
        """Begin to count, unless it stands still already."""
        await self._timeout.__aenter__()
        self._since = 0.0
        self._count()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Count no longer."""
        self._since = None
        await self._timeout.__aexit__(kind, error, trace)

    def stand_still(self, *, still: bool) -> None:
        """See `Still`; before its body and after it, it only remembers."""
        if still == self._still:
            return
        self._still = still
        if self._since is None or self._timeout.expired():
            return
        if still:
            self._left -= asyncio.get_running_loop().time() - self._since
            self._timeout.reschedule(None)
        else:
            self._count()

    def _count(self) -> None:
        if not self._still:
            self._since = asyncio.get_running_loop().time()
            self._timeout.reschedule(self._since + self._left)


async def steer(
    dial: Dial | str,
    execution_id: str,
    op: SteeringOp,
    *,
    within_s: float,
    moving: tuple[Still, ...],
) -> None:
    """Have a run stand still or go on, and with it what passes meanwhile.

    Raises `TheoryError` `ERR_UNAVAILABLE` where its server did not take that in time.
    """
    try:
        async with asyncio.timeout(within_s):
            await send_control(dial, execution_id, op)
    except (TheoryError, TimeoutError) as error:
        raise coded("ERR_UNAVAILABLE", f"the run cannot be told to {op} now") from error
    for one in moving:
        one.stand_still(still=op == "pause")
