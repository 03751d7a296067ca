"""What a model's tokens cost is what the pinned table says, whoever writes the plan."""

from __future__ import annotations

from typing import Any

import pytest

from theory_api.delivery.snapshot import load_registry
from theory_api.domain.document import read
from theory_api.domain.planning import resolve
from theory_api.settings import assets

SCRIPT = {"task": "script", "text": "t"}
CORPUS = {"corpus": [{"id": "a", "text": "t"}]}
FREE = {"input": 0, "output": 0}


def params(ref: str, mode: str, **inputs: Any) -> dict[str, Any]:  # noqa: ANN401 - any inputs
    document = {
        "schema": "theory.plan.v1",
        "plan": "p1",
        "budget": {},
        "transitions": {"ask": {"processor_ref": ref, "mode": mode, "inputs": inputs}},
    }
    snapshot = load_registry(assets("registry"))
    planned = resolve(read(document), tenant="local", snapshot=snapshot, attached=())
    return planned.params["ask"]


@pytest.mark.parametrize(
    ("ref", "inputs", "price"),
    [
        ("llm/litellm@1", SCRIPT, {"input": 150_000, "output": 600_000}),
        (
            "llm/litellm@1",
            {**SCRIPT, "model": "openai/gpt-4o"},
            {"input": 2_500_000, "output": 10**7},
        ),
        ("text/embed@1", CORPUS, {"input": 20_000, "output": 0}),
    ],
)
def test_the_price_of_the_table_replaces_any_other(
    ref: str, inputs: dict[str, Any], price: dict[str, int]
) -> None:
    assert params(ref, "real", **inputs)["price"] == price
    assert params(ref, "real", **inputs, price=FREE)["price"] == price


def test_a_model_that_the_table_lacks_has_no_price() -> None:
    asked = params("llm/litellm@1", "real", **SCRIPT, model="vendor/unheard-of", price=FREE)
    assert "price" not in asked


def test_what_takes_no_price_and_what_asks_nobody_is_left_as_it_is() -> None:
    assert "price" not in params("llm/litellm@1", "mock", **SCRIPT)
    assert params("tts/espeak@1", "real", text="t") == {"text": "t"}
