"""A run in a child process, steered by people over HTTP and WebSocket while it goes on."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from theory_api.domain.naming import attempt_id
from theory_api.tests.driving import places
from theory_api.tests.test_serve import Server, follow, served
from theory_core import RUN_SUBPROTOCOL, encode_frame, loads_strict, verify

PATH = "/v1/plans/local/film"
NAME = attempt_id("/world/local/film", "a", 1)
WITHIN_S = 60.0
LONG = 4000
"""Ticks of a run that ends only if it is ended."""


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    base = tmp_path / "base"
    base.mkdir()
    async with served(tmp_path / "home", **places(base)) as made:
        yield made


def plan(count: int) -> dict[str, Any]:
    """`a` ticks for a twentieth of a second a count; `b` waits for it, `c` for nobody."""
    step = {"processor_ref": "test/hostile@1", "mode": "mock"}
    limit_s = 5 if count < LONG else 120
    ticking = {**step, "timeout_s": limit_s, "inputs": {"how": "tick", "count": count}}
    fine = {**step, "inputs": {"how": "fine"}}
    return {
        "schema": "theory.plan.v1",
        "plan": "film",
        "budget": {"cpu_ms": 400_000, "latency_ms": 900_000},
        "transitions": {"a": ticking, "b": {**fine, "depends_on": ["a"]}, "c": fine},
    }


async def started(client: httpx.AsyncClient, count: int) -> None:
    created = await client.post("/v1/plans", json={"document": plan(count)})
    assert created.status_code == 201, created.text
    async with asyncio.timeout(WITHIN_S):
        while not await standing(client):  # noqa: ASYNC110 - the server is asked
            await asyncio.sleep(0.05)


async def standing(client: httpx.AsyncClient) -> str:
    """Status of the newest attempt of `a`; nothing before there is one."""
    shown = (await client.get(PATH)).json()
    (step,) = [one for one in shown["transitions"] if one["transition"] == "a"]
    return step["executions"][-1]["status"] if step["executions"] else ""


class Viewer:
    """One who attached to the run of `a`."""

    def __init__(self, ws: ClientConnection) -> None:
        self.ws = ws
        self.ticks = 0
        self.result: dict[str, Any] = {}

    async def open(self, role: str = "controller") -> str:
        """Attach; the state that the greeting says."""
        content = {"role": role, "execution_id": NAME}
        await self.ws.send(encode_frame("RunOpen", content).decode())
        greeting: Any = loads_strict(await self.ws.recv())
        state: str = greeting["content"]["state"]
        return state

    async def say(self, op: str, **more: Any) -> None:  # noqa: ANN401 - a frame's members
        await self.ws.send(encode_frame("Control", {"op": op, **more}).decode())

    async def hear(self, *, ticks: int | None = None) -> int:
        """Read until so many more ticks came, or to the end; the close code."""
        until = None if ticks is None else self.ticks + ticks
        try:
            while until is None or self.ticks < until:
                frame: Any = loads_strict(await self.ws.recv())
                self.ticks += frame["content"].get("phase") == "tick"
                if frame["kind"] == "RunResult":
                    self.result = frame["content"]
        except ConnectionClosed as closed:
            return closed.rcvd.code if closed.rcvd else 1006
        return 0


def attach(server: Server) -> connect:
    address = f"{server.url.replace('http', 'ws', 1)}{PATH}/executions/{NAME}/run"
    spoken = [Subprotocol(RUN_SUBPROTOCOL)]
    return connect(address, additional_headers=server.headers, subprotocols=spoken)


@contextlib.asynccontextmanager
async def attach_when_started(
    client: httpx.AsyncClient, server: Server, count: int
) -> AsyncIterator[ClientConnection]:
    await started(client, count)
    async with attach(server) as ws:
        yield ws


async def story(server: Server) -> list[dict[str, Any]]:
    """The plan's whole ledger; every prefix of it is lawful."""
    frames = await follow(server, PATH)
    report = verify([frame.encode() for frame in frames], laws=True)
    assert report.fault is None, report.verdict
    return [loads_strict(frame)["event"] for frame in frames]


