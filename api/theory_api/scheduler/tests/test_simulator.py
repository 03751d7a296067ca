"""A few seeds of the simulator, the seeds of past bugs, and the loop that it stands on."""

from __future__ import annotations

import asyncio
import itertools
import json
import random
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest

from theory_api.scheduler.tests.simulator.chance import Chance, ViolationError
from theory_api.scheduler.tests.simulator.fleet import Fleet, differing, judged, quiet
from theory_api.scheduler.tests.simulator.loop import Owner, Simulation
from theory_api.scheduler.tests.simulator.model import Model, overlap

PINNED: list[dict[str, Any]] = json.loads(
    (Path(__file__).parent / "simulator" / "seeds.json").read_text(encoding="utf-8")
)


def loop(disorder: float = 0.0, turns: int = 10_000) -> Simulation:
    return Simulation(random.Random(1), disorder=disorder, turns=turns)  # noqa: S311 - repeatable


def run(simulated: Simulation, work: Coroutine[Any, Any, Any]) -> None:
    try:
        simulated.run_until_complete(work)
    finally:
        simulated.bury()


@pytest.mark.parametrize("seed", range(3))
def test_every_law_holds_in_a_seed(seed: int) -> None:
    with quiet():
        assert judged(seed).cause == ""


@pytest.mark.parametrize("pinned", PINNED, ids=lambda pinned: str(pinned["seed"]))
def test_a_bug_of_the_past_does_not_come_back(pinned: dict[str, Any]) -> None:
    with quiet():
        assert judged(pinned["seed"]).cause == "", pinned["cause"]


def test_a_seed_leaves_one_trace_however_texts_are_hashed() -> None:
    fleet = Fleet([11], jobs=2, twice=1)
    outcomes = list(fleet.outcomes())
    assert len(outcomes) == 2
    assert not any(outcome.cause for outcome in outcomes)
    assert not differing(outcomes)


def test_time_moves_to_the_next_timer_and_never_back() -> None:
    simulated, moments = loop(), list[float]()

    async def sleeper(seconds: float) -> None:
        await asyncio.sleep(seconds)
        moments.append(simulated.time())

    async def all_of_them() -> None:
        await asyncio.gather(*(sleeper(seconds) for seconds in (3600.0, 5.0, 86_400.0)))

    run(simulated, all_of_them())
    assert moments == [5.0, 3600.0, 86_400.0]


def test_the_dead_run_no_more_and_the_frozen_later() -> None:
    simulated, heard = loop(), list[str]()

    async def speaker(name: str) -> None:
        try:
            while True:
                await asyncio.sleep(10)
                heard.append(f"{name} {simulated.time():.0f}")
        finally:
            heard.append(f"{name} ends")

    async def director() -> None:
        dead, frozen = Owner("dead"), Owner("frozen")
        simulated.start(speaker("dead"), dead)
        simulated.start(speaker("frozen"), frozen)
        await asyncio.sleep(15)
        dead.alive = False
        simulated.freeze(frozen)
        await asyncio.sleep(30)
        assert heard == ["dead 10", "frozen 10"]
        simulated.thaw(frozen)
        await asyncio.sleep(12)
        assert heard[2:] == ["frozen 45", "frozen 55"]

    run(simulated, director())
    assert len(heard) == 6, "both are closed in the end"


@pytest.mark.parametrize(("disorder", "orders"), [(0.0, 1), (1.0, 6)])
def test_what_is_ready_runs_in_any_order_that_the_seed_draws(disorder: float, orders: int) -> None:
    seen = set[tuple[int, ...]]()

    async def all_of_them() -> None:
        order = list[int]()

        async def one(number: int) -> None:
            order.append(number)

        await asyncio.gather(*(one(number) for number in range(3)))
        seen.add(tuple(order))

    async def often() -> None:
        for _ in range(100):
            await all_of_them()

    run(loop(disorder), often())
    assert len(seen) == orders


def test_waiting_for_nothing_and_turning_for_ever_are_both_told() -> None:
    async def waits() -> None:
        await asyncio.get_running_loop().create_future()

    async def turns() -> None:
        for _ in itertools.count():
            await asyncio.sleep(0)

    with pytest.raises(RuntimeError, match="everything waits"):
        run(loop(), waits())
    with pytest.raises(TimeoutError, match="turned 10000 times"):
        run(loop(), turns())


def test_an_alarm_is_raised_even_where_somebody_swallows_the_error() -> None:
    chance, heard = Chance(1), list[str]()
    chance.alarm = heard.append
    with pytest.raises(ViolationError):
        chance.law(1 + 1 == 3, "sums")
    assert heard == ["sums"]


def test_write_sets_overlap_as_the_addresses_below_them_do() -> None:
    a, below = ("prefix", "/a/"), ("exact", "/a/b/")
    assert overlap([a], [below])
    assert overlap([below], [a])
    assert not overlap([("exact", "/a/")], [below])
    assert not overlap([("prefix", "/ab/")], [a])


def test_the_model_knows_no_event_before_the_plan() -> None:
    model = Model()
    model.read("plan.paused", {"by": "me", "reason": "x"})
    assert model.broken == ["plan.paused while absent"]
