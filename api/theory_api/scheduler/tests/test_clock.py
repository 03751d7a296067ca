"""A clock on the wall that jumps: order, leases and delays do not notice."""

from __future__ import annotations

from typing import Any

import pytest

from theory_api.scheduler.tests import bench
from theory_api.scheduler.tests.bench import House, data_of, step
from theory_api.scheduler.tests.processors import badly, well
from theory_core import canonicalize, loads_strict, verify


async def run(house: House) -> tuple[str, list[str]]:
    """A plan with a retry, a dependency and a wait for a place; its path and its kinds."""
    house.processors.behaviours["once"] = [badly, well]
    steps = {"a": step("once"), "b": step(depends_on=["a"]), "c": step(), "d": step()}
    plan = await house.apply(steps)
    assert await house.ended(plan) == "completed"
    return plan, await house.kinds(plan)


@pytest.mark.scenario(7)
async def test_a_wall_clock_that_jumps_a_decade_ahead_and_an_hour_back_changes_no_decision(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with House(parallel=2) as quiet:
        _, expected = await run(quiet)
        calm = quiet.clock.time
    jumps = ["2026-11-21T04:25:00.000001Z", "2036-11-21T04:25:00.000000Z"]
    jumps += ["2036-11-21T03:25:00.000000Z", "2026-11-21T04:24:59.999999Z"]
    told = iter(jumps * 1000)
    monkeypatch.setattr(bench.Clock, "now", lambda _clock: next(told))
    async with House(parallel=2) as house:
        plan, kinds = await run(house)
        assert kinds == expected
        assert house.clock.time == calm, "delays and deadlines run on the other clock"
        stored = await house.reads.events(plan, limit=10_000)
        ats = [event.at for event in stored]
        assert ats == sorted(ats)
        assert ats[-1] == jumps[1], "it is held where it was furthest"
        assert [event.seq for event in stored] == list(range(1, len(stored) + 1))
        lines = [
            canonicalize({"event": loads_strict(one.body), "hash": one.hash}) for one in stored
        ]
        assert verify(lines).fault is None
        ended: list[Any] = await data_of(house, plan, "execution.succeeded")
        ended += await data_of(house, plan, "execution.failed")
        assert all(data["duration_ms"] >= 0 for data in ended)
        leases = [kind for kind in kinds if kind.startswith("lease.")]
        assert leases.count("lease.acquired") == leases.count("lease.released") == 5
