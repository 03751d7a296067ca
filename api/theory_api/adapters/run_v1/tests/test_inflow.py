"""How fast frames are taken, by a clock that stands still but for the waiting."""

from __future__ import annotations

import pytest

from theory_api.adapters.run_v1.inflow import (
    BURST_S,
    BYTES_PER_S,
    FRAMES_PER_S,
    TURN_S,
    Inflow,
)


class Time:
    """A clock that only waiting moves."""

    def __init__(self) -> None:
        self.now = 1_000.0
        self.turns = 0

    def clock(self) -> float:
        return self.now

    async def sleep(self, duration_s: float) -> None:
        self.turns += 1
        self.now += duration_s


def inflow(time: Time) -> Inflow:
    return Inflow(clock=time.clock, sleep=time.sleep)


@pytest.mark.parametrize(
    ("size_bytes", "times", "worth_s"),
    [(0, 50_000, 50_000 / FRAMES_PER_S), (1 << 20, 512, 512 * (1 << 20) / BYTES_PER_S)],
)
async def test_a_flood_takes_as_long_as_it_is_worth(
    size_bytes: int, times: int, worth_s: float
) -> None:
    time, begun = Time(), 1_000.0
    flow = inflow(time)
    for _ in range(times):
        await flow.took(size_bytes)
    assert worth_s - BURST_S - 2 * TURN_S <= time.now - begun
    assert time.now - begun <= worth_s - BURST_S + times / FRAMES_PER_S


async def test_who_stays_below_the_rate_never_waits_whatever_came_before() -> None:
    time = Time()
    flow = inflow(time)
    for _ in range(20_000):
        await flow.took(100)
    time.now += BURST_S
    for _ in range(20_000):
        before = time.now
        await flow.took(100)
        assert time.now == before
        time.now += 2 / FRAMES_PER_S


async def test_a_burst_after_silence_waits_for_nobody_and_still_gives_turns() -> None:
    time = Time()
    flow = inflow(time)
    time.now += 3_600
    many = int(BURST_S * FRAMES_PER_S)
    for _ in range(many):
        await flow.took(0)
    assert time.now == pytest.approx(4_600, abs=TURN_S)
    assert time.turns == pytest.approx(many / (TURN_S * FRAMES_PER_S), abs=1)
