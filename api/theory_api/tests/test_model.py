"""A model behind a real endpoint, through the whole loop: tokens, cost, failures, and the key.

The library is the one that mode real installs, in the environment that mode real makes; the
endpoint is a server on loopback that a policy lists. Slow: the environment takes a minute.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.server
import json
import socket
import subprocess
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import structlog

from theory_api.adapters.process.environment import Environments
from theory_api.services.views import PlanView
from theory_api.settings import Settings, assets
from theory_api.tests.endpoint import listening, told
from theory_api.tests.engine import connected, image
from theory_api.wiring import Services, open_engine

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

KEY = "sk-canary-5f2e0d9b7a6c4e31"
TEXT = "The tide turns the wheel of the mill twice a day."
PIECES = ["The Tide Mill\n", "The tide turns ", "the wheel.\n", "Twice a day it does.\n"]
USAGE = {"prompt_tokens": 1000, "completion_tokens": 100, "total_tokens": 1100}


def chunk(delta: dict[str, str], **more: Any) -> bytes:  # noqa: ANN401 - members of a chunk
    choice = {"index": 0, "delta": delta, "finish_reason": more.pop("finish", None)}
    body = {
        "id": "c1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "gpt-4o-mini",
        "choices": [choice],
        **more,
    }
    return b"data: " + json.dumps(body).encode() + b"\n\n"


@pytest.fixture
def endpoint() -> Iterator[Any]:
    """An OpenAI-compatible server whose manner a test chooses; it keeps what it was asked."""
    state = SimpleNamespace(manner="good", elsewhere="", asked=[], leave=threading.Event())

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            state.asked.append((self.path, self.headers["Authorization"], body))
            with contextlib.suppress(ConnectionError):
                getattr(self, state.manner)()

        def good(self) -> None:
            self._start(200, "text/event-stream")
            for piece in PIECES:
                self.wfile.write(chunk({"content": piece}))
            self.wfile.write(chunk({}, finish="stop"))
            usage = json.loads(chunk({})[6:]) | {"choices": [], "usage": USAGE}
            self.wfile.write(b"data: " + json.dumps(usage).encode() + b"\n\ndata: [DONE]\n\n")

        def broken(self) -> None:
            self._start(500, "application/json")
            self.wfile.write(json.dumps({"error": {"message": f"echo of {KEY}"}}).encode())

        def garbage(self) -> None:
            self._start(200, "text/event-stream")
            self.wfile.write(b"data: {no json, echo of " + KEY.encode() + b"\n\n")

        def moved(self) -> None:
            self.send_response(307)
            self.send_header("Location", state.elsewhere)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def silent(self) -> None:
            state.leave.wait(60)

        def _start(self, status: int, kind: str) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with listening(Handler) as port:
        state.url = f"http://127.0.0.1:{port}"
        yield state
        state.leave.set()


def document(
    endpoint: Any,  # noqa: ANN401 - as above
    mode: str = "real",
    adapter: str = "process",
) -> dict[str, Any]:
    inputs = {
        "task": "script",
        "text": TEXT,
        "endpoint": f"{endpoint.url}/v1",
        # The price of whoever writes the plan counts for nothing: the table's does.
        "price": {"input": 0, "output": 0},
    }
    write = {"processor_ref": "llm/litellm@1", "mode": mode, "adapter": adapter, "inputs": inputs}
    budget = {"usd_micro": 20_000, "tokens": 60_000}
    return {
        "schema": "theory.plan.v1",
        "plan": f"told-{mode}",
        "budget": budget,
        "transitions": {"write": write},
    }


@contextlib.asynccontextmanager
async def opened(settings: Settings) -> AsyncIterator[Services]:
    try:
        async with open_engine(settings) as services:
            yield services
    finally:
        structlog.reset_defaults()


async def finished(services: Services, given: dict[str, Any]) -> PlanView:
    applied = await services.plans.apply(given, tenant="local", by="test")
    while True:
        view = await services.queries.show(applied.plan)
        if view.status in {"completed", "failed", "cancelled"}:
            return view
        await asyncio.sleep(0.1)


def everything(folder: Path) -> bytes:
    """All bytes that a home holds."""
    return b"".join(file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file())


def spent(view: PlanView) -> dict[str, int]:
    return {line.dimension: line.spent for line in view.budget}


@pytest.fixture(params=["process", "local"])
def adapter(request: pytest.FixtureRequest) -> str:
    """A child process, or a container of this machine's engine, for which its image is built."""
    name: str = request.param
    if name == "local":
        client = connected()
        folder = assets("processors") / "llm" / "litellm" / "1"
        image(client, "llm/litellm@1", folder, mode="real")
        client.close()
    return name


