"""The plan that speaks a text is carried out, and what it promises is looked up afterwards."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import structlog

from theory_api import settings as configuration
from theory_api.delivery.snapshot import load_registry
from theory_api.domain.document import read
from theory_api.domain.documents import parse_document
from theory_api.domain.planning import resolve
from theory_api.services.plans import Attachment
from theory_api.services.views import PlanView
from theory_api.wiring import Services, open_engine
from theory_core import loads_strict

EXAMPLES = Path(__file__).resolve().parents[1]
PLAN = EXAMPLES / "spoken-text.yaml"
TEXT = EXAMPLES / "sample-speech.txt"


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


def test_its_budget_holds_both_steps_and_the_dearest_once_more() -> None:
    document = read(parse_document(PLAN.read_bytes(), name=PLAN.name))
    snapshot = load_registry(EXAMPLES.parents[1] / "registry")
    planned = resolve(document, tenant="local", snapshot=snapshot, attached=["text"])
    asks: dict[str, list[int]] = {}
    for step in planned.proposals:
        for dimension, amount in step.hold.items():
            asks.setdefault(dimension, []).append(amount)
    assert planned.limit == {
        dimension: sum(amounts) + max(amounts) for dimension, amounts in asks.items()
    }


@pytest.mark.parametrize(("least_ms", "status"), [(2000, "completed"), (50_000, "failed")])
async def test_it_speaks_measures_and_holds_to_what_was_measured(
    tmp_path: Path, least_ms: int, status: str
) -> None:
    document = parse_document(PLAN.read_bytes(), name=PLAN.name)
    document["goal"][1]["params"]["min_ms"] = least_ms
    settings = configuration.read({"THEORY_LOG": "error"}, home=tmp_path / "home")
    try:
        async with open_engine(settings, environments=OwnInterpreter()) as services:
            applied = await services.plans.apply(
                document,
                tenant="local",
                by="test",
                attachments={"text": Attachment(TEXT.read_bytes(), "text/plain")},
            )
            view = await finished(services, applied.plan)
            (found,) = [one for one in view.outputs if one.path.endswith("/outputs/facts.json")]
            stated = loads_strict(await services.queries.document(found.cid))
    finally:
        structlog.reset_defaults()
    assert view.status == status, view.error
    assert all(step.status == "succeeded" for step in view.transitions)
    assert (stated["container"], 5000 < stated["duration_ms"] < 20_000) == ("wav", True)
