"""What is left to chance in one seed: which fault, when; and the trace of what happened."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from typing import Final

from theory_core import Hasher, TheoryError

GAPS: Final = {
    "commit": 18,
    "truth": 80,
    "world": 250,
    "artifacts": 130,
    "scratch": 50,
    "report": 5,
    "invoke": 14,
    "adapter": 80,
    "run": 10,
}
"""Place -> operations between two faults there, on average."""

COMPANY: Final = 0.35
"""Share of faults that are soon followed by another one, somewhere."""


SCARCE: Final = (8, 5)
"""Seeds that leave 5 when divided by 8 are scarce ones; no draw decides that, so the others are as
they were before there were any."""


class ViolationError(AssertionError):
    """A law was broken: what the simulator looks for."""


class Chance:
    """Draws everything from one seed, counts faults by kind, and digests the trace."""

    def __init__(self, seed: int) -> None:
        self.draw = random.Random(seed)  # noqa: S311 - repeatable on purpose
        self.counts: Counter[str] = Counter()
        self.calm = False
        self.scarce = seed % SCARCE[0] == SCARCE[1]
        """Whether money is short, asks differ, and top-ups cross with refusals."""
        self.alarm: Callable[[str], None] = lambda _cause: None
        self._most = self.draw.randint(30, 100)
        self._trace = Hasher()
        self._until = {place: self._gap(gap) for place, gap in GAPS.items()}

    @property
    def faults(self) -> int:
        """Faults injected so far."""
        return self.counts.total()

    @property
    def digest(self) -> str:
        """Digest of the trace so far, and of every draw that led to it."""
        self._trace.update(repr(self.draw.getstate()[1]).encode())
        return self._trace.digest()

    def note(self, *facts: object) -> None:
        """Add a line to the trace."""
        self._trace.update("\t".join(str(fact) for fact in facts).encode() + b"\n")

    def fault(self, place: str, *kinds: str) -> str | None:
        """The fault that an operation at `place` meets, if it meets one."""
        if self.calm:
            return None
        self._until[place] -= 1
        if self._until[place] > 0:
            return None
        self._until[place] = self._gap(GAPS[place])
        kind = self.draw.choice(kinds)
        self.count(kind)
        return kind

    def count(self, kind: str) -> None:
        """Book a fault; after a drawn number of them it is calm."""
        self.note("fault", kind)
        self.counts[kind] += 1
        if self.counts.total() >= self._most:
            self.calm = True
        if self.draw.random() < COMPANY:
            self.soon(self.draw.choice(list(self._until)))

    def soon(self, place: str, *, within: int = 4) -> None:
        """Have the next fault at a place within its next operations."""
        self._until[place] = min(self._until[place], self.draw.randint(1, within))

    def law(self, holds: bool, otherwise: str) -> None:  # noqa: FBT001
        """Raise the alarm where a law is broken; whoever catches the error cannot stop that."""
        if not holds:
            self.alarm(otherwise)
            raise ViolationError(otherwise)

    async def lag(self, *, least: bool = False) -> None:
        """Take as long as an operation takes: often no turn of the loop, now and then seconds."""
        share = self.draw.random()
        if share > 0.96:
            await asyncio.sleep(self.draw.expovariate(0.5))
        elif share > 0.8:
            await asyncio.sleep(self.draw.expovariate(100))
        elif share > 0.5 or least:
            await asyncio.sleep(0)

    def _gap(self, mean: int) -> int:
        return 1 + int(self.draw.expovariate(1 / mean))


def unavailable(what: str) -> TheoryError:
    """A fault that may pass."""
    return TheoryError("ERR_UNAVAILABLE", f"{what} (simulated)", {})


def full(what: str) -> TheoryError:
    """A disk that takes no more for now."""
    return TheoryError("ERR_STORAGE", f"storage unavailable: {what} (simulated)", {})
