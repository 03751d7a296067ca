"""The worker that waits: for one run, never beside one, and gone with its server."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from theory_runtime import kin
from theory_runtime.child import Child
from theory_runtime.kin import Brood
from theory_runtime.reserve import Reserve
from theory_runtime.tests.conftest import MAIN, Kept, Service, both, control, frames, serving


@pytest.fixture
async def reserve(tmp_path: Path) -> AsyncIterator[Reserve]:
    made = Reserve(MAIN, tmp_path, Brood(), keeps=True)
    yield made
    await made.close()
    assert made._brood.workers == {}


async def ended(child: Child) -> None:
    """End one that never got a job."""
    await child.stop(grace_s=0)
    assert await child.bury(confirm_s=10)
    await child.close()


async def test_one_waits_between_runs_and_none_beside_one(reserve: Reserve) -> None:
    await reserve.fill()
    first = reserve._waiting
    await reserve.fill()
    assert reserve._waiting is first
    with reserve.at_work():
        assert await reserve.take() is first
        await reserve.fill()
        assert reserve._waiting is None
        with reserve.at_work():
            beside = await reserve.take()
            assert beside is not first
            await ended(beside)
        await reserve.fill()
        assert reserve._waiting is None
        assert first is not None
        await ended(first)
    await reserve.fill()
    assert reserve._waiting is not None
    assert reserve._waiting.pid not in {first.pid, beside.pid}


async def test_one_that_died_while_it_waited_is_not_used(reserve: Reserve) -> None:
    await reserve.fill()
    first = reserve._waiting
    assert first is not None
    os.kill(first.pid, signal.SIGKILL)
    await asyncio.wait_for(asyncio.shield(first.exited), 10)
    with reserve.at_work():
        other = await reserve.take()
        assert other.pid != first.pid
        assert set(reserve._brood.workers) == {other.pid}
        await ended(other)


async def test_none_waits_once_a_run_may_have_left_something(reserve: Reserve) -> None:
    reserve.forgo()
    await reserve.fill()
    assert reserve._waiting is None
    other = await reserve.take()
    await ended(other)


async def test_one_that_cannot_be_started_is_missed_by_nobody_yet(
    reserve: Reserve, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuses(_self: Reserve) -> Child:
        raise OSError

    monkeypatch.setattr(Reserve, "_start", refuses)
    await reserve.fill()
    with pytest.raises(OSError):  # noqa: PT011 - as it was raised
        await reserve.take()


def workers(service: Service) -> set[int]:
    """Pids of the server's workers."""
    return {
        pid
        for pid in kin.children(service.process.pid)
        if b"--worker" in Path(f"/proc/{pid}/cmdline").read_bytes()
    }


async def one(service: Service) -> int:
    """The worker that is there once there is exactly one."""
    while len(found := workers(service)) != 1:  # noqa: ASYNC110 - nobody tells of processes
        await asyncio.sleep(0.02)
    (pid,) = found
    return pid


def lives(pid: int) -> bool:
    """Whether there is a process of that number."""
    return Path(f"/proc/{pid}").exists()


async def echo(service: Service, name: str) -> dict[str, Any]:
    """The envelope of a run that ends at once."""
    async with service.connect() as connection:
        await connection.send(service.opening("echo", name=name))
        content: dict[str, Any] = (await frames(connection))[-1]["content"]
        return content


async def test_a_run_is_done_by_the_worker_that_waited_and_by_nobody_else(
    short: Path, gateway: Kept
) -> None:
    async with serving(short, gateway, "--scratch", str(short / "scratch")) as service:
        waiting = await asyncio.wait_for(one(service), 20)
        async with service.connect() as client, service.connect() as controller:
            await client.send(service.opening("sleep"))
            while json.loads(await client.recv())["kind"] != "Event":
                pass
            assert workers(service) == {waiting}
            await controller.send(service.opening(role="controller"))
            await controller.send(control("cancel"))
            last = (await both(client, controller))[-1]
            assert last["content"]["error"]["code"] == "ERR_CANCELLED"
        following = await asyncio.wait_for(one(service), 20)
        assert following != waiting
        assert (await echo(service, "x2"))["status"] == "success"
        unused = await asyncio.wait_for(one(service), 20)
    assert not lives(unused)


async def test_where_runs_come_at_once_none_waits(service: Service) -> None:
    assert (await echo(service, "x1"))["status"] == "success"
    assert workers(service) == set()
