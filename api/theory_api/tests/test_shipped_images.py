"""Every shipped processor's image is built and run, with the outputs that a child process has."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from theory_api.adapters.run_v1.places import home_name
from theory_api.delivery.conformance.sample import FILE, NAME
from theory_api.delivery.snapshot import load_registry
from theory_api.tests.engine import ROOT, connected, left
from theory_api.tests.test_containers import FILM, HERE, THERE, Desk
from theory_core import verify

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

SHIPPED = tuple(sorted(set(load_registry(ROOT / "registry").processors) - set(FILM)))
"""Those that the film of containers does not run anyway."""
PLANNERS = frozenset({"agent/planner@1"})


@pytest.fixture(scope="module")
def engine() -> Iterator[Any]:
    found = connected()
    yield found
    found.close()


def sampled(ref: str) -> tuple[str, list[str]]:
    """What the examination asks of a processor, as inputs of a run and its attachments."""
    folder = ROOT / "processors" / ref.replace("@", "/")
    params = yaml.safe_load((folder / NAME).read_text("utf-8"))["params"]
    attached: list[str] = []
    if ref in PLANNERS:
        # What a run is told of the world nobody writes into its inputs: it is asked for.
        goal = {name: params["goal"][name] for name in ("name", "params")}
        params |= {"goal": {"$verdict": goal}, "world": {"$world": "/artifacts/"}}
        attached.extend(("--attach", f"text={ROOT / 'README.md'}"))

    def told(value: Any) -> Any:  # noqa: ANN401 - a document
        if isinstance(value, dict) and value.keys() == {FILE}:
            file = (folder / value[FILE]).resolve()
            name = f"file{len(attached) // 2}"
            attached.extend(("--attach", f"{name}={file}"))
            return {"$attach": name}
        if isinstance(value, dict):
            return {name: told(item) for name, item in value.items()}
        return [told(item) for item in value] if isinstance(value, list) else value

    return json.dumps(told(params)), attached


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The shipped one, with a policy that lets processors name the samples' address."""
    place = tmp_path_factory.mktemp("shipped") / "registry"
    shutil.copytree(ROOT / "registry", place)
    policy = place / "policies" / "default.yaml"
    text = policy.read_text("utf-8")
    assert "uri_allow: []" in text
    allowing = text.replace("uri_allow: []", 'uri_allow: ["https://example.org"]')
    policy.write_text(allowing, encoding="utf-8")
    return {"THEORY_REGISTRY": str(place)}


def run(desk: Desk, ref: str, adapter: str) -> dict[str, Any]:
    """What the run of a sample left, by what cannot differ."""
    inputs, attached = sampled(ref)
    words = ("run", "--ref", ref, "--adapter", adapter, "--mode", "mock", "--json")
    asked = (*words, "--execution-id", "x1", "--inputs-json", inputs, *attached)
    # What a planner proposes goes on in the same plan, and fails there: its own run is compared.
    desk.theory(*asked, code=1 if ref in PLANNERS else 0)
    export = desk.theory("ledger", "export", "run-x1").encode()
    assert verify(export, laws=True).fault is None
    events = [json.loads(line)["event"] for line in export.splitlines()]
    found = {one["kind"]: one["data"] for one in events if one["data"].get("execution_id") == "x1"}
    return {
        "envelope": found["execution.succeeded"]["envelope"],
        "outputs": {
            output["path"]: output["cid"]
            for output in found["artifact.produced"]["outputs"]
            if not output["path"].startswith("/artifacts/execution/")
        },
    }


@pytest.mark.parametrize("ref", SHIPPED)
def test_a_container_of_a_shipped_processor_does_what_its_process_does(
    engine: Any,  # noqa: ANN401
    tmp_path: Path,
    registry: dict[str, str],
    ref: str,
) -> None:
    desk = Desk(tmp_path / "b", THERE | registry)
    built = json.loads(desk.theory("image", "build", ref, "--mode", "mock", "--json"))
    assert built["ref"] == ref
    ran = run(desk, ref, "local")
    assert len(ran["outputs"]) > 1
    assert ran == run(Desk(tmp_path / "a", HERE | registry), ref, "process")
    assert left(engine, home_name(desk.home)) == []
