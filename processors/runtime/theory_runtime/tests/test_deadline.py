"""A deadline that stands still, on a clock that the test moves."""

from __future__ import annotations

from typing import Any

from theory_runtime.deadline import Deadline


class Timer:
    """One call to come."""

    def __init__(self, at: float) -> None:
        self.at: float | None = at

    def cancel(self) -> None:
        self.at = None


class Clockwork:
    """As much of an event loop as a deadline asks for."""

    def __init__(self) -> None:
        self.now = 0.0
        self.timers: list[Timer] = []

    def time(self) -> float:
        return self.now

    def call_later(self, seconds: float, _call: object) -> Timer:
        self.timers.append(Timer(self.now + seconds))
        return self.timers[-1]

    @property
    def due(self) -> list[float]:
        return [timer.at for timer in self.timers if timer.at is not None]


def test_only_time_in_which_it_did_not_stand_still_counts() -> None:
    loop: Any = Clockwork()
    deadline = Deadline(10, lambda: None, loop)
    assert loop.due == [10]
    loop.now = 4
    deadline.hold()
    assert loop.due == []
    loop.now = 100
    deadline.hold()
    deadline.go_on()
    deadline.go_on()
    assert loop.due == [106]
    deadline.end()
    deadline.end()
    assert loop.due == []
