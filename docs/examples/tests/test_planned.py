"""A plan with a goal and a planner: its proposals are carried out, and depend on what is there."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import structlog

from theory_api import settings as configuration
from theory_api.domain.documents import parse_document
from theory_api.services.plans import Attachment
from theory_api.services.views import PlanView
from theory_api.wiring import Services, open_engine
from theory_core import canonicalize, digest, loads_strict

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


TEXT = Attachment(SAMPLE.read_bytes(), "text/plain")
READY = Attachment(SCRIPT, "application/json")


@dataclass(frozen=True)
class Carried:
    """A plan at its end, what its ledger says, and what its planner was told."""

    view: PlanView
    events: list[dict[str, Any]]
    told: dict[str, Any]


async def carried_out(
    folder: Path,
    change: Callable[[dict[str, Any]], None] = lambda _transitions: None,
    **attachments: Attachment,
) -> Carried:
    """The plan carried out, its transitions changed before."""
    document = parse_document(PLAN.read_bytes(), name=PLAN.name)
    change(document["transitions"])
    settings = configuration.read({"THEORY_LOG": "error"}, home=folder / "home")
    try:
        async with open_engine(settings, environments=OwnInterpreter()) as services:
            applied = await services.plans.apply(
                document, tenant="local", by="test", attachments=attachments
            )
            view = await finished(services, applied.plan)
            lines = [line async for line in services.ledgers.export(applied.plan)]
            report = await services.ledgers.verify(applied.plan, laws=True)
            assert report.fault is None, report
            events = [json.loads(line)["event"] for line in lines]
            (inputs,) = (
                event["data"]["inputs"]
                for event in events
                if event["kind"] == "execution.started" and event["data"]["transition"] == "think"
            )
            return Carried(view, events, loads_strict(await services.queries.document(inputs)))
    finally:
        structlog.reset_defaults()


def steps(view: PlanView) -> list[tuple[str, str]]:
    return [(step.transition, step.status) for step in view.transitions]


@pytest.mark.slow
async def test_a_refused_proposal_is_told_once_and_another_way_leads_to_the_goal(
    tmp_path: Path,
) -> None:
    view = (await carried_out(tmp_path, text=TEXT)).view
    assert view.status == "completed", view.error
    assert sorted(steps(view)) == [
        ("make-script", "succeeded"),
        ("make-shotlist", "succeeded"),
        ("think", "succeeded"),
        ("think.again", "succeeded"),
    ]
    assert any(one.path.startswith("/artifacts/film/") for one in view.outputs)


@pytest.mark.slow
async def test_what_is_really_there_decides_about_the_plan(tmp_path: Path) -> None:
    carried = await carried_out(tmp_path, text=TEXT, script=READY)
    assert carried.view.status == "completed", carried.view.error
    assert sorted(steps(carried.view)) == [("make-shotlist", "succeeded"), ("think", "succeeded")]
    listed = carried.told["params"]["world"]["$world"]
    assert [(entry["path"], entry["cid"]) for entry in listed] == [
        ("/artifacts/attachments/script", digest(SCRIPT)),
        ("/artifacts/attachments/text", digest(SAMPLE.read_bytes())),
    ]
    stamps = [
        event["data"]["verdict"]
        for event in carried.events
        if event["kind"] == "predicate.checked" and event["data"].get("transition") == "think"
    ]
    assert {stamp["name"]: stamp["reason"] for stamp in stamps} == {
        "world.listed@1": f"2 below /artifacts/, {digest(canonicalize(listed))}",
        "world.judged@1": "artifact.exists@1 is false: 0 of 1 below /artifacts/film/",
    }
    attached = next(item["seq"] for item in carried.events if item["kind"] == "artifact.produced")
    assert all(stamp["at_seq"] >= attached for stamp in stamps)


@pytest.mark.slow
async def test_where_the_goal_holds_nothing_is_proposed(tmp_path: Path) -> None:
    def filmed_before(transitions: dict[str, Any]) -> None:
        transitions["film"] = {
            "processor_ref": "media/shotlist@1",
            "mode": "mock",
            "write_prefix": "/artifacts/film/{execution_id}/",
            "inputs": {"script": {"$attach": "script"}},
        }
        transitions["think"]["depends_on"] = ["film"]

    carried = await carried_out(tmp_path, filmed_before, text=TEXT, script=READY)
    assert carried.view.status == "completed", carried.view.error
    assert sorted(steps(carried.view)) == [("film", "succeeded"), ("think", "succeeded")]
    assert carried.told["params"]["goal"]["$verdict"]["verdict"] == "true"


@pytest.mark.slow
async def test_a_second_refusal_ends_the_plan_with_its_code(tmp_path: Path) -> None:
    def nobody_left(transitions: dict[str, Any]) -> None:
        transitions["think"]["inputs"]["catalogue"][2]["ref"] = "llm/nobody@1"

    view = (await carried_out(tmp_path, nobody_left, text=TEXT)).view
    assert view.status == "failed"
    assert steps(view) == [("think", "succeeded"), ("think.again", "failed")]
    assert view.error is not None
    assert view.error.detail["cause"] == "ERR_NOT_FOUND"
