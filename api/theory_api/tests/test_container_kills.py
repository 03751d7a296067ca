"""Runs whose workers, supervisors and containers are killed, again and again: nothing is left."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from theory_api.adapters.run_v1.places import home_name, runtime_root
from theory_api.tests.engine import connected, left
from theory_api.tests.kept import Heard, exported, ground, one, opened
from theory_api.tests.tables import Table
from theory_api.tests.test_containers import world
from theory_api.tests.transports import short_folder
from theory_core import loads_strict, verify

KILLS = max(1, int(os.environ.get("THEORY_KILLS", "20")) // 2)
EARLY_S = 2.0
"""About as long as a container takes to its first token."""
LATE_S = 1.4
"""Most of what a run takes from there."""
PACE = {"do": "paced", "count": 30, "pause_s": 0.05}
VICTIMS = ("init", "supervisor", "worker", "guard", "container")
"""The line of processes in a container, each below the one before, and all of it at once."""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300 + 60 * KILLS)]


def descent(told: Mapping[str, Any]) -> list[int]:
    """The processes of a container as the machine numbers them, each the child of the one before.

    The last of them looks after a worker, and ends with it.
    """
    mine, above = told["Titles"].index("PID"), told["Titles"].index("PPID")
    child = {int(process[above]): int(process[mine]) for process in told["Processes"]}
    (at,) = set(child) - set(child.values())
    line = []
    while at in child:
        at = child[at]
        line.append(at)
    return line


def strike(client: Any, home: Path, name: str, victim: str) -> bool:  # noqa: ANN401 - of the SDK
    """Kill a part of the run by SIGKILL from outside; whether it was there."""
    import docker  # noqa: PLC0415 - only these tests need it

    wanted = {"label": [f"theory.home={home_name(home)}", f"theory.execution={name}"]}
    try:
        for container in client.containers.list(filters=wanted, ignore_removed=True):
            if victim == "container":
                container.kill("SIGKILL")
                return True
            line = descent(container.top())
            if len(line) > VICTIMS.index(victim):
                os.kill(line[VICTIMS.index(victim)], signal.SIGKILL)
                return True
    except (docker.errors.APIError, ProcessLookupError):
        # It has just ended by itself.
        pass
    return False


@pytest.mark.scenario(84)
async def test_runs_that_are_killed_at_random_leave_no_container_and_no_hold(
    tmp_path: Path, draw: random.Random, table: Table
) -> None:
    """Some kills come too early or too late to be noticed: they count, and must do no harm."""
    struck: Counter[tuple[str, str, int]] = Counter()
    with contextlib.ExitStack() as stack:
        client = stack.enter_context(contextlib.closing(connected()))
        folder = stack.enter_context(short_folder())
        place = stack.enter_context(ground(tmp_path))
        home = folder / "home"
        before = await asyncio.to_thread(world, client, home)
        async with opened("local", place, folder) as (services, heard):
            for number in range(KILLS):
                name, victim = f"k{number}", draw.choice(VICTIMS)
                running = asyncio.create_task(one(services, "local", name, PACE))
                late, moment = draw.random() < 0.6, draw.random()
                if late:
                    await at_work(heard, name, running)
                await asyncio.sleep(moment * (LATE_S if late else EARLY_S))
                hit = False
                while not hit and not running.done():
                    hit = await asyncio.to_thread(strike, client, home, name, victim)
                envelope = loads_strict(await running)
                code = envelope.get("error", {}).get("code", "success")
                attempts = judge(await exported(services, name), name)
                struck[victim if hit else "nothing", code, attempts] += 1
                shown = await services.queries.show(f"/world/local/run-{name}")
                assert {line.reserved for line in shown.budget} == {0}, name
                assert left(client, home_name(home)) == [], name
        assert not runtime_root(home, "d").exists()
        now = await asyncio.to_thread(world, client, home)
        assert {name: now[name] - before[name] for name in now} == {kind: set() for kind in now}
    assert {victim for victim, _, _ in struck} & {*VICTIMS}
    rows = [(*facts, count) for facts, count in sorted(struck.items())]
    heads = ("killed", "ended", "attempts", "runs")
    table("Runs whose parts were killed", [heads, *rows])


async def at_work(heard: Heard, name: str, running: asyncio.Task[bytes]) -> None:
    """Wait until the run has said something, or has ended without."""
    while len(heard.frames.get(name, [])) < 2 and not running.done():  # noqa: ASYNC110 - of a list
        await asyncio.sleep(0.02)


def judge(export: bytes, name: str) -> int:
    """Law: one end of the plan and of each execution, and nothing held that was not settled.

    How many attempts there were.
    """
    assert verify(export, laws=True).fault is None, name
    kinds = [loads_strict(line)["event"]["kind"] for line in export.splitlines()]
    assert kinds[-1] in {"plan.completed", "plan.failed"}, name
    ends = [kind for kind in kinds if kind in {"execution.succeeded", "execution.failed"}]
    assert len(ends) == kinds.count("execution.started") > 0, name
    assert kinds.count("budget.reserved") == kinds.count("budget.settled") == len(ends), name
    return len(ends)
