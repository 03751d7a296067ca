"""Containers that wait for work: reused one run at a time, never for secrets, never half dead."""

from __future__ import annotations

import asyncio
import json

import pytest
from websockets.asyncio.client import unix_connect
from websockets.typing import Subprotocol

from theory_api.adapters.docker.sandbox import Limits
from theory_api.adapters.docker.tests.conftest import REF, Bench, adapter_of
from theory_api.adapters.docker.tests.test_runs import code
from theory_api.adapters.docker.tests.test_stops import started
from theory_api.adapters.docker.warm import Kind
from theory_api.adapters.memory.artifacts import MemoryArtifacts
from theory_api.adapters.memory.intakes import MemoryIntakes
from theory_api.adapters.run_v1.health import HealthPace
from theory_api.ports.adapter import Standing

pytestmark = pytest.mark.timeout(180)


async def kind_of(bench: Bench) -> Kind:
    """What the processor's containers have to be."""
    chosen = await bench.adapter._images.choose("theory/test-deeds-v1", None)
    return Kind(REF, chosen, Limits("1", "256Mi"))


async def waiting(bench: Bench, count: int = 1) -> list[str]:
    """Start containers that wait, and answer their ids."""
    kind = await kind_of(bench)
    for _ in range(count):
        await bench.adapter._pool.start(kind, pace=HealthPace())
    return [one["container"] for one in await bench.adapter._pool.listed(REF)]


async def test_runs_share_a_waiting_container_one_after_the_other(bench: Bench) -> None:
    (ident,) = await waiting(bench)
    costs = []
    for number in range(3):
        envelope = await bench.run({"do": "echo", "n": number}, name=f"x{number}")
        assert envelope["status"] == "success", envelope
        costs.append(bench.adapter.measured(f"x{number}").usage)
    assert bench.client.containers.get(ident).status == "running"
    assert all(0 < cost["cpu_ms"] < 5000 for cost in costs)
    assert bench.containers("x1") == []


async def test_frames_that_left_memory_can_still_be_read_in_a_container(bench: Bench) -> None:
    await waiting(bench)
    assert (await bench.run({"do": "flood", "count": 6000}))["status"] == "success"
    opening = {"kind": "RunOpen", "content": {"role": "observer", "execution_id": "x1"}}
    async with unix_connect(
        str(bench.adapter._pool.folder("w1") / "run.sock"),
        "ws://localhost/run",
        subprotocols=[Subprotocol("theory.run.v1")],
        compression=None,
    ) as observer:
        await observer.send(json.dumps(opening))
        assert json.loads(await observer.recv())["kind"] == "Ack"
        first = json.loads(await observer.recv())
    assert (first["kind"], first["seq"]) == ("Token", 1)


async def test_no_more_runs_use_them_at_once_than_there_are(bench: Bench) -> None:
    await waiting(bench, 2)
    names = [f"x{number}" for number in range(3)]
    runs = [
        asyncio.create_task(bench.run({"do": "sleep"}, name=name, timeout_s=30)) for name in names
    ]
    while bench.kinds().count("Event") < 3:  # noqa: ASYNC110 - a list that others fill
        await asyncio.sleep(0.05)
    busy = [one["busy"] for one in await bench.adapter._pool.listed()]
    cold = bench.client.containers.list(filters={"label": "theory.execution"})
    mine = [one for one in cold if one.labels["theory.home"] == bench.adapter._home]
    assert busy == [True, True]
    assert len(mine) == 1
    assert all(await asyncio.gather(*(bench.adapter.cancel(name) for name in names)))
    assert {code(await run) for run in runs} == {"ERR_CANCELLED"}
    assert [one["busy"] for one in await bench.adapter._pool.listed()] == [False, False]


async def test_a_run_with_secrets_has_a_container_of_its_own(bench: Bench) -> None:
    await waiting(bench)
    bench.secrets["API_KEY"] = "canary-0123456789"
    wanted = {"do": "tell_secret", "name": "API_KEY"}
    own = await bench.run(wanted, mode="real", secrets=("API_KEY",))
    assert own["status"] == "success"
    assert code(await bench.run(wanted, name="x2")) == "ERR_MISSING_SECRET"


async def test_one_that_died_while_it_waited_is_replaced_by_a_new_one(bench: Bench) -> None:
    (ident,) = await waiting(bench)
    bench.client.containers.get(ident).kill()
    assert (await bench.run({"do": "echo"}))["status"] == "success"
    assert await bench.adapter._pool.listed() == []


async def test_one_that_dies_at_work_is_removed(bench: Bench) -> None:
    (ident,) = await waiting(bench)
    run = await started(bench, {"do": "sleep"})
    bench.client.containers.get(ident).kill()
    assert code(await run) == "ERR_INTERNAL"
    assert await bench.adapter._pool.listed() == []


@pytest.mark.scenario(84)
async def test_a_successor_finds_the_run_of_a_waiting_container_and_ends_it(bench: Bench) -> None:
    """The container still works for it, whoever has the lock."""
    (ident,) = await waiting(bench)
    run = await started(bench, {"do": "sleep"})
    successor = adapter_of(bench.home, MemoryIntakes(MemoryArtifacts()), {})
    assert await successor.standing("x1") is Standing.RUNNING
    bench.adapter._live["x1"].lent.drop()  # type: ignore[union-attr]
    assert await successor.cancel("x1")
    assert await successor.standing("x1") is Standing.GONE
    assert bench.client.containers.list(all=True, filters={"id": ident}) == []
    await successor.close()
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