@pytest.mark.scenario(82)
async def test_tokens_stream_and_cost_what_the_pinned_table_says(
    tmp_path: Path,
    endpoint: Any,  # noqa: ANN401 - the stand-in's state
    adapter: str,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """A container has no network: what it asks goes the one way out that its policy lists."""
    async with opened(told(tmp_path, endpoint.url, key=KEY, log="debug")) as services:
        view = await finished(services, document(endpoint, adapter=adapter))
        assert view.status == "completed", view.error
        (script,) = [one for one in view.outputs if one.path.endswith("/outputs/script.json")]
        stated = json.loads(await services.queries.document(script.cid))
        (attempt,) = view.transitions[0].executions
        trace = f"/artifacts/execution/{attempt.execution_id}/trace.jsonl"
        content = await services.queries.artifact(view.plan, trace)
        lines = b"".join([piece async for piece in content.stream(0, None)]).splitlines()
    assert stated["title"] == "The Tide Mill"
    assert stated["lines"] == ["The tide turns the wheel.", "Twice a day it does."]
    frames = [json.loads(line) for line in lines]
    assert [frame["frame"] for frame in frames if "frame" in frame].count("Token") == len(PIECES)
    assert spent(view)["tokens"] == USAGE["total_tokens"]
    assert spent(view)["usd_micro"] == 210, "1000 at 0.15 and 100 at 0.60 dollars a million"
    ((path, authorization, asked),) = endpoint.asked
    assert (path, authorization) == ("/v1/chat/completions", f"Bearer {KEY}")
    assert asked["messages"][1]["content"] == TEXT
    assert asked["stream"] is True
    said = capfd.readouterr()
    assert KEY not in said.out + said.err
    assert TEXT not in said.out + said.err
    assert said.err.count('"adapter.egress.closed"') == (1 if adapter == "local" else 0)
    assert KEY.encode() not in everything(tmp_path / "home")


async def test_a_provider_that_fails_is_coded_retried_and_keeps_its_secrets(
    tmp_path: Path,
    endpoint: Any,  # noqa: ANN401 - the stand-in's state
    capfd: pytest.CaptureFixture[str],
) -> None:
    endpoint.manner = "broken"
    async with opened(told(tmp_path, endpoint.url, key=KEY, log="debug")) as services:
        view = await finished(services, document(endpoint))
    assert view.status == "failed"
    (step,) = view.transitions
    assert (step.error_code, len(step.executions)) == ("ERR_PROVIDER", 2)
    assert len(endpoint.asked) == 2, "the library itself repeats nothing"
    said = capfd.readouterr()
    home = everything(tmp_path / "home")
    for word in (KEY, "echo of"):
        assert word not in said.out + said.err
        assert word.encode() not in home


async def test_mock_reads_no_key_and_asks_nobody(
    tmp_path: Path,
    endpoint: Any,  # noqa: ANN401 - the stand-in's state
    capfd: pytest.CaptureFixture[str],
) -> None:
    async with opened(told(tmp_path, endpoint.url, key=KEY, log="debug")) as services:
        view = await finished(services, document(endpoint, mode="mock"))
    assert view.status == "completed", view.error
    assert endpoint.asked == []
    said = capfd.readouterr()
    assert KEY not in said.out + said.err
    assert KEY.encode() not in everything(tmp_path / "home")


CALL = """
import json, runpy, sys
from pathlib import Path
from theory_core import TheoryError
from theory_runtime import Config, vault

provider = runpy.run_path(sys.argv[1])
settings = provider["_ask_model"].__globals__
settings["REQUEST_TIMEOUT_S"] = 2
vault.grant(vault.Vault(Path(sys.argv[3]), ("OPENAI_API_KEY",)))
config = Config("llm/litellm@1", "real", "x1", Path(), lambda *_: None)
try:
    params = {"task": "script", "text": "t", "endpoint": sys.argv[2], **json.loads(sys.argv[4])}
    provider["make_runner"](config)(params)
except TheoryError as error:
    print(json.dumps([error.code, error.detail]))
"""


async def call(
    tmp_path: Path,
    endpoint: Any,  # noqa: ANN401 - the stand-in's state
    url: str,
    **params: str,
) -> tuple[str, dict[str, str]]:
    """How the provider fails when it is called in the environment that mode real makes."""
    settings = told(tmp_path, endpoint.url, key=KEY, log="debug")
    folder = settings.processors / "llm" / "litellm" / "1"
    environments = Environments(settings.cache / "environments", settings.wheels)
    python = await environments.python_for(folder, "real", lambda _text: None)
    (tmp_path / "OPENAI_API_KEY").write_text(KEY)
    command = [str(python), "-c", CALL, str(folder / "provider.py"), url, str(tmp_path)]
    command.append(json.dumps(params))
    done = await asyncio.to_thread(
        subprocess.run, command, check=True, capture_output=True, text=True
    )
    assert KEY not in done.stdout + done.stderr
    assert "echo of" not in done.stdout + done.stderr
    code, detail = json.loads(done.stdout.splitlines()[-1])
    return code, detail


@pytest.mark.parametrize("manner", ["broken", "garbage", "silent"])
async def test_every_kind_of_failure_is_the_providers(
    tmp_path: Path,
    endpoint: Any,  # noqa: ANN401 - the stand-in's state
    manner: str,
) -> None:
    endpoint.manner = manner
    code, detail = await call(tmp_path, endpoint, f"{endpoint.url}/v1")
    assert code == "ERR_PROVIDER"
    assert set(detail) == {"reason"}
    assert len(endpoint.asked) == 1


@pytest.mark.scenario(98)
@pytest.mark.parametrize("model", ["openai/gpt-4o-mini", "groq/m", "gpt-5.2", "ollama/m"])
async def test_a_listed_endpoint_hands_nothing_on_to_another(
    tmp_path: Path,
    endpoint: Any,  # noqa: ANN401 - the stand-in's state
    model: str,
) -> None:
    endpoint.manner = "moved"
    with socket.create_server(("127.0.0.1", 0)) as other:
        other.settimeout(0.2)
        endpoint.elsewhere = f"http://127.0.0.1:{other.getsockname()[1]}/v1/chat/completions"
        code, _ = await call(tmp_path, endpoint, f"{endpoint.url}/v1", model=model)
        with pytest.raises(TimeoutError):
            other.accept()
    assert (code, len(endpoint.asked)) == ("ERR_PROVIDER", 1)


@pytest.mark.scenario(98)
async def test_a_name_that_leads_inside_gets_neither_key_nor_text(
    tmp_path: Path,
    endpoint: Any,  # noqa: ANN401 - the stand-in's state
) -> None:
    url = endpoint.url.replace("127.0.0.1", "localhost")
    code, detail = await call(tmp_path, endpoint, f"{url}/v1")
    assert (code, detail, endpoint.asked) == ("ERR_INPUTS", {"reason": "address_private"}, [])


@pytest.mark.parametrize("model", ["openai/gpt-5-pro", "responses/m"])
async def test_a_model_that_is_no_chat_is_refused(
    tmp_path: Path,
    endpoint: Any,  # noqa: ANN401 - the stand-in's state
    model: str,
) -> None:
    code, detail = await call(tmp_path, endpoint, f"{endpoint.url}/v1", model=model)
    assert (code, detail, endpoint.asked) == ("ERR_INPUTS", {"reason": "model"}, [])
