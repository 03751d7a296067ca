"""The engine when it is slow, busy, or asked by two at once; no test here runs a processor."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from theory_api.adapters.docker import engine as module
from theory_api.adapters.docker.engine import Engine
from theory_api.adapters.docker.lodging import Live
from theory_api.adapters.docker.tests.conftest import PRINT, REF, Bench, adapter_of
from theory_api.adapters.docker.tests.test_runs import code
from theory_api.adapters.docker.transport import DockerPace
from theory_api.adapters.memory.artifacts import MemoryArtifacts
from theory_api.adapters.memory.intakes import MemoryIntakes
from theory_api.adapters.run_v1.places import home_name
from theory_api.ports.adapter import Measurement
from theory_api.tests.engine import left
from theory_core import TheoryError

pytestmark = pytest.mark.timeout(120)

PAYLOAD: Mapping[str, Any] = {
    "execution_id": "x1",
    "mode": "mock",
    "env_fingerprint": PRINT,
    "registry_snapshot": "b3:" + "0" * 64,
}


async def test_a_container_that_comes_too_late_is_removed(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    real: Any = module.Engine._connected
    made = threading.Event()

    def slow(self: Engine) -> Any:  # noqa: ANN401 - the SDK's client
        client = real(self)
        create = client.create_container_from_config

        class Client:
            def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - as above
                return getattr(client, name)

            def create_container_from_config(self, *given: object) -> object:
                found = create(*given)
                time.sleep(1.5)
                made.set()
                return found

        return Client()

    monkeypatch.setattr(module.Engine, "_connected", slow)
    monkeypatch.setattr(module, "_LATE_S", 0.0)
    call = module.Engine.call

    async def hasty(self: Engine, work: Any, **given: Any) -> Any:  # noqa: ANN401 - of any kind
        given["within_s"] = 0.7 if "create" in work.__qualname__ else 30.0
        return await call(self, work, **given)

    monkeypatch.setattr(module.Engine, "call", hasty)
    assert code(await bench.run({"do": "echo"})) == "ERR_DOCKER"
    await bench.adapter.release("x1")
    assert await asyncio.to_thread(made.wait, 30)
    until = time.monotonic() + 20
    while left(bench.client, home_name(bench.home)):
        assert time.monotonic() < until
        await asyncio.sleep(0.1)


async def test_a_cancel_while_an_image_is_pulled_is_confirmed_at_once(
    short: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter = adapter_of(short, MemoryIntakes(MemoryArtifacts()), {})

    async def pulling(*_given: object) -> None:
        await asyncio.sleep(60)

    monkeypatch.setattr(adapter._images, "choose", pulling)
    run = asyncio.create_task(
        adapter.invoke(ref=REF, payload=PAYLOAD, timeout_s=5, expected_oci=None)
    )
    await asyncio.sleep(0.1)
    assert await asyncio.wait_for(adapter.cancel("x1"), 5)
    assert code(dict(await run)) == "ERR_CANCELLED"
    assert await adapter.remembered() == ()
    assert adapter.measured("x1") == Measurement()
    await adapter.release("x1")
    await adapter.close()


async def test_long_calls_leave_the_threads_of_short_ones_alone() -> None:
    engine, hold = Engine("unix:///nowhere/docker.sock"), threading.Event()
    engine._guarded = lambda work: work(None)  # type: ignore[method-assign, arg-type]
    pulls = [
        asyncio.create_task(engine.call(lambda _: hold.wait(30), threads="docker-images"))
        for _ in range(12)
    ]
    try:
        await asyncio.sleep(0)
        assert await asyncio.wait_for(engine.call(lambda _: 7), 10) == 7
    finally:
        hold.set()
        await asyncio.gather(*pulls)
        engine.close()


async def test_a_caller_that_goes_away_at_the_end_of_a_run_does_not_keep_the_adapter(
    short: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter = adapter_of(short, MemoryIntakes(MemoryArtifacts()), {})
    leaving = asyncio.Event()

    async def refused(*_given: object) -> None:
        raise TheoryError("ERR_DOCKER", "no")

    async def slowly(_live: object) -> None:
        leaving.set()
        await asyncio.sleep(0.5)

    monkeypatch.setattr(adapter._images, "choose", refused)
    monkeypatch.setattr(adapter._lodging, "leave", slowly)
    run = asyncio.create_task(
        adapter.invoke(ref=REF, payload=PAYLOAD, timeout_s=5, expected_oci=None)
    )
    await leaving.wait()
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    assert not adapter._live["x1"].ended.is_set()
    await asyncio.wait_for(adapter.close(), 10)
    assert adapter._live["x1"].ended.is_set()


async def test_nobody_waits_for_ever_for_an_end_that_does_not_come(
    short: Path,
) -> None:
    adapter = adapter_of(short, MemoryIntakes(MemoryArtifacts()), {})
    adapter._pace = DockerPace(stop_s=0.1, confirm_s=0.1)

    class Stopped:
        async def stop(self) -> bool:
            return True

    live = Live("x1", Stopped())  # type: ignore[arg-type]
    adapter._live["x1"] = live
    assert not await asyncio.wait_for(adapter.cancel("x1"), 10)
    await asyncio.wait_for(adapter.close(), 10)
