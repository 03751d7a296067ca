"""The time that a run may take here stands still while the run does."""

from __future__ import annotations

import asyncio

import pytest

from theory_api.adapters.memory.artifacts import MemoryArtifacts
from theory_api.adapters.memory.intakes import MemoryIntakes
from theory_api.adapters.run_v1.allowance import Allowance, steer
from theory_api.adapters.run_v1.gateway import Gateway
from theory_core import TheoryError

NEVER_S = 30.0


async def test_what_takes_too_long_is_cut() -> None:
    with pytest.raises(TimeoutError):
        async with Allowance(0.01):
            await asyncio.sleep(NEVER_S)


async def test_time_stands_still_and_goes_on_from_where_it_stood() -> None:
    allowance, loop = Allowance(0.2), asyncio.get_running_loop()
    began = loop.time()

    async def stand_and_go_on() -> None:
        async with allowance:
            allowance.stand_still(still=True)
            allowance.stand_still(still=True)
            await asyncio.sleep(0.4)
            allowance.stand_still(still=False)
            await asyncio.sleep(NEVER_S)

    with pytest.raises(TimeoutError):
        await stand_and_go_on()
    assert loop.time() - began > 0.55


async def test_one_that_stood_still_before_it_began_waits_for_the_word() -> None:
    allowance = Allowance(0.01)
    allowance.stand_still(still=True)

    async def go_on() -> None:
        async with allowance:
            await asyncio.sleep(0.1)
            allowance.stand_still(still=False)
            await asyncio.sleep(NEVER_S)

    with pytest.raises(TimeoutError):
        await go_on()
    allowance.stand_still(still=True)


async def test_a_door_takes_things_for_as_long_as_its_run_stood_still() -> None:
    now = [0.0]
    intakes = MemoryIntakes(MemoryArtifacts())
    gateway = Gateway("x1", intakes, expires_in_s=10, clock=lambda: now[0])
    for still, at in ((True, 4.0), (True, 50.0), (False, 100.0), (False, 101.0)):
        now[0] = at
        gateway.stand_still(still=still)
        gateway._check("ERR_UPLOAD")
    now[0] = 105.9
    gateway._check("ERR_UPLOAD")
    now[0] = 106.1
    with pytest.raises(TheoryError):
        gateway._check("ERR_UPLOAD")


async def test_a_server_that_is_not_there_cannot_be_told_now_and_nothing_stands_still() -> None:
    allowance = Allowance(0.05)

    async def be_told() -> None:
        async with allowance:
            with pytest.raises(TheoryError, match="cannot be told to pause now") as caught:
                await steer("/nowhere.sock", "x1", "pause", within_s=1, moving=(allowance,))
            assert caught.value.code == "ERR_UNAVAILABLE"
            await asyncio.sleep(NEVER_S)

    with pytest.raises(TimeoutError):
        await be_told()
