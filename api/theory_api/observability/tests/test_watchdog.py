"""A loop that stands still is told, while it does, and is not ready for a while after."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time

import pytest
from structlog.testing import capture_logs

from theory_api.observability.watchdog import Watchdog


class Clock:
    """Stands still until the test moves it."""

    def __init__(self) -> None:
        self.time = 100.0

    def __call__(self) -> float:
        return self.time


def unready(dog: Watchdog) -> bool:
    fault = dog.fault()
    return fault is not None and fault.code == "ERR_UNAVAILABLE"


@pytest.mark.scenario(16)
def test_a_loop_that_stands_still_for_5_s_is_told_once_and_not_ready_until_it_keeps_time() -> None:
    clock = Clock()
    dog = Watchdog(clock=clock)
    with capture_logs() as lines:
        clock.time += 5.0
        dog.look()
        assert (lines, unready(dog)) == ([], False)
        clock.time += 0.1
        dog.look()
        dog.look()
        assert unready(dog)
        clock.time += 1.0
        dog.beat()
        for _ in range(9):
            assert unready(dog), "it stood still a moment ago"
            clock.time += 0.5
            dog.beat()
        clock.time += 0.5
        assert not unready(dog)
    assert [line["event"] for line in lines] == ["loop.blocked", "loop.freed"]
    assert (lines[0]["stands_s"], lines[1]["stood_s"]) == (5.1, 6.1)


@pytest.mark.scenario(16)
async def test_the_log_names_the_function_in_which_a_loop_stands_still_while_it_does() -> None:
    dog = Watchdog(limit_s=0.1, beat_s=0.02)
    running = asyncio.create_task(dog.run())
    await asyncio.sleep(0.05)
    told = threading.Event()

    def busy_with_something() -> None:
        until = time.monotonic() + 20
        while not told.is_set() and time.monotonic() < until:
            time.sleep(0.01)
            if any(line["event"] == "loop.blocked" for line in lines):
                told.set()

    with capture_logs() as lines:
        busy_with_something()
        assert told.is_set(), "the thread said so while the loop stood still"
    blocked = next(line for line in lines if line["event"] == "loop.blocked")
    assert any("busy_with_something" in call for call in blocked["where"])
    assert not any("/" in call for call in blocked["where"])
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running
