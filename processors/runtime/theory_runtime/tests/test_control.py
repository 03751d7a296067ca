"""Control: cancelling, pausing, going on, setting a budget, whatever else is on its way."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Container
from pathlib import Path

from theory_runtime import kin
from theory_runtime.tests.conftest import (
    Service,
    both,
    close_of,
    control,
    frames,
    frames_until_quiet,
)


def with_timeout(message: str, timeout_s: int) -> str:
    frame = json.loads(message)
    frame["content"]["payload"]["timeout_s"] = timeout_s
    return json.dumps(frame)


def state_of(pid: int) -> str:
    """The letter of a process's state, empty for one that is gone."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except OSError:
        return ""
    return stat.rpartition(")")[2].split()[0]


async def comes_to(pid: int, states: Container[str]) -> bool:
    """Whether a process gets into one of these states within a while."""
    for _ in range(500):
        if state_of(pid) in states:
            return True
        await asyncio.sleep(0.01)
    return False


async def test_a_pause_is_no_hang_and_its_time_does_not_count(service: Service) -> None:
    async with service.connect() as client, service.connect() as controller:
        await client.send(with_timeout(service.opening("paced", count=15, pause_s=0.1), 6))
        await client.recv()
        await controller.send(service.opening(role="controller"))
        await controller.recv()
        await controller.send(control("pause"))
        await controller.send(control("pause"))
        await asyncio.sleep(0.5)
        async with service.connect() as observer:
            await observer.send(service.opening(role="observer"))
            assert json.loads(await observer.recv())["content"]["state"] == "paused"
            before = len(await frames_until_quiet(observer))
        await asyncio.sleep(6)
        async with service.connect() as observer:
            await observer.send(service.opening(role="observer"))
            assert len(await frames_until_quiet(observer)) == before + 1
        await controller.send(control("resume"))
        told = await both(client, controller)
        assert told[-1]["content"]["status"] == "success"


async def test_a_run_can_be_paused_before_its_worker_is_there(service: Service) -> None:
    async with service.connect() as client, service.connect() as controller:
        await client.send(service.opening("tokens", count=1))
        await client.recv()
        await controller.send(service.opening(role="controller"))
        await controller.send(control("pause"))
        heard = await frames_until_quiet(controller)
        assert "RunResult" not in {frame["kind"] for frame in heard}
        await controller.send(control("resume"))
        assert (await frames(client))[-1]["content"]["status"] == "success"


async def test_a_paused_run_dies_with_its_server(service: Service) -> None:
    async with service.connect() as client, service.connect() as controller:
        await client.send(service.opening("sleep"))
        assert [json.loads(await client.recv())["seq"] for _ in range(2)] == [0, 1]
        (worker,) = kin.children(service.process.pid)
        await controller.send(service.opening(role="controller"))
        await controller.send(control("pause"))
        assert await comes_to(worker, {"T"})
        service.process.kill()
        assert await comes_to(worker, {"", "Z"})


async def test_a_budget_that_is_set_stops_what_reports_more(service: Service) -> None:
    async with service.connect() as client, service.connect() as controller:
        await client.send(service.opening("spend", count=100, pause_s=0.05))
        await client.recv()
        await controller.send(service.opening(role="controller"))
        await controller.send(control("set_budget", budget={"tokens": 20}))
        told = await both(client, controller)
        error = told[-1]["content"]["error"]
        assert error == {"code": "ERR_BUDGET_EXCEEDED", "message": "budget exceeded: tokens"}


async def test_a_budget_that_is_passed_already_stops_the_run_when_it_is_set(
    service: Service,
) -> None:
    async with service.connect() as client, service.connect() as controller:
        await client.send(service.opening("spend", count=30, pause_s=0.02, then_s=60))
        await controller.send(service.opening(role="controller"))
        heard = [json.loads(await client.recv()) for _ in range(31)]
        assert heard[-1]["content"]["usage"] == {"tokens": 29}
        await controller.send(control("set_budget", budget={"tokens": 20}))
        told = await both(client, controller)
        assert told[-1]["content"]["error"]["code"] == "ERR_BUDGET_EXCEEDED"


async def test_cancel_is_not_queued_behind_data(service: Service) -> None:
    async with service.connect() as client, service.connect() as controller:
        await client.send(service.opening("flood", count=100_000_000))
        await client.recv()
        await controller.send(service.opening(role="controller"))
        await asyncio.sleep(0.3)
        began = asyncio.get_running_loop().time()
        await controller.send(control("cancel"))
        told = await both(client, controller)
        assert told[-1]["content"]["error"]["code"] == "ERR_CANCELLED"
        assert asyncio.get_running_loop().time() - began < 5


async def test_observers_see_the_run_and_only_controllers_end_it(service: Service) -> None:
    async with service.connect() as client, service.connect() as observer:
        await client.send(service.opening("sleep"))
        assert json.loads(await client.recv())["kind"] == "Ack"
        await observer.send(service.opening(role="observer"))
        heard = [json.loads(await observer.recv()) for _ in range(2)]
        assert [frame["kind"] for frame in heard] == ["Ack", "Event"]
        await observer.send(control("cancel"))
        assert await close_of(observer) == 1008
        async with service.connect() as controller:
            await controller.send(service.opening(role="controller"))
            await controller.send(control("pause"))
            await controller.send(control("resume"))
            await controller.send(control("cancel"))
            told = await frames(controller)
        result = (await frames(client))[-1]
        assert result == told[-1]
        assert result["content"]["error"]["code"] == "ERR_CANCELLED"
