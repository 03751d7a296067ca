"""Places for executions: one number for all the schedulers of a process."""

from __future__ import annotations

from collections.abc import Callable, Collection
from itertools import islice


class Capacity:
    """Counts what runs in every scheduler that has seats here.

    Laws: while nobody starts anything when it is `crowded`, at most `most` executions run at once;
    whoever was called and left a place free calls the next, so no place stays empty while a plan
    waits for one, and a place that becomes free wakes one plan and not all.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._seats: list[Seats] = []
        self._waiting: dict[tuple[Seats, str], None] = {}

    def join(self, running: Collection[str], touch: Callable[[str], None]) -> Seats:
        """Count `running` from now on; `touch` is called with plans that waited for a place."""
        seats = Seats(self, running, touch)
        self._seats.append(seats)
        return seats

    def leave(self, seats: Seats) -> None:
        """Count them no longer; idempotent."""
        for waiting in [known for known in self._waiting if known[0] is seats]:
            del self._waiting[waiting]
        if seats in self._seats:
            self._seats.remove(seats)
            self.freed()

    @property
    def free(self) -> int:
        """How many places nobody has; less than none after `most` was passed by recovery."""
        return self._most - sum(len(seats.running) for seats in self._seats)

    def wait(self, seats: Seats, plan: str) -> None:
        """Have a plan called when a place becomes free."""
        self._waiting[seats, plan] = None

    def forget(self, seats: Seats, plan: str) -> None:
        """A plan waits no longer."""
        self._waiting.pop((seats, plan), None)

    def freed(self) -> None:
        """Call as many plans as places may be free, those first that have waited longest."""
        if self._waiting:
            for seats, plan in list(islice(self._waiting, max(self.free, 0))):
                del self._waiting[seats, plan]
                seats.touch(plan)


class Seats:
    """One scheduler's share in the places."""

    def __init__(
        self, capacity: Capacity, running: Collection[str], touch: Callable[[str], None]
    ) -> None:
        self._capacity = capacity
        self.running = running
        self.touch = touch

    def crowded(self, plan: str) -> bool:
        """Whether no place is free; the plan is looked at again when one may be."""
        if self._capacity.free > 0:
            return False
        self._capacity.wait(self, plan)
        return True

    def freed(self) -> None:
        """A place was given back, or not taken."""
        self._capacity.freed()

    def forget(self, plan: str) -> None:
        """A plan waits no longer."""
        self._capacity.forget(self, plan)

    def leave(self) -> None:
        """The scheduler has stopped: nothing of it runs any more."""
        self._capacity.leave(self)
