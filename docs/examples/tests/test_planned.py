"""A plan with a goal and a planner: what it proposes is carried out, and depends on its world."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import structlog

from theory_api import settings as configuration
from theory_api.domain.documents import parse_document
from theory_api.services.plans import Attachment
from theory_api.services.views import PlanView
from theory_api.wiring import Services, open_engine
from theory_core import canonicalize, digest

EXAMPLES = Path(__file__).resolve().parents[1]
PLAN = EXAMPLES / "planned-shotlist.yaml"
SAMPLE = EXAMPLES / "sample.txt"
SCRIPT = canonicalize(
    {
        "schema": "theory.script.v1",
        "title": "A mill",
        "source": digest(b""),
        "lines": ["The tide turns the wheel.", "Twice a day."],
    }
)


class OwnInterpreter:
    """Processors run under the tests' own interpreter: no environment has to be made."""

    async def python_for(self, folder: Path, mode: str, on_progress: Callable[[str], None]) -> Path:
        assert (folder.name, mode) == ("1", "mock")
        on_progress("nothing to make")
        return Path(sys.executable)


async def finished(services: Services, plan: str) -> PlanView:
    while True:
        view = await services.queries.show(plan)
        if view.status in {"completed", "failed", "cancelled"}:
            return view
        await asyncio.sleep(0.1)


async def carried_out(
    folder: Path, change: Callable[[dict[str, Any]], None] = lambda _inputs: None
) -> PlanView:
    """The plan at its end, the planner's inputs changed before."""
    document = parse_document(PLAN.read_bytes(), name=PLAN.name)
    change(document["transitions"]["think"]["inputs"])
    settings = configuration.read({"THEORY_LOG": "error"}, home=folder / "home")
    attachments = {
        "text": Attachment(SAMPLE.read_bytes(), "text/plain"),
        "script": Attachment(SCRIPT, "application/json"),
    }
    try:
        async with open_engine(settings, environments=OwnInterpreter()) as services:
            applied = await services.plans.apply(
                document, tenant="local", by="test", attachments=attachments
            )
            return await finished(services, applied.plan)
    finally:
        structlog.reset_defaults()


def steps(view: PlanView) -> list[tuple[str, str]]:
    return [(step.transition, step.status) for step in view.transitions]


@pytest.mark.slow
async def test_a_refused_proposal_is_told_once_and_another_way_leads_to_the_goal(
    tmp_path: Path,
) -> None:
    view = await carried_out(tmp_path)
    assert view.status == "completed", view.error
    assert sorted(steps(view)) == [
        ("make-script", "succeeded"),
        ("make-shotlist", "succeeded"),
        ("think", "succeeded"),
        ("think.again", "succeeded"),
    ]
    assert any(one.path.startswith("/artifacts/film/") for one in view.outputs)


@pytest.mark.slow
async def test_another_world_has_another_plan(tmp_path: Path) -> None:
    def with_script(inputs: dict[str, Any]) -> None:
        inputs["world"].append({"path": "/artifacts/attachments/script", "kind": "script"})

    view = await carried_out(tmp_path, with_script)
    assert view.status == "completed", view.error
    assert sorted(steps(view)) == [("make-shotlist", "succeeded"), ("think", "succeeded")]


@pytest.mark.slow
async def test_a_second_refusal_ends_the_plan_with_its_code(tmp_path: Path) -> None:
    def nobody_left(inputs: dict[str, Any]) -> None:
        inputs["catalogue"][2]["ref"] = "llm/nobody@1"

    view = await carried_out(tmp_path, nobody_left)
    assert view.status == "failed"
    assert steps(view) == [("think", "succeeded"), ("think.again", "failed")]
    assert view.error is not None
    assert view.error.detail["cause"] == "ERR_NOT_FOUND"
