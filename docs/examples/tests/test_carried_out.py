"""Example plans are carried out, and what they promise is looked up afterwards."""

# ruff: noqa: ANN401 - a fixture that opens homes, and facts of any kind

from __future__ import annotations

import asyncio
import contextlib
import shutil
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

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
SPOKEN = EXAMPLES / "spoken-text.yaml"
TESTED = EXAMPLES / "tested-repository.yaml"
TEXT = EXAMPLES / "sample-speech.txt"
REGISTRY = EXAMPLES.parents[1] / "registry"


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


def listing(folder: Path, address: str) -> Path:
    """A copy of the shipped registry whose default policy lists an address."""
    shutil.copytree(REGISTRY, folder)
    policy = folder / "policies" / "default.yaml"
    policy.write_text(policy.read_text().replace("uri_allow: []", f'uri_allow: ["{address}"]'))
    return folder


@pytest.fixture
def open_home(tmp_path: Path) -> Callable[[], contextlib.AbstractAsyncContextManager[Services]]:
    @contextlib.asynccontextmanager
    async def opened() -> AsyncIterator[Services]:
        registry = listing(tmp_path / "registry", "https://git.example.org")
        environment = {"THEORY_LOG": "error", "THEORY_REGISTRY": str(registry)}
        settings = configuration.read(environment, home=tmp_path / "home")
        try:
            async with open_engine(settings, environments=OwnInterpreter()) as services:
                yield services
        finally:
            structlog.reset_defaults()

    return opened


@pytest.mark.parametrize(("plan", "attached"), [(SPOKEN, ["text"]), (TESTED, [])])
def test_its_budget_holds_both_steps_and_the_dearest_once_more(
    tmp_path: Path, plan: Path, attached: list[str]
) -> None:
    document = read(parse_document(plan.read_bytes(), name=plan.name))
    snapshot = load_registry(listing(tmp_path / "registry", "https://git.example.org"))
    planned = resolve(document, tenant="local", snapshot=snapshot, attached=attached)
    asks: dict[str, list[int]] = {}
    for step in planned.proposals:
        for dimension, amount in step.hold.items():
            asks.setdefault(dimension, []).append(amount)
    assert planned.limit == {
        dimension: sum(amounts) + max(amounts) for dimension, amounts in asks.items()
    }


@pytest.mark.parametrize(("least_ms", "status"), [(2000, "completed"), (50_000, "failed")])
async def test_a_text_is_spoken_and_held_to_what_was_measured(
    open_home: Any, least_ms: int, status: str
) -> None:
    document = parse_document(SPOKEN.read_bytes(), name=SPOKEN.name)
    document["goal"][1]["params"]["min_ms"] = least_ms
    async with open_home() as services:
        applied = await services.plans.apply(
            document,
            tenant="local",
            by="test",
            attachments={"text": Attachment(TEXT.read_bytes(), "text/plain")},
        )
        view = await finished(services, applied.plan)
        stated = await facts(services, view)
    assert view.status == status, view.error
    assert all(step.status == "succeeded" for step in view.transitions)
    assert (stated["container"], 5000 < stated["duration_ms"] < 20_000) == ("wav", True)


@pytest.mark.parametrize(("least", "status"), [(1, "completed"), (2, "failed")])
async def test_a_repository_is_tested_and_held_to_its_report(
    open_home: Any, least: int, status: str
) -> None:
    document = parse_document(TESTED.read_bytes(), name=TESTED.name)
    document["goal"][0]["params"]["min"] = least
    async with open_home() as services:
        applied = await services.plans.apply(document, tenant="local", by="test")
        view = await finished(services, applied.plan)
        stated = await facts(services, view)
    assert view.status == status, [step.error_code for step in view.transitions]
    assert all(step.status == "succeeded" for step in view.transitions)
    assert (stated["tests"], stated["passed"], stated["exit_code"]) == (1, 1, 0)


async def facts(services: Services, view: PlanView) -> Any:
    """What the plan's last step stated."""
    made = view.transitions[-1].executions[-1].write_prefix
    (found,) = [one for one in view.outputs if one.path == f"{made}outputs/facts.json"]
    return loads_strict(await services.queries.document(found.cid))
