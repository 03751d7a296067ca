"""Runs in the cloud that go wrong: each has its code, and what may still run is never forgotten."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import replace

import psutil
import pytest

from theory_api.adapters.modal import endpoints
from theory_api.adapters.run_v1 import client
from theory_api.adapters.run_v1.calling import coded
from theory_api.adapters.run_v1.marks import Marks
from theory_api.ports.adapter import Standing
from theory_api.tests.modal_door import Door
from theory_api.tests.transports import PACE, Desk, over_modal, over_modal_http, short_folder
from theory_core import TheoryError


@pytest.fixture(params=["modal", "modal-http"])
async def desk(request: pytest.FixtureRequest) -> AsyncIterator[Desk]:
    way = over_modal if request.param == "modal" else over_modal_http
    with short_folder() as home:
        async with way(home) as made:
            yield made


def code_of(envelope: dict[str, object]) -> object:
    error = envelope.get("error", {})
    assert isinstance(error, dict)
    return error.get("code")


@pytest.mark.scenario(85)
async def test_a_function_that_is_not_there_is_said_to_be_missing(desk: Desk) -> None:
    envelope = await desk.run({"do": "many", "count": 1}, ref="test/absent@1")
    assert code_of(envelope) == "ERR_ENDPOINT_MISSING"
    assert await desk.adapter.standing("x1") is Standing.ABSENT


@pytest.mark.scenario(85)
async def test_a_server_behind_a_redirect_or_a_closed_door_is_not_healthy(desk: Desk) -> None:
    assert desk.cloud is not None
    desk.adapter._pace = type(desk.adapter._pace)(  # type: ignore[attr-defined]
        health=type(desk.adapter._pace.health)(budget_s=0.5)  # type: ignore[attr-defined]
    )
    for container in desk.cloud.containers.values():
        container.door.instead = b"HTTP/1.1 303 See Other\r\nLocation: /elsewhere\r\n\r\n"
    assert code_of(await desk.run({"do": "many", "count": 1})) == "ERR_HEALTH"
    for container in desk.cloud.containers.values():
        container.door.instead = None
        container.door.allowed = {}
    assert code_of(await desk.run({"do": "many", "count": 1}, name="x2")) == "ERR_HEALTH"


@pytest.mark.scenario(85)
async def test_a_control_plane_that_is_down_is_not_waited_for(desk: Desk) -> None:
    assert desk.cloud is not None
    desk.cloud.failing["FunctionGet"] = 60.0
    desk.adapter._sdk._call_s = 0.5  # type: ignore[attr-defined]
    assert code_of(await desk.run({"do": "many", "count": 1})) == "ERR_MODAL_INVOCATION"


@pytest.mark.scenario(85)
async def test_a_container_that_starts_slowly_is_waited_for(desk: Desk) -> None:
    assert desk.cloud is not None
    idents = list(desk.cloud.containers)
    for ident in idents:
        await desk.cloud.preempt(ident)
    running = asyncio.create_task(desk.run({"do": "many", "count": 1}))
    await asyncio.sleep(3)
    assert not running.done()
    assert desk.kinds() == []
    for ident in idents:
        await desk.cloud.again(ident)
    assert (await running)["status"] == "success"
    assert desk.kinds().count("RunResult") == 1


@pytest.mark.scenario(85)
async def test_an_address_that_changes_is_asked_for_anew_and_finds_what_runs(desk: Desk) -> None:
    assert desk.cloud is not None
    desk.adapter._pace = replace(PACE, confirm_s=0.5)  # type: ignore[attr-defined]
    assert (await desk.run({"do": "many", "count": 1}))["status"] == "success"
    await moved(desk)
    assert (await desk.run({"do": "many", "count": 1}, name="x2"))["status"] == "success"
    desk.frames.clear()
    running = asyncio.create_task(desk.run({"do": "sleep"}, name="x3"))
    await desk.heard("Event")
    await moved(desk)
    # Nobody answers where it was: it may run on, so its hold stays until the new address says.
    assert code_of(await running) == "ERR_ORPHANED"
    assert await desk.adapter.standing("x3") is Standing.RUNNING
    assert await desk.adapter.cancel("x3")
    assert await desk.adapter.standing("x3") is Standing.GONE


async def moved(desk: Desk) -> None:
    """Every function has another address from now on; what runs in it does not notice."""
    assert desk.cloud is not None
    for container in desk.cloud.containers.values():
        before = container.door
        container.door = await Door.open(port=before.port, allowed=before.allowed)
        await before.close()


@pytest.mark.scenario(85)
async def test_one_deadline_spans_every_try_to_reach_a_run_again(desk: Desk) -> None:
    assert desk.cloud is not None
    pace = replace(PACE, overtime_s=2, stop_s=1, confirm_s=1)
    desk.adapter._pace = pace  # type: ignore[attr-defined]
    running = asyncio.create_task(desk.run({"do": "sleep"}, timeout_s=3))
    await desk.heard("Event")
    began = time.monotonic()
    servers = [one for held in desk.cloud.containers.values() for one in family(held.process.pid)]
    for server in servers:
        server.suspend()
    try:
        for container in desk.cloud.containers.values():
            # The links break; each new one gets as far as a server that says nothing.
            for task in [*container.door.tasks]:
                task.cancel()
        envelope = await running
    finally:
        for server in servers:
            server.resume()
    # Tries that each had their own time would take 40 s.
    assert time.monotonic() - began < 25
    assert code_of(envelope) == "ERR_ORPHANED"
    async with asyncio.timeout(30):
        while not await stopped(desk):  # noqa: ASYNC110 - it tells nobody
            await asyncio.sleep(0.1)


def family(pid: int) -> list[psutil.Process]:
    """A process and what it started."""
    process = psutil.Process(pid)
    return [process, *process.children(recursive=True)]


async def test_a_container_that_dies_is_an_orphan_until_somebody_confirms_its_end(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert desk.cloud is not None
    monkeypatch.setattr(client, "REATTACH_S", (0.1,))
    desk.adapter._pace = replace(PACE, confirm_s=2)  # type: ignore[attr-defined]
    running = asyncio.create_task(desk.run({"do": "sleep"}))
    await desk.heard("Event")
    idents = list(desk.cloud.containers)
    for ident in idents:
        await desk.cloud.preempt(ident)
    envelope = await running
    assert code_of(envelope) == "ERR_ORPHANED"
    assert not await stopped(desk)
    for ident in idents:
        await desk.cloud.again(ident)
    assert await stopped(desk)
    await desk.adapter.release("x1")


@pytest.mark.scenario(19)
async def test_a_run_whose_container_was_moved_has_ended_and_is_not_begun_again(
    desk: Desk,
) -> None:
    assert desk.cloud is not None
    running = asyncio.create_task(desk.run({"do": "sleep"}))
    await desk.heard("Event")
    for ident in list(desk.cloud.containers):
        await desk.cloud.preempt(ident)
        await desk.cloud.again(ident)
    # Whoever answers there now knows nothing of it: what ran it died, and told no result.
    assert code_of(await running) == "ERR_INTERNAL"
    assert desk.kinds().count("Event") == 1
    for _ in range(300):
        if await desk.adapter.standing("x1") is Standing.GONE:
            break
        await asyncio.sleep(0.1)
    assert await desk.adapter.standing("x1") is Standing.GONE
    await desk.adapter.release("x1")


async def stopped(desk: Desk) -> bool:
    try:
        return await desk.adapter.cancel("x1")
    except TheoryError:
        return False


@pytest.mark.scenario(19)
async def test_a_run_of_an_earlier_owner_is_found_and_ended(desk: Desk) -> None:
    running = asyncio.create_task(desk.run({"do": "sleep"}))
    await desk.heard("Event")
    desk.adapter._live.clear()  # type: ignore[attr-defined]
    # The next owner deploys from another branch: what runs is found where it was started.
    desk.adapter._endpoints._app = "other-{}".format  # type: ignore[attr-defined]
    assert await desk.adapter.standing("x1") is Standing.RUNNING
    assert await desk.adapter.remembered() == ("x1",)
    assert await desk.adapter.cancel("x1")
    assert code_of(await running) == "ERR_CANCELLED"
    assert await desk.adapter.standing("x1") is Standing.GONE
    await desk.adapter.release("x1")
    assert await desk.adapter.standing("x1") is Standing.ABSENT


async def test_a_mark_is_there_before_the_server_hears_of_a_run(desk: Desk) -> None:
    asked = asyncio.Event()

    def may_start() -> bool:
        asked.set()
        return False

    desk.adapter._may_start = may_start  # type: ignore[attr-defined]
    running = asyncio.create_task(desk.run({"do": "many", "count": 1}))
    await asyncio.wait_for(asked.wait(), 30)
    assert await desk.adapter.cancel("x1")
    assert code_of(await running) == "ERR_CANCELLED"
    marks = Marks(desk.home / desk.adapter.name)
    mark = dict(marks.read("x1") or {})
    assert mark.pop("where").startswith("dev/test-deeds-v1 http://127.0.0.1:")
    assert mark == {"mode": "mock", "ref": "test/deeds@1"}
    assert await desk.adapter.standing("x1") is Standing.GONE
    assert "outputs.json" not in await desk.objects()


@pytest.mark.scenario(86)
async def test_mode_real_runs_where_the_secret_is_and_mock_has_none(desk: Desk) -> None:
    params = {"do": "tell_secret", "name": "OPENAI_API_KEY"}
    fingerprint = "secrets:OPENAI_API_KEY"
    real = await desk.run(params, mode="real", secrets=["OPENAI_API_KEY"])
    assert real["status"] == "success", fingerprint
    assert (await desk.objects())["outputs/length"] == b"17"
    mock = await desk.run(params, name="x2", secrets=["OPENAI_API_KEY"])
    assert code_of(mock) == "ERR_MISSING_SECRET"
    seen = await desk.run({"do": "environment"}, name="x3", mode="real", secrets=["OPENAI_API_KEY"])
    assert seen["status"] == "success"
    assert b"canary" not in (await desk.objects("x3"))["outputs/environment.json"]
    leaked = {"do": "tell_secret", "name": "OPENAI_API_KEY", "leak": True}
    told = await desk.run(leaked, name="x4", mode="real", secrets=["OPENAI_API_KEY"])
    assert "canary" not in str(told)


@pytest.mark.scenario(86)
async def test_the_function_that_has_the_secrets_refuses_mode_mock(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endpoints, "function_of", lambda _mode: "run")
    assert code_of(await desk.run({"do": "many", "count": 1})) == "ERR_MODE_INVALID"
    real = await desk.run({"do": "many", "count": 1}, name="x2", mode="real")
    assert real["status"] == "success"


@pytest.mark.scenario(19)
async def test_an_app_that_is_missing_for_others_than_its_workspace_is_not_gone(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert desk.cloud is not None
    running = asyncio.create_task(desk.run({"do": "sleep"}))
    await desk.heard("Event")
    desk.adapter._live.clear()  # type: ignore[attr-defined]

    async def missing(*_asked: object, **_more: object) -> str:
        raise coded("ERR_ENDPOINT_MISSING")

    monkeypatch.setattr(endpoints, "address", missing)
    assert await desk.adapter.standing("x1") is Standing.RUNNING
    doors = [container.door for container in desk.cloud.containers.values()]
    allowed = [door.allowed for door in doors]
    for door in doors:
        door.allowed = {}
    with pytest.raises(TheoryError):
        await desk.adapter.release("x1")
    assert await desk.adapter.remembered() == ("x1",)
    for door, those in zip(doors, allowed, strict=True):
        door.allowed = those
    await desk.adapter.release("x1")
    assert code_of(await running) == "ERR_CANCELLED"


async def test_a_container_never_has_more_runs_than_its_spec_declares(desk: Desk) -> None:
    assert desk.cloud is not None
    slow = {"do": "paced", "count": 1000, "pause_s": 0.1}
    running = [asyncio.create_task(desk.run(slow, name=name)) for name in ("x1", "x2")]
    while desk.kinds().count("Ack") < 2:
        assert not any(one.done() for one in running)
        await asyncio.sleep(0.05)
    heard = len(desk.frames)
    assert code_of(await desk.run({"do": "many", "count": 1}, name="x3")) == "ERR_RATE_LIMITED"
    assert "RunResult" not in desk.kinds()
    assert len(desk.frames) > heard
    assert await desk.adapter.standing("x3") is Standing.GONE
    assert await desk.adapter.cancel("x1")
    assert (await desk.run({"do": "many", "count": 1}, name="x4"))["status"] == "success"
    assert await desk.adapter.cancel("x2")
    assert [code_of(await one) for one in running] == ["ERR_CANCELLED"] * 2
