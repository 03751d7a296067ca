"""The shipped plan fits the shipped registry, and its budget one attempt more than it needs."""

from pathlib import Path

import pytest

from theory_api.delivery.snapshot import load_registry
from theory_api.domain.document import PlanDocument, read
from theory_api.domain.documents import parse_document
from theory_api.domain.planning import Planned, resolve
from theory_api.domain.registry import RegistrySnapshot
from theory_core import canonicalize_json

EXAMPLES = Path(__file__).resolve().parents[1]
PLAN = EXAMPLES / "media-generation.yaml"
SAMPLE = EXAMPLES / "sample.txt"


@pytest.fixture(scope="module")
def snapshot() -> RegistrySnapshot:
    return load_registry(EXAMPLES.parents[1] / "registry")


@pytest.fixture(scope="module")
def document() -> PlanDocument:
    return read(parse_document(PLAN.read_bytes(), name=PLAN.name))


@pytest.fixture(scope="module")
def planned(document: PlanDocument, snapshot: RegistrySnapshot) -> Planned:
    return resolve(document, tenant="local", snapshot=snapshot, attached=["text"])


def test_the_plan_runs_its_four_steps_in_order(planned: Planned) -> None:
    assert {step.transition: step.depends_on for step in planned.proposals} == {
        "write-script": (),
        "generate-shotlist": ("write-script",),
        "render-frames": ("generate-shotlist",),
        "compose-video": ("generate-shotlist", "render-frames"),
    }
    assert planned.params["write-script"]["text"] == {"$artifact": "/artifacts/attachments/text"}


def test_the_budget_holds_every_step_and_the_dearest_once_more(planned: Planned) -> None:
    asks: dict[str, list[int]] = {}
    for step in planned.proposals:
        for dimension, amount in step.hold.items():
            asks.setdefault(dimension, []).append(amount)
    assert planned.limit == {
        dimension: sum(amounts) + max(amounts) for dimension, amounts in asks.items()
    }


def test_the_goal_is_the_film(document: PlanDocument) -> None:
    goal = document.goal[0]
    assert goal.name == "artifact.exists@1"
    assert goal.params == {"transition": "compose-video", "path": "outputs/final.mp4"}


def test_the_inputs_of_a_single_run_fit_the_registry(snapshot: RegistrySnapshot) -> None:
    body = canonicalize_json((EXAMPLES / "script-inputs.json").read_bytes())
    snapshot.processor("llm/litellm@1").check_inputs(body)


def test_the_sample_is_short_and_written_in_three_scripts() -> None:
    text = SAMPLE.read_text(encoding="utf-8")
    assert 100 <= len(text.split()) <= 150
    assert any("\u0370" <= char <= "\u03ff" for char in text)
    assert any("\u0400" <= char <= "\u04ff" for char in text)
