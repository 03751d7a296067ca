"""Whether a transition costs more in a plan that is already large: the first ones and the last.

    python -m benchmarks.growth --store memory --transitions 100000

All transitions are of one plan, some of them in flight at once; the cost is processor time of this
process over a window of transitions, so that other processes disturb it least.
"""

from __future__ import annotations

import asyncio
import gc
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from benchmarks.house import House, Store, open_house, verified
from benchmarks.measure import arguments, report, stores
from benchmarks.transitions import gated, listen, proposal
from theory_api.domain.commands import Proposal, ProposeTransition

WINDOW: Final = 1000
"""Transitions that one figure is taken over."""


class Line:
    """Transitions of one plan, each proposed as soon as one before it has succeeded."""

    def __init__(self, house: House, plan: str, like: Proposal, most: int) -> None:
        self._house = house
        self._plan = plan
        self._names: Iterator[Proposal] = (
            replace(like, transition=f"t{number:06d}") for number in range(most)
        )
        self._proposing: set[asyncio.Task[Any]] = set()
        self.done = 0
        self.burnt: list[float] = []
        """Processor seconds of every window so far."""

    def propose(self) -> None:
        """Propose the next one, if there is one."""
        for item in self._names:
            command = ProposeTransition(plan=self._plan, by="bench", proposal=item)
            task = asyncio.create_task(self._house.engine.submit(command))
            self._proposing.add(task)
            task.add_done_callback(self._proposing.discard)
            return

    async def run(self, parallel: int, most: int) -> None:
        """Until `most` have succeeded."""
        events = await listen(self._house, self._plan)
        began = time.process_time()
        for _ in range(parallel):
            self.propose()
        async for event in events:
            if event.kind == "transition.succeeded":
                self.done += 1
                self.propose()
                if self.done % WINDOW == 0:
                    now = time.process_time()
                    self.burnt.append(now - began)
                    began = now
                if self.done == most:
                    break
        await events.aclose()


async def run(store: Store, folder: Path, *, most: int, parallel: int) -> dict[str, Any]:
    """One plan from its first transition to its last; its ledger is verified afterwards."""
    last = f"t{most - 1:06d}"
    async with open_house(store, folder, parallel=parallel + 1, log_level="warning") as house:
        applied = await house.plans.apply(gated("grown", last), tenant="bench", by="bench")
        like = await proposal(house, last)
        line = Line(house, applied.plan, like, most)
        gc.collect()
        await line.run(parallel, most)
        await house.engine.wait(applied.plan)
        events = await verified(house.read, applied.plan)
    early, late = min(line.burnt[:3]), min(line.burnt[-3:])
    return {
        "store": store.kind,
        "transitions": most,
        "events_verified": len(events),
        "early_us": early / WINDOW * 1e6,
        "late_us": late / WINDOW * 1e6,
        "ratio": late / early,
    }


def main() -> None:
    """Measure as the command line says."""
    parser = arguments(__doc__)
    parser.add_argument("--transitions", type=int, default=20_000)
    parser.add_argument("--parallel", type=int, default=32)
    given = parser.parse_args()
    rows = []
    for store in stores(given):
        with tempfile.TemporaryDirectory() as folder:
            work = run(store, Path(folder), most=given.transitions, parallel=given.parallel)
            rows.append(asyncio.run(work))
    report("growth", rows, given.out)


if __name__ == "__main__":
    main()
