"""An address in the inputs of a plan is on its policy's list before anything is created."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from theory_api.delivery.snapshot import load_registry
from theory_api.domain.document import read
from theory_api.domain.planning import Planned, resolve
from theory_api.settings import assets
from theory_core import TheoryError


def planned(registry: Path, ref: str, **inputs: Any) -> Planned:  # noqa: ANN401 - any inputs
    document = {
        "schema": "theory.plan.v1",
        "plan": "p1",
        "budget": {},
        "transitions": {"look": {"processor_ref": ref, "mode": "mock", "inputs": inputs}},
    }
    snapshot = load_registry(registry)
    return resolve(read(document), tenant="local", snapshot=snapshot, attached=())


@pytest.fixture
def registry(tmp_path: Path) -> Path:
    """The shipped registry, with one address on the list of its default policy."""
    folder = tmp_path / "registry"
    shutil.copytree(assets("registry"), folder)
    policy = folder / "policies" / "default.yaml"
    listed = 'uri_allow: ["http://127.0.0.1:8080"]'
    policy.write_text(policy.read_text().replace("uri_allow: []", listed))
    return folder


@pytest.mark.parametrize(
    ("ref", "inputs"),
    [
        ("http/check@1", {"url": "http://127.0.0.1:8081/"}),
        ("llm/litellm@1", {"task": "script", "text": "t", "endpoint": "https://evil.example/v1"}),
    ],
)
def test_an_address_that_no_policy_lists_is_refused(
    registry: Path, ref: str, inputs: dict[str, Any]
) -> None:
    with pytest.raises(TheoryError, match="uri not allowed") as caught:
        planned(registry, ref, **inputs)
    assert (caught.value.code, caught.value.detail["reason"]) == ("ERR_INPUTS", "uri")


def test_an_address_on_the_list_is_planned(registry: Path) -> None:
    url = "http://127.0.0.1:8080/health"
    assert planned(registry, "http/check@1", url=url).params["look"] == {"url": url}
