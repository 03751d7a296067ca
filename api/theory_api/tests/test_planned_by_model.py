"""A planner that asks a model, through the whole loop: what is there, a tool call, and its steps.

The endpoint is a server on loopback that a policy lists. Slow: the environments of mode real are
made as mode real makes them.
"""

# ruff: noqa: ANN401 - documents hold anything, and the stand-in a state of its own

from __future__ import annotations

import asyncio
import http.server
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import structlog

from theory_api.domain.documents import parse_document
from theory_api.services.plans import Attachment
from theory_api.services.views import PlanView
from theory_api.tests.endpoint import listening, told
from theory_api.wiring import open_engine
from theory_core import canonicalize, digest, loads_strict

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

KEY = "sk-canary-7d1c3a9e5b2f4086"
EXAMPLE = Path(__file__).resolve().parents[3] / "docs" / "examples" / "planned-shotlist.yaml"
TEXT = Attachment(b"The tide turns the wheel of the mill twice a day.\n", "text/plain")
SCRIPT = canonicalize(
    {
        "schema": "theory.script.v1",
        "title": "A mill",
        "source": digest(b""),
        "lines": ["The tide turns the wheel.", "Twice a day."],
    }
)
READY = Attachment(SCRIPT, "application/json")
WRITTEN = ["The Tide Mill\n", "The tide turns the wheel.\n", "Twice a day it does.\n"]
PLANNING = {"prompt_tokens": 400, "completion_tokens": 40, "total_tokens": 440}
WRITING = {"prompt_tokens": 1000, "completion_tokens": 100, "total_tokens": 1100}


def steps_for(asked: Mapping[str, Any], url: str) -> list[dict[str, Any]]:
    """What a sensible model answers: from a script in one step, else by way of one.

    The first processor that makes a script is one that nobody has, until it is told so.
    """
    kinds = {item["kind"]: item["path"] for item in asked["world"]}
    script: dict[str, Any] = {"$artifact": kinds.get("script")}
    steps = []
    if "script" not in kinds:
        barred = (asked["refused"] or {}).get("processor_ref")
        ref = next(
            entry["ref"]
            for entry in asked["catalogue"]
            if "script" in entry["makes"] and entry["ref"] != barred
        )
        inputs = {"task": "script", "text": {"$artifact": kinds["text"]}, "endpoint": url}
        steps.append({"id": "write", "processor_ref": ref, "inputs": inputs})
        script = {"$output": {"transition": "write", "path": "outputs/script.json"}}
    shoot = {"id": "shoot", "processor_ref": "media/shotlist@1", "inputs": {"script": script}}
    return [*steps, shoot]


@pytest.fixture
def endpoint() -> Iterator[Any]:
    """An OpenAI-compatible server: a tool is called, a text is streamed; it keeps the questions."""
    state = SimpleNamespace(url="", planned=[], written=0, keys=set())

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            state.keys.add(self.headers["Authorization"])
            if "tools" in body:
                self._plan(json.loads(body["messages"][1]["content"]))
            else:
                self._write()

        def _plan(self, asked: dict[str, Any]) -> None:
            state.planned.append(asked)
            arguments = json.dumps({"transitions": steps_for(asked, state.url)})
            function = {"name": "propose", "arguments": arguments}
            call = {"id": "c", "type": "function", "function": function}
            message = {"role": "assistant", "content": None, "tool_calls": [call]}
            answer = {"choices": [{"index": 0, "message": message}], "usage": PLANNING}
            self._start("application/json")
            self.wfile.write(json.dumps(answer).encode())

        def _write(self) -> None:
            state.written += 1
            self._start("text/event-stream")
            for piece in WRITTEN:
                self._event([{"index": 0, "delta": {"content": piece}, "finish_reason": None}])
            self._event([{"index": 0, "delta": {}, "finish_reason": "stop"}])
            self._event([], usage=WRITING)
            self.wfile.write(b"data: [DONE]\n\n")

        def _event(self, choices: list[dict[str, Any]], **more: Any) -> None:
            about = {"id": "c1", "object": "chat.completion.chunk", "created": 1}
            body = {**about, "model": "gpt-4o-mini", "choices": choices, **more}
            self.wfile.write(b"data: " + json.dumps(body).encode() + b"\n\n")

        def _start(self, kind: str) -> None:
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with listening(Handler) as port:
        state.url = f"http://127.0.0.1:{port}/v1"
        yield state


