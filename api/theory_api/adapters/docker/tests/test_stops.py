"""How a run in a container ends that does not end by itself, and what owners that die leave."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from theory_api.adapters.docker.engine import Engine
from theory_api.adapters.docker.images import Images
from theory_api.adapters.docker.tests.conftest import ARCH, Bench, adapter_of
from theory_api.adapters.docker.tests.test_runs import code
from theory_api.adapters.memory.artifacts import MemoryArtifacts
from theory_api.adapters.memory.intakes import MemoryIntakes
from theory_api.ports.adapter import Standing
from theory_core import TheoryError

pytestmark = pytest.mark.timeout(180)


async def started(bench: Bench, params: Mapping[str, Any]) -> asyncio.Task[dict[str, Any]]:
    """A run whose provider is at work."""
    run = asyncio.create_task(bench.run(params))
    until = time.monotonic() + 60
    while "Event" not in bench.kinds():
        assert not run.done(), run.result()
        assert time.monotonic() < until
        await asyncio.sleep(0.05)
    return run


@pytest.mark.parametrize("deed", ["sleep", "deaf", "locked"])
async def test_a_cancelled_run_is_gone_when_it_says_so(bench: Bench, deed: str) -> None:
    run = await started(bench, {"do": deed})
    assert await bench.adapter.cancel("x1")
    assert run.done() or code(await run) == "ERR_CANCELLED"
    assert code(await run) == "ERR_CANCELLED"
    assert await bench.adapter.standing("x1") is Standing.GONE
    usage = bench.adapter.measured("x1").usage
    assert usage["cpu_ms"] > 0
    assert usage["latency_ms"] < 60_000


async def test_the_door_of_a_run_has_an_end_and_is_shut_by_a_cancel(bench: Bench) -> None:
    run = await started(bench, {"do": "sleep"})
    door = bench.adapter._live["x1"].door
    assert door is not None
    assert door._until < time.monotonic() + 60 + 8
    door._check("ERR_UPLOAD", "outputs/a")
    assert await bench.adapter.cancel("x1")
    with pytest.raises(TheoryError, match="ERR_UPLOAD"):
        door._check("ERR_UPLOAD", "outputs/a")
    await run


async def test_a_run_beyond_its_time_ends_with_its_code(bench: Bench) -> None:
    assert code(await bench.run({"do": "sleep"}, timeout_s=1)) == "ERR_TIMEOUT"


async def test_a_container_that_somebody_kills_is_no_memory_fault(bench: Bench) -> None:
    run = await started(bench, {"do": "sleep"})
    bench.container().kill()
    assert code(await run) == "ERR_INTERNAL"


async def test_a_container_that_is_stopped_while_it_does_not_answer_is_confirmed_gone(
    bench: Bench,
) -> None:
    run = await started(bench, {"do": "sleep"})
    bench.container().pause()
    assert await bench.adapter.cancel("x1")
    assert code(await run) == "ERR_CANCELLED"


async def test_a_caller_that_goes_away_leaves_no_container(bench: Bench) -> None:
    run = await started(bench, {"do": "sleep"})
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    assert await bench.adapter.standing("x1") is Standing.GONE


async def test_what_may_not_start_waits_and_a_successor_takes_its_container_away(
    bench: Bench,
) -> None:
    allowed = False
    bench.adapter._may_start = lambda: allowed
    run = asyncio.create_task(bench.run({"do": "echo"}))
    while not (found := bench.containers()):  # noqa: ASYNC110 - the engine tells nobody
        await asyncio.sleep(0.05)
    assert found[0].status == "created"
    successor = adapter_of(bench.home, MemoryIntakes(MemoryArtifacts()), {})
    assert await successor.standing("x1") is Standing.RUNNING
    assert await successor.cancel("x1")
    allowed = True
    assert code(await run) == "ERR_DOCKER"
    assert bench.kinds() == []
    await successor.close()


async def test_a_run_that_waits_for_its_permission_can_be_cancelled(bench: Bench) -> None:
    bench.adapter._may_start = lambda: False
    run = asyncio.create_task(bench.run({"do": "echo"}))
    while not bench.containers():  # noqa: ASYNC110 - as above
        await asyncio.sleep(0.05)
    assert await bench.adapter.cancel("x1")
    assert code(await run) == "ERR_CANCELLED"
    assert bench.kinds() == []


@pytest.mark.scenario(84)
async def test_a_successor_ends_what_an_owner_left_running(bench: Bench) -> None:
    """The owner is not asked: it is as if it had died."""
    run = await started(bench, {"do": "sleep"})
    successor = adapter_of(bench.home, MemoryIntakes(MemoryArtifacts()), {})
    assert await successor.standing("x1") is Standing.RUNNING
    assert await successor.remembered() == ("x1",)
    assert await successor.standing("never") is Standing.ABSENT
    assert await successor.cancel("x1")
    assert await successor.standing("x1") is Standing.GONE
    await successor.release("x1")
    assert await successor.remembered() == ()
    await successor.close()
    await run


@pytest.mark.scenario(84)
async def test_a_container_that_no_mark_speaks_of_is_removed_at_the_next_run(
    bench: Bench,
) -> None:
    run = await started(bench, {"do": "sleep"})
    (bench.home / "docker" / "x1").unlink()
    successor = adapter_of(bench.home, MemoryIntakes(MemoryArtifacts()), {})
    await successor._remains.sweep(set())
    assert code(await run) == "ERR_WS_CLOSE"
    await successor.close()


def unserved(short: Path) -> Bench:
    """An adapter whose engine is not there."""
    engine = Engine("unix:///nowhere/docker.sock")
    artifacts = MemoryArtifacts()
    intakes = MemoryIntakes(artifacts)
    adapter = adapter_of(short, intakes, {})
    adapter._engine, adapter._images = engine, Images(engine, registry="", platform=ARCH)
    adapter._remains._engine = engine
    return Bench(adapter, intakes, artifacts, short, None, {})


@pytest.mark.scenario(78)
async def test_without_an_engine_the_run_says_so_and_nothing_is_asked_before(short: Path) -> None:
    bench = unserved(short)
    assert await bench.adapter.remembered() == ()
    assert await bench.adapter.standing("x1") is Standing.ABSENT
    assert code(await bench.run({"do": "echo"})) == "ERR_DOCKER"
    await bench.adapter.release("x1")
    await bench.adapter.close()


@pytest.mark.scenario(83)
@pytest.mark.parametrize(
    "ref",
    ["test/deeds@1 --privileged", "test/deeds@1\n", "test/deeds@1\0", "--privileged", "$(id)"],
)
async def test_a_reference_that_is_none_never_gets_to_the_engine(short: Path, ref: str) -> None:
    bench = unserved(short)
    assert code(await bench.run({"do": "echo"}, ref=ref)) == "ERR_NOT_FOUND"
    await bench.adapter.close()


async def test_an_engine_that_cannot_confirm_keeps_the_execution(bench: Bench) -> None:
    run = await started(bench, {"do": "sleep"})
    successor = adapter_of(bench.home, MemoryIntakes(MemoryArtifacts()), {})
    successor._remains._engine = Engine("unix:///nowhere/docker.sock")
    assert not await successor.cancel("x1")
    with pytest.raises(TheoryError, match="ERR_UNAVAILABLE"):
        await successor.release("x1")
    assert await bench.adapter.cancel("x1")
    await run