def of(events: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [event["data"] for event in events if event["kind"] == kind]


async def statuses(client: httpx.AsyncClient) -> dict[str, str]:
    shown = (await client.get(PATH)).json()
    assert {line["reserved"] for line in shown["budget"]} == {0}
    return {one["transition"]: one["status"] for one in shown["transitions"]}


async def test_a_controller_cancels_a_run_and_the_plan_goes_on_without_it(server: Server) -> None:
    async with server.client() as client, attach_when_started(client, server, LONG) as ws:
        viewer = Viewer(ws)
        assert await viewer.open() == "running"
        await viewer.hear(ticks=3)
        await viewer.say("cancel")
        assert await viewer.hear() == 1000
        assert viewer.result["error"]["code"] == "ERR_CANCELLED"
        events = await story(server)
        assert await statuses(client) == {"a": "cancelled", "b": "skipped", "c": "succeeded"}
    (told,) = of(events, "execution.controlled")
    assert (told["op"], told["execution_id"], told["by"]) == ("cancel", NAME, "local")
    assert of(events, "transition.retried") == []
    assert events[-1]["kind"] == "plan.failed"


async def test_a_run_that_stands_still_says_nothing_and_is_not_timed_out(server: Server) -> None:
    """Its time limit is 5 s; it stands still for longer."""
    async with server.client() as client, attach_when_started(client, server, 40) as ws:
        viewer = Viewer(ws)
        await viewer.open()
        await viewer.hear(ticks=3)
        await viewer.say("pause")
        hearing = asyncio.create_task(viewer.hear())
        await asyncio.sleep(1)
        before = viewer.ticks
        await asyncio.sleep(6)
        assert viewer.ticks == before
        assert await standing(client) == "paused"
        async with attach(server) as other:
            assert await Viewer(other).open("observer") == "paused"
        await viewer.say("resume")
        assert await hearing == 1000
        assert viewer.result["status"] == "success"
        assert viewer.ticks == 40
        events = await story(server)
        assert set((await statuses(client)).values()) == {"succeeded"}
    assert [told["op"] for told in of(events, "execution.controlled")] == ["pause", "resume"]
    settled = next(one for one in of(events, "budget.settled") if one["execution_id"] == NAME)
    assert settled["actual"]["latency_ms"] > 7000


async def test_a_run_that_stands_still_can_be_cancelled(server: Server) -> None:
    async with server.client() as client, attach_when_started(client, server, LONG) as ws:
        viewer = Viewer(ws)
        await viewer.open()
        await viewer.hear(ticks=1)
        await viewer.say("pause")
        await viewer.say("cancel")
        assert await viewer.hear() == 1000
        assert viewer.result["error"]["code"] == "ERR_CANCELLED"
        await story(server)
        assert (await statuses(client))["a"] == "cancelled"


async def test_a_lower_budget_stops_a_run_that_passes_it_and_a_higher_one_is_refused(
    server: Server,
) -> None:
    async with server.client() as client:
        async with attach_when_started(client, server, LONG) as ws:
            refused = Viewer(ws)
            await refused.open()
            await refused.say("set_budget", budget={"cpu_ms": 60_001})
            assert await refused.hear() == 1008
            assert ws.close_reason is not None
            assert ws.close_reason.startswith("ERR_CONFLICT: a budget is only lowered")
        async with attach(server) as ws:
            viewer = Viewer(ws)
            await viewer.open()
            await viewer.hear(ticks=2)
            await viewer.say("set_budget", budget={"tokens": 3})
            assert await viewer.hear() == 1000
            assert viewer.result["error"]["code"] == "ERR_BUDGET_EXCEEDED"
        events = await story(server)
        assert (await statuses(client))["a"] == "failed"
    (told,) = of(events, "execution.controlled")
    assert told["budget"] == {"tokens": 3}
    settled = next(one for one in of(events, "budget.settled") if one["execution_id"] == NAME)
    assert settled["hold"]["cpu_ms"] == 60_000
    assert settled["actual"]["tokens"] > 3


async def test_an_execution_is_cancelled_by_a_post_once_and_a_later_one_changes_nothing(
    server: Server,
) -> None:
    address = f"{PATH}/executions/{NAME}/cancel"
    once = {"Idempotency-Key": '"stop-a"'}
    async with server.client() as client:
        await started(client, LONG)
        stopping = {"plan": "/world/local/film", "execution_id": NAME, "status": "cancelling"}
        first = await client.post(address, json={"reason": "enough"}, headers=once)
        assert (first.status_code, first.json()) == (202, stopping)
        events = await story(server)
        again = await client.post(address, json={"reason": "enough"}, headers=once)
        assert (again.status_code, again.content) == (202, first.content)
        late = await client.post(address)
        assert (late.status_code, late.json()["status"]) == (202, "cancelled")
        other = await client.post(address, json={"reason": "other"}, headers=once)
        assert (other.status_code, other.json()["code"]) == (422, "ERR_IDEMPOTENCY_MISMATCH")
        assert await story(server) == events
        (told,) = of(events, "execution.controlled")
        assert (told["reason"], told["op"]) == ("enough", "cancel")
        for unknown in (address.replace(NAME, "x0"), address.replace("/local/", "/other/")):
            absent = await client.post(unknown)
            assert (absent.status_code, absent.json()["code"]) == (404, "ERR_NOT_FOUND")
        wrong = await client.post(address, json={"why": "x"})
        assert (wrong.status_code, wrong.json()["code"]) == (400, "ERR_INPUTS")