async def carried_out(
    tmp_path: Path, endpoint: Any, *, filmed: bool = False, **attachments: Attachment
) -> tuple[PlanView, dict[str, Any]]:
    """The example completed in mode real, and what its planner was told."""
    document = parse_document(EXAMPLE.read_bytes(), name=EXAMPLE.name)
    think = document["transitions"]["think"]
    think["mode"] = "real"
    think["inputs"]["endpoint"] = endpoint.url
    if filmed:
        film = {"processor_ref": "media/shotlist@1", "inputs": {"script": {"$attach": "script"}}}
        film |= {"mode": "mock", "write_prefix": "/artifacts/film/{execution_id}/"}
        document["transitions"]["film"] = film
        think["depends_on"] = ["film"]
    try:
        async with open_engine(
            told(tmp_path, endpoint.url.removesuffix("/v1"), key=KEY)
        ) as services:
            applied = await services.plans.apply(
                document, tenant="local", by="test", attachments=attachments
            )
            while True:
                view = await services.queries.show(applied.plan)
                if view.status in {"completed", "failed", "cancelled"}:
                    break
                await asyncio.sleep(0.1)
            report = await services.ledgers.verify(applied.plan, laws=True)
            assert report.fault is None, report
            assert view.status == "completed", view.error
            lines = [line async for line in services.ledgers.export(applied.plan)]
            events = [json.loads(line)["event"] for line in lines]
            (inputs,) = (
                event["data"]["inputs"]
                for event in events
                if event["kind"] == "execution.started" and event["data"]["transition"] == "think"
            )
            params = loads_strict(await services.queries.document(inputs))["params"]
    finally:
        structlog.reset_defaults()
    home = tmp_path / "home"
    kept = b"".join(file.read_bytes() for file in sorted(home.rglob("*")) if file.is_file())
    assert KEY.encode() not in kept
    return view, params


def steps(view: PlanView) -> list[tuple[str, str]]:
    return sorted((step.transition, step.status) for step in view.transitions)


async def test_a_model_is_told_what_is_really_there_and_takes_it(
    tmp_path: Path, endpoint: Any
) -> None:
    view, params = await carried_out(tmp_path, endpoint, text=TEXT, script=READY)
    assert steps(view) == [("shoot", "succeeded"), ("think", "succeeded")]
    (asked,) = endpoint.planned
    assert asked["world"] == [
        {"path": "/artifacts/attachments/script", "kind": "script"},
        {"path": "/artifacts/attachments/text", "kind": "text"},
    ]
    assert asked["goal"] == params["goal"]["$verdict"]
    assert asked["goal"]["verdict"] == "false"
    assert endpoint.keys == {f"Bearer {KEY}"}
    spent = {line.dimension: line.spent for line in view.budget}
    assert spent["tokens"] == PLANNING["total_tokens"]
    assert spent["usd_micro"] == 84, "400 at 0.15 and 40 at 0.60 dollars a million"
    assert any(one.path.startswith("/artifacts/film/") for one in view.outputs)


async def test_without_it_the_model_has_another_plan_after_it_was_told_of_a_refusal(
    tmp_path: Path, endpoint: Any
) -> None:
    view, _ = await carried_out(tmp_path, endpoint, text=TEXT)
    assert steps(view) == [
        ("shoot", "succeeded"),
        ("think", "succeeded"),
        ("think.again", "succeeded"),
        ("write", "succeeded"),
    ]
    first, second = endpoint.planned
    assert first["world"] == [{"path": "/artifacts/attachments/text", "kind": "text"}]
    assert (first["refused"], second["refused"]["code"]) == (None, "ERR_NOT_FOUND")
    assert endpoint.written == 1
    spent = {line.dimension: line.spent for line in view.budget}
    assert spent["tokens"] == 2 * PLANNING["total_tokens"] + WRITING["total_tokens"]


async def test_a_model_is_asked_nothing_where_the_goal_holds(tmp_path: Path, endpoint: Any) -> None:
    view, params = await carried_out(tmp_path, endpoint, filmed=True, text=TEXT, script=READY)
    assert steps(view) == [("film", "succeeded"), ("think", "succeeded")]
    assert params["goal"]["$verdict"]["verdict"] == "true"
    assert endpoint.planned == []
