"""Mode mock with secrets at hand: none is read, written or sent, whatever processor runs."""

from __future__ import annotations

import asyncio
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import structlog

from theory_api import settings as configuration
from theory_api.services.views import PlanView
from theory_api.wiring import Services, open_engine

CANARY = "sk-canary-1b9d6bcd4f7a4f0e"
URL = "https://api.example.org/v1"
HELD = {
    "name": "artifact.exists@1",
    "params": {"path": "/artifacts/film/"},
    "verdict": "true",
    "reason": "1 artifact below /artifacts/film/",
}
ASKED: dict[str, dict[str, Any]] = {
    "agent/planner@1": {
        "goal": HELD,
        "wanted": "frames",
        "world": [],
        "kinds": [],
        "catalogue": [],
    },
    "llm/litellm@1": {"task": "script", "text": "The tide turns the wheel."},
    "text/embed@1": {"corpus": [{"id": "a", "text": "The tide turns the wheel."}]},
    "http/check@1": {"url": URL},
    "git/clone@1": {"url": URL},
}


class OwnInterpreter:
    """Processors run under the tests' own interpreter: no environment has to be made."""

    async def python_for(self, folder: Path, mode: str, on_progress: Callable[[str], None]) -> Path:
        assert (folder.name, mode) == ("1", "mock")
        on_progress("nothing to make")
        return Path(sys.executable)


@pytest.fixture
def registry(tmp_path: Path) -> Path:
    """The shipped registry, whose default policy lists an address."""
    folder = tmp_path / "registry"
    shutil.copytree(configuration.assets("registry"), folder)
    policy = folder / "policies" / "default.yaml"
    listed = 'uri_allow: ["https://api.example.org"]'
    policy.write_text(policy.read_text().replace("uri_allow: []", listed))
    return folder


async def finished(services: Services, plan: str) -> PlanView:
    while True:
        view = await services.queries.show(plan)
        if view.status in {"completed", "failed", "cancelled"}:
            return view
        await asyncio.sleep(0.1)


@pytest.mark.scenario(86, 95)
async def test_mock_leaves_no_trace_of_a_secret_that_is_there(
    tmp_path: Path, registry: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    document = {
        "schema": "theory.plan.v1",
        "plan": "canaries",
        "budget": {},
        "transitions": {
            ref.partition("/")[0]: {"processor_ref": ref, "mode": "mock", "inputs": inputs}
            for ref, inputs in ASKED.items()
        },
    }
    environment = {
        "THEORY_LOG": "debug",
        "THEORY_REGISTRY": str(registry),
        "OPENAI_API_KEY": CANARY,
    }
    settings = configuration.read(environment, home=tmp_path / "home")
    try:
        async with open_engine(settings, environments=OwnInterpreter()) as services:
            applied = await services.plans.apply(document, tenant="local", by="test")
            view = await finished(services, applied.plan)
    finally:
        structlog.reset_defaults()
    assert view.status == "completed", [step.error_code for step in view.transitions]
    said = capfd.readouterr()
    kept = b"".join(file.read_bytes() for file in (tmp_path / "home").rglob("*") if file.is_file())
    assert len(kept) > 10_000
    assert CANARY not in said.out + said.err
    assert CANARY.encode() not in kept
    assert b"plan.completed" in kept
    assert b"secret.used" not in kept
