"""An address is judged again at admission: whoever proposed a run, its policy's list counts."""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import structlog

from theory_api import settings as configuration
from theory_api.domain import planning
from theory_api.wiring import open_engine
from theory_core import TheoryError


class OwnInterpreter:
    """Processors run under the tests' own interpreter: no environment has to be made."""

    async def python_for(self, folder: Path, mode: str, on_progress: Callable[[str], None]) -> Path:
        assert (folder.name, mode) == ("1", "mock")
        on_progress("nothing to make")
        return Path(sys.executable)


@pytest.mark.scenario(98)
async def test_a_proposal_that_nobody_judged_is_refused_at_admission(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blind = SimpleNamespace(check=lambda *_: None)
    monkeypatch.setattr(planning, "uris", blind)
    look = {
        "processor_ref": "http/check@1",
        "mode": "mock",
        "inputs": {"url": "http://169.254.169.254/latest/meta-data/"},
    }
    document = {
        "schema": "theory.plan.v1",
        "plan": "nosy",
        "budget": {},
        "transitions": {"look": look},
    }
    settings = configuration.read({"THEORY_LOG": "error"}, home=tmp_path / "home")
    try:
        async with open_engine(settings, environments=OwnInterpreter()) as services:
            applied = await services.plans.apply(document, tenant="local", by="test")
            async with asyncio.timeout(60):
                view = await services.queries.show(applied.plan)
                while view.status not in {"completed", "failed"}:
                    await asyncio.sleep(0.1)
                    view = await services.queries.show(applied.plan)
    finally:
        structlog.reset_defaults()
    (step,) = view.transitions
    assert (view.status, step.error_code, step.executions) == ("failed", "ERR_INPUTS", [])


GOAL = {"name": "artifact.exists@1", "params": {"path": "/artifacts/film/"}}
ASKED: dict[str, dict[str, Any]] = {
    "agent/planner@1": {
        "goal": {"$verdict": GOAL},
        "wanted": "frames",
        "world": {"$world": "/artifacts/"},
        "kinds": [],
        "catalogue": [],
    },
    "llm/litellm@1": {"task": "script", "text": "The tide turns the wheel."},
    "text/embed@1": {"corpus": [{"id": "a", "text": "The tide turns the wheel."}]},
}


@pytest.mark.scenario(95, 98)
@pytest.mark.parametrize("ref", sorted(ASKED))
async def test_no_key_goes_to_an_address_that_the_shipped_policy_does_not_list(
    ref: str, tmp_path: Path
) -> None:
    environment = {"THEORY_LOG": "error", "OPENAI_API_KEY": "sk-canary-0c1d2e3f4a5b6c7d"}
    settings = configuration.read(environment, home=tmp_path / "home")
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(0.2)
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/v1"
        document = {
            "schema": "theory.plan.v1",
            "plan": "nosy",
            "budget": {},
            "transitions": {
                "ask": {
                    "processor_ref": ref,
                    "mode": "real",
                    "inputs": {**ASKED[ref], "endpoint": url},
                }
            },
        }
        try:
            async with open_engine(settings, environments=OwnInterpreter()) as services:
                with pytest.raises(TheoryError, match="uri not allowed") as caught:
                    await services.plans.apply(document, tenant="local", by="test")
        finally:
            structlog.reset_defaults()
        with pytest.raises(TimeoutError):
            listening.accept()
    assert caught.value.code == "ERR_INPUTS"
