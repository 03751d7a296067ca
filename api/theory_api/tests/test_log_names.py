"""What the log says of a run, once each, whatever it went over; and never what was said in it."""

from __future__ import annotations

import asyncio
import http.server
import json
import shutil
import sys
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import structlog
from structlog.testing import capture_logs

from theory_api import settings as configuration
from theory_api.services.views import PlanView
from theory_api.tests.transports import (
    Desk,
    over_local,
    over_local_http,
    over_modal,
    over_modal_http,
    over_process,
    short_folder,
)
from theory_api.wiring import Services, open_engine

KEY = "sk-canary-2a4c6e8f0b1d3f5a"
WORD = "unspeakable"
RUN = {"config.resolved": 1, "execution.start": 1, "adapter.selected": 1, "provider.call": 1}
CALLED = {"adapter.invoke": 1, "adapter.health.ok": 1, "adapter.complete": 1}
SOCKET = {"ws.connect.start": 1, "ws.connect.ok": 1, "ws.run.start": 1, "ws.run.settle": 1}
HTTP = {"http.run.start": 1, "http.run.settle": 1}
LOOKED_UP = {"adapter.url.resolve": 1}
CONTAINER = {"adapter.container.start", "adapter.health.ok"}
"""A container may be there before anybody's run: these are about it, and name none."""
OBJECTS = {"storage.write": 3}
"""The one output, the index, the receipt."""


class OwnInterpreter:
    """Processors run under the tests' own interpreter: no environment has to be made."""

    async def python_for(self, folder: Path, mode: str, on_progress: Callable[[str], None]) -> Path:
        del folder, mode, on_progress
        return Path(sys.executable)


@pytest.fixture
def endpoint() -> Iterator[Any]:
    """An OpenAI-compatible endpoint on loopback that proposes nothing, or fails."""
    state = SimpleNamespace(status=200, keys=[])
    call = {"function": {"name": "propose", "arguments": '{"transitions":[]}'}}
    usage = {"prompt_tokens": 7, "completion_tokens": 1}
    answer = {"choices": [{"message": {"tool_calls": [call], "content": WORD}}], "usage": usage}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            state.keys.append(self.headers["Authorization"])
            body = json.dumps(answer).encode()
            self.send_response(state.status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as served:
        thread = threading.Thread(target=served.serve_forever, args=(0.05,))
        thread.start()
        state.url = f"http://127.0.0.1:{served.server_port}"
        yield state
        served.shutdown()
        thread.join()


@asynccontextmanager
async def opened(home: Path, url: str) -> AsyncIterator[Services]:
    registry = home / "registry"
    shutil.copytree(configuration.assets("registry"), registry)
    policy = registry / "policies" / "default.yaml"
    told = policy.read_text().replace("uri_allow: []", f'uri_allow: ["{url}"]')
    policy.write_text(told.replace("max_attempts: 2", "max_attempts: 1"))
    environment = {
        "THEORY_LOG": "info",
        "THEORY_REGISTRY": str(registry),
        "OPENAI_API_KEY": KEY,
    }
    settings = configuration.read(environment, home=home / "home")
    try:
        async with open_engine(settings, environments=OwnInterpreter()) as services:
            yield services
    finally:
        structlog.reset_defaults()


async def planned(services: Services, url: str) -> PlanView:
    """How a plan ends whose one transition asks a model."""
    goal = {"name": "artifact.exists@1", "params": {"path": f"/artifacts/{WORD}/"}}
    inputs = {
        "goal": {"$verdict": goal},
        "wanted": "frames",
        "world": {"$world": "/artifacts/"},
        "kinds": [],
        "catalogue": [],
        "endpoint": f"{url}/v1",
    }
    think = {"processor_ref": "agent/planner@1", "mode": "real", "inputs": inputs}
    document: dict[str, Any] = {"schema": "theory.plan.v1", "plan": "p", "budget": {}}
    document["transitions"] = {"think": think}
    applied = await services.plans.apply(document, tenant="local", by="test")
    async with asyncio.timeout(90):
        while True:
            view = await services.queries.show(applied.plan)
            if view.status in {"completed", "failed"}:
                return view
            await asyncio.sleep(0.05)


@pytest.mark.scenario(95)
@pytest.mark.parametrize(
    ("status", "ending"),
    [
        (200, {"provider.response": 1, "execution.settle": 1, "storage.write": 3}),
        (500, {"execution.fail": 1, "error.ERR_PROVIDER": 1, "storage.write": 1}),
    ],
)
async def test_a_run_in_mode_real_is_logged_step_by_step_without_what_it_is_about(
    endpoint: Any,  # noqa: ANN401 - the stand-in's state
    capfd: pytest.CaptureFixture[str],
    status: int,
    ending: dict[str, int],
) -> None:
    endpoint.status = status
    with short_folder() as home:
        async with opened(home, endpoint.url) as services:
            view = await planned(services, endpoint.url)
    assert view.status == ("completed" if status == 200 else "failed"), view
    assert endpoint.keys == [f"Bearer {KEY}"]
    said = capfd.readouterr()
    lines = [json.loads(line) for line in said.err.splitlines()]
    expected = {**RUN, **CALLED, **SOCKET, **ending}
    counted = Counter(line["event"] for line in lines)
    every = {"provider.response", "execution.settle", "execution.fail", *expected}
    assert {name: counted[name] for name in every} == dict.fromkeys(every, 0) | expected
    calls = [line for line in lines if line["event"].startswith("provider.")]
    for line in calls:
        assert set(line) - {"ts", "level", "version"} == {
            "event",
            "execution_id",
            "processor_ref",
            "adapter",
            "mode",
        }
    for word in (KEY, WORD, "propose"):
        assert word not in said.out + said.err


WAYS: dict[str, tuple[Callable[[Path], AbstractAsyncContextManager[Desk]], dict[str, int]]] = {
    "process": (over_process, CALLED | SOCKET | OBJECTS),
    "local": (over_local, CALLED | SOCKET | OBJECTS | {"adapter.container.start": 1}),
    "local-http": (over_local_http, CALLED | HTTP | OBJECTS | LOOKED_UP),
    "modal": (over_modal, CALLED | SOCKET | OBJECTS | LOOKED_UP),
    "modal-http": (over_modal_http, CALLED | HTTP | OBJECTS | LOOKED_UP),
}
NAMES = sorted({name for _, expected in WAYS.values() for name in expected})


@pytest.mark.parametrize(
    "way", [pytest.param(way, marks=pytest.mark.slow) if way == "local" else way for way in WAYS]
)
async def test_every_transport_logs_its_steps_once(way: str) -> None:
    over, expected = WAYS[way]
    with short_folder() as home:
        async with over(home) as desk:
            with capture_logs() as lines:
                envelope = await desk.run({"do": "many", "count": 1})
    assert envelope["status"] == "success"
    counted = Counter(str(line["event"]) for line in lines)
    assert {name: counted[name] for name in NAMES} == dict.fromkeys(NAMES, 0) | expected
    own = set(expected) - (CONTAINER if way == "local" else set())
    assert all(line.get("execution_id") == "x1" for line in lines if line["event"] in own)
