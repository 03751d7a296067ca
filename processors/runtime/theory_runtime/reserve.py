"""The worker that waits for the next run, in a server whose runs come one at a time."""

import asyncio
import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from theory_runtime.child import Child
from theory_runtime.kin import Brood

_CONFIRM_S: Final = 5.0


class Reserve:
    """Has workers started, and where it `keeps` them, one ahead: a short run is mostly its start.

    Laws: one that waits does one run, as every other, and has read nothing of any before. It is
    started once everything of the last run is confirmed dead and its traces are removed, so that
    no run could ever touch it; while a run is at work, none waits.
    """

    def __init__(
        self,
        main_file: Path,
        run_dir: Path,
        brood: Brood,
        *,
        keeps: bool,
        way_out: Mapping[str, str] | None = None,
    ) -> None:
        self._main_file = main_file
        self._run_dir = run_dir
        self._brood = brood
        self._keeps = keeps
        self._way_out = way_out or {}
        self._changing = asyncio.Lock()
        self._waiting: Child | None = None
        self._at_work = 0

    @contextlib.contextmanager
    def at_work(self) -> Iterator[None]:
        """As long as a run is: from before its worker is taken until its traces are removed."""
        self._at_work += 1
        try:
            yield
        finally:
            self._at_work -= 1

    async def take(self) -> Child:
        """A worker without a job; raises `OSError` if none can be started."""
        async with self._changing:
            child, self._waiting = self._waiting, None
        if child is not None and child.exited.done():
            await _end(child)
            child = None
        return child or await self._start()

    async def fill(self) -> None:
        """Have one wait unless a run is at work; if none can be started, the next run says so."""
        async with self._changing:
            if self._keeps and self._at_work == 0 and self._waiting is None:
                with contextlib.suppress(OSError):
                    self._waiting = await self._start()

    def forgo(self) -> None:
        """Have none wait from now on: a run may have left something alive."""
        self._keeps = False

    async def close(self) -> None:
        """End the one that waits; there is no other."""
        self.forgo()
        async with self._changing:
            child, self._waiting = self._waiting, None
        if child is not None:
            await _end(child)

    async def _start(self) -> Child:
        return await Child.start(
            self._main_file, run_dir=self._run_dir, brood=self._brood, way_out=self._way_out
        )


async def _end(child: Child) -> None:
    await child.stop(grace_s=0, confirm_s=_CONFIRM_S)
    await child.bury(confirm_s=_CONFIRM_S)
    await child.close()
