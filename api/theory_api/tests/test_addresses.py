"""An address is judged again at admission: whoever proposed a run, its policy's list counts."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import structlog

from theory_api import settings as configuration
from theory_api.domain import planning
from theory_api.wiring import open_engine


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
