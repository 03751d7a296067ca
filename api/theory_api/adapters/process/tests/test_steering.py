"""A run in a child process that stands still, and all that stands still with it."""

from __future__ import annotations

import asyncio
import contextlib
import time

import pytest

from theory_api.adapters.process.tests.conftest import Bench, until
from theory_api.ports.adapter import SteeringOp
from theory_core import TheoryError


async def begun(bench: Bench, tokens: int) -> None:
    enough = asyncio.to_thread(lambda: until(lambda: len(bench.frames) > tokens, within_s=30))
    assert await enough


async def steered(bench: Bench, op: SteeringOp) -> None:
    """Tell the run as a scheduler does: again, until it is there to be told."""
    for _ in range(200):
        with contextlib.suppress(TheoryError):
            await bench.adapter.steer("x1", op)
            return
        await asyncio.sleep(0.05)
    pytest.fail("never there")


async def test_a_run_that_stands_still_says_nothing_and_its_time_does_not_pass(
    bench: Bench,
) -> None:
    pace = {"do": "paced", "count": 40, "pause_s": 0.02}
    bench.adapter._pace = type(bench.adapter._pace)(health=bench.adapter._pace.health, overtime_s=1)
    running = asyncio.create_task(bench.run(pace, timeout_s=3))
    await begun(bench, 5)
    await steered(bench, "pause")
    await asyncio.sleep(0.3)
    heard, before = len(bench.frames), bench.adapter.measured("x1").usage
    await asyncio.sleep(5)
    assert len(bench.frames) == heard
    assert not running.done()
    after = bench.adapter.measured("x1").usage
    assert after["latency_ms"] - before["latency_ms"] > 4000
    await steered(bench, "resume")
    envelope = await running
    assert envelope["status"] == "success"
    assert bench.kinds().count("Token") == 40


async def test_a_run_that_stands_still_is_stopped_like_any_other(bench: Bench) -> None:
    running = asyncio.create_task(bench.run({"do": "paced", "count": 4000, "pause_s": 0.02}))
    await begun(bench, 5)
    await steered(bench, "pause")
    began = time.monotonic()
    assert await bench.adapter.cancel("x1")
    assert (await running)["error"]["code"] == "ERR_CANCELLED"
    assert bench.kin() == []
    assert time.monotonic() - began < 8
    await bench.adapter.steer("x1", "resume")


async def test_a_run_whose_child_is_not_there_yet_cannot_be_told_now(bench: Bench) -> None:
    running = asyncio.create_task(bench.run({"do": "paced", "count": 3, "pause_s": 0.01}))
    await asyncio.sleep(0)
    with pytest.raises(TheoryError) as caught:
        await bench.adapter.steer("x1", "pause")
    assert caught.value.code == "ERR_UNAVAILABLE"
    assert (await running)["status"] == "success"
    assert bench.adapter.steers == {"pause", "resume"}
