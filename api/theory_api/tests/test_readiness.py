"""A server that cannot serve says so, or ends; it never answers that all is well."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from theory_api import asgi
from theory_api.observability.watchdog import Watchdog
from theory_api.scheduler.writer import Writer
from theory_api.tests.test_serve import follow, kinds, request, served, waiting
from theory_core import TheoryError

pytestmark = pytest.mark.timeout(300)


async def well(client: httpx.AsyncClient, path: str) -> None:
    """Ask until it is answered; the test's own bound ends what never is."""
    while (await client.get(path)).status_code == 503:  # noqa: ASYNC110 - a server has no event
        await asyncio.sleep(0.1)


@pytest.mark.scenario(16)
async def test_a_server_whose_loop_stood_still_is_not_ready_until_it_keeps_time_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asgi, "Watchdog", partial(Watchdog, limit_s=1.0, beat_s=0.05))
    async with served(tmp_path) as server, server.client() as client:
        await client.get("/healthz")
        time.sleep(1.5)  # noqa: ASYNC251 - this is what must not happen
        answer = await client.get("/healthz")
        assert (answer.status_code, answer.json()["code"]) == (503, "ERR_UNAVAILABLE")
        assert answer.json()["facts"] == {"reason": "loop"}
        assert int(answer.headers["retry-after"]) > 0
        await well(client, "/healthz")


@pytest.mark.scenario(17)
async def test_a_server_whose_scheduler_failed_inside_ends_and_is_never_well_until_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_writer: Writer, _items: object) -> None:
        raise RuntimeError

    async def fail() -> None:
        async with served(tmp_path) as server, server.client() as client:
            assert (await client.get("/healthz")).status_code == 200
            monkeypatch.setattr(Writer, "step", broken)
            with contextlib.suppress(httpx.TransportError):
                refused = await client.post("/v1/plans", json=request())
                assert refused.status_code in {500, 503}
                health = await client.get("/healthz")
                assert health.status_code in {500, 503}
            await asyncio.wait({server.task}, timeout=30)
            assert server.task.done()

    with pytest.raises(TheoryError) as caught:
        await fail()
    assert caught.value.code == "ERR_INTERNAL"


@pytest.mark.scenario(5, 17)
def test_a_served_home_that_another_process_took_over_ends_the_process_with_a_code(
    tmp_path: Path,
) -> None:
    command = [sys.executable, "-m", "theory_api.cli.main", "--home", str(tmp_path), "serve"]
    environment = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
    process = subprocess.Popen(
        [*command, "--port", "0", "--json"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    try:
        url = json.loads(process.stdout.readline())["url"]
        with contextlib.closing(sqlite3.connect(tmp_path / "theory.db")) as thief:
            thief.execute("UPDATE shard SET epoch = epoch + 1")
            thief.commit()
        key = {"Authorization": f"Bearer {(tmp_path / 'api-key').read_text().strip()}"}
        refused = httpx.post(f"{url}/v1/plans", json=waiting(), headers=key, timeout=30)
        assert (refused.status_code, refused.json()["code"]) == (409, "ERR_NOT_WRITER")
        assert process.wait(timeout=60) == 1
        assert json.loads(process.stdout.read())["code"] == "ERR_NOT_WRITER"
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


@contextlib.asynccontextmanager
async def crowd(url: str, count: int) -> AsyncIterator[None]:
    """Connections that ask for nothing and stay."""
    host, port = url.removeprefix("http://").split(":")
    held = [socket.create_connection((host, int(port))) for _ in range(count)]
    await asyncio.sleep(0.2)
    try:
        yield
    finally:
        for one in held:
            one.close()


@pytest.mark.scenario(11)
async def test_more_readers_than_there_are_places_are_turned_away_and_plans_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asgi, "CONNECTIONS", 20)
    async with served(tmp_path) as server, server.client() as client:
        path = (await client.post("/v1/plans", json=request())).headers["location"]
        async with crowd(server.url, 60), server.client() as reader:
            assert (await reader.get(path)).status_code == 503
        await well(client, path)
        assert kinds(await follow(server, path))[-1] == "plan.completed"


AMOUNTS: dict[str, str] = {
    "negative": "-1",
    "a fraction": "0.5",
    "a double": "1e3",
    "a text": '"1e3"',
    "true": "true",
    "one more than exact": str(2**53),
    "beyond 64 bits": str(2**64),
    "no number": "NaN",
}


@pytest.mark.scenario(65)
async def test_an_amount_that_is_none_is_400_and_leaves_no_plan(tmp_path: Path) -> None:
    async with served(tmp_path) as server, server.client() as client:
        for place in ("budget", "estimate"):
            for written in AMOUNTS.values():
                asked: Any = request()
                holder = asked["document"]
                if place == "estimate":
                    holder = holder["transitions"]["write"]
                holder[place] = {"cpu_ms": "HERE"}
                body = json.dumps(asked).replace('"HERE"', written)
                kind = {"Content-Type": "application/json"}
                answer = await client.post("/v1/plans", content=body, headers=kind)
                assert (place, written, answer.status_code) == (place, written, 400)
                assert answer.json()["code"] in {"ERR_PLAN_INVALID", "ERR_INPUTS"}
        assert (await client.get("/v1/plans")).json()["plans"] == []


@pytest.mark.scenario(65)
async def test_more_than_a_budget_has_is_refused_before_anything_is_held(tmp_path: Path) -> None:
    asked: Any = request()
    asked["document"]["budget"] = {"cpu_ms": 10}
    async with served(tmp_path) as server, server.client() as client:
        path = (await client.post("/v1/plans", json=asked)).headers["location"]
        told = kinds(await follow(server, path))
        assert told[-1] == "plan.failed"
        assert "transition.refused" in told
        assert "budget.reserved" not in told
        shown = (await client.get(path)).json()
        assert shown["error"]["code"] == "ERR_BUDGET_EXCEEDED"
