"""Places for executions: one number for all the schedulers of a process."""

from __future__ import annotations

from collections.abc import Callable, Collection


class Capacity:
    """Counts what runs in every scheduler that has seats here.

    Law: while nobody starts anything when it is `crowded`, at most `most` executions run at once.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._seats: list[Seats] = []

    def join(self, running: Collection[str], touch: Callable[[str], None]) -> Seats:
        """Count `running` from now on; `touch` is called with plans that waited for a place."""
        seats = Seats(self, running, touch)
        self._seats.append(seats)
        return seats

    def leave(self, seats: Seats) -> None:
        """Count them no longer; idempotent."""
        if seats in self._seats:
            self._seats.remove(seats)
            self.freed()

    @property
    def full(self) -> bool:
        """Whether no place is free."""
        return sum(len(seats.running) for seats in self._seats) >= self._most

    def freed(self) -> None:
        """A place may be free: let everybody look who waits for one."""
        for seats in list(self._seats):
            seats.call()


class Seats:
    """One scheduler's share in the places, and its plans that wait for one."""

    def __init__(
        self, capacity: Capacity, running: Collection[str], touch: Callable[[str], None]
    ) -> None:
        self._capacity = capacity
        self._touch = touch
        self._waiting: dict[str, None] = {}
        self.running = running

    def crowded(self, plan: str) -> bool:
        """Whether no place is free; the plan is looked at again when one becomes free."""
        if not self._capacity.full:
            return False
        self._waiting[plan] = None
        return True

    def freed(self) -> None:
        """A place was given back."""
        self._capacity.freed()

    def forget(self, plan: str) -> None:
        """A plan waits no longer."""
        self._waiting.pop(plan, None)

    def call(self) -> None:
        """Touch every plan that waits."""
        waiting, self._waiting = self._waiting, {}
        for plan in waiting:
            self._touch(plan)

    def leave(self) -> None:
        """The scheduler has stopped: nothing of it runs any more."""
        self._waiting.clear()
        self._capacity.leave(self)
