"""Places for executions: those of a process, and among them what each processor declares."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from itertools import count
from typing import NamedTuple


class Pool(NamedTuple):
    """Executions of one processor on one adapter, and how many of them may run at once."""

    processor_ref: str
    adapter: str
    most: int
    """The spec's `runtime.concurrency`."""


class Capacity:
    """Counts what runs in every scheduler that has seats here.

    Laws: while nobody starts anything when it is `crowded` or its pool is `full`, at most `most`
    executions run at once, and of a processor on an adapter as many as it declares; whoever was
    called and left a place free calls the next, so no place stays empty while a plan waits for
    one, and a place that becomes free wakes one plan and not all.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._taken: Counter[tuple[str, str]] = Counter()
        self._queues: dict[Pool | None, dict[tuple[Seats, str], int]] = {}
        """Plans that wait for a place of a pool, or for any; each with its turn."""
        self._turns = count()

    def join(self, touch: Callable[[str], None]) -> Seats:
        """Seats for one more scheduler; `touch` is called with plans that waited for a place."""
        return Seats(self, touch)

    @property
    def free(self) -> int:
        """How many places nobody has; less than none after `most` was passed by recovery."""
        return self._most - self._taken.total()

    def room(self, pool: Pool) -> int:
        """How many more executions of a pool may run; less than none where recovery passed it.

        Pools of one processor that was declared in several ways count each other's executions.
        """
        return pool.most - self._taken[pool.processor_ref, pool.adapter]

    def note(self, kind: tuple[str, str], change: int) -> None:
        """Count an execution of a processor on an adapter that began, or one that ended."""
        self._taken[kind] += change
        if not self._taken[kind]:
            del self._taken[kind]

    def wait(self, seats: Seats, plan: str, pool: Pool | None = None) -> None:
        """Have a plan called when a place becomes free, one of a pool if that is given."""
        queue = self._queues.setdefault(pool, {})
        if (seats, plan) not in queue:
            queue[seats, plan] = next(self._turns)

    def forget(self, seats: Seats, plan: str) -> None:
        """A plan waits no longer."""
        for pool, queue in list(self._queues.items()):
            queue.pop((seats, plan), None)
            if not queue:
                del self._queues[pool]

    def leave(self, seats: Seats) -> None:
        """No plan of a scheduler waits any longer."""
        known = {key for queue in self._queues.values() for key in queue if key[0] is seats}
        for _, plan in known:
            self.forget(seats, plan)

    def freed(self) -> None:
        """Call as many plans as places may be free, those first that have waited longest."""
        if not self._queues:
            return
        left = self.free
        room = {pool: left if pool is None else self.room(pool) for pool in self._queues}
        due: dict[tuple[Seats, str], None] = {}
        while left > 0:
            heads = [
                (next(iter(queue.values())), pool)
                for pool, queue in self._queues.items()
                if room[pool] > 0
            ]
            if not heads:
                break
            _, pool = min(heads, key=lambda head: head[0])
            queue = self._queues[pool]
            called = next(iter(queue))
            del queue[called]
            if not queue:
                del self._queues[pool]
            due[called] = None
            room[pool] -= 1
            left -= 1
        for seats, plan in due:
            seats.touch(plan)


class Seats:
    """One scheduler's share in the places."""

    def __init__(self, capacity: Capacity, touch: Callable[[str], None]) -> None:
        self._capacity = capacity
        self._kinds: dict[str, tuple[str, str]] = {}
        self.touch = touch

    @property
    def running(self) -> frozenset[str]:
        """Executions that have a place."""
        return frozenset(self._kinds)

    def __contains__(self, execution_id: str) -> bool:
        """Whether an execution has a place."""
        return execution_id in self._kinds

    def take(self, execution_id: str, processor_ref: str, adapter: str) -> None:
        """Give an execution a place, whether or not one is free; idempotent."""
        if execution_id not in self._kinds:
            kind = self._kinds[execution_id] = (processor_ref, adapter)
            self._capacity.note(kind, 1)

    def free(self, execution_id: str) -> None:
        """Give a place back to whoever waits for one; idempotent."""
        kind = self._kinds.pop(execution_id, None)
        if kind is not None:
            self._capacity.note(kind, -1)
        self.freed()

    def crowded(self, plan: str) -> bool:
        """Whether no place is free; the plan is looked at again when one may be."""
        if self._capacity.free > 0:
            return False
        self._capacity.wait(self, plan)
        return True

    def full(self, plan: str, pool: Pool) -> bool:
        """Whether a pool has no place; the plan is looked at again when it may have one."""
        if self._capacity.room(pool) > 0:
            return False
        self._capacity.wait(self, plan, pool)
        return True

    def freed(self) -> None:
        """Places may be free: those who wait are called."""
        self._capacity.freed()

    def forget(self, plan: str) -> None:
        """A plan waits no longer."""
        self._capacity.forget(self, plan)

    def leave(self) -> None:
        """The scheduler has stopped: nothing of it runs any more."""
        for kind in self._kinds.values():
            self._capacity.note(kind, -1)
        self._kinds.clear()
        self._capacity.leave(self)
        self.freed()
