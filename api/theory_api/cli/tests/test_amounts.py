"""Amounts of budgets that are none: refused by code at every door of the command line."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
import structlog

from theory_api import settings as configuration
from theory_api.cli.tests.desk import Desk
from theory_api.domain.vector import MAX_AMOUNT
from theory_api.wiring import open_engine

pytestmark = pytest.mark.timeout(300)

AMOUNTS: dict[str, str] = {
    "negative": "-1",
    "a fraction": "1.5",
    "a fraction that is whole": "1000.0",
    "a double": "1e3",
    "a text": '"1e3"',
    "a number as text": '"1000"',
    "true": "true",
    "null": "null",
    "a list": "[1]",
    "one more than exact": str(MAX_AMOUNT + 1),
    "beyond 64 bits": str(2**64),
    "without end": "9" * 400,
}
"""As a document writes them."""


def document(place: str, written: str) -> str:
    """A plan whose amount at a place is this text."""
    step: dict[str, Any] = {
        "processor_ref": "llm/litellm@1",
        "mode": "mock",
        "inputs": {"task": "script", "text": "A."},
    }
    plan: dict[str, Any] = {
        "schema": "theory.plan.v1",
        "plan": "story",
        "budget": {"cpu_ms": 60_000},
        "transitions": {"write": step},
    }
    match place:
        case "budget":
            plan["budget"] = {"cpu_ms": "HERE"}
        case "estimate":
            step["estimate"] = {"cpu_ms": "HERE"}
        case _:
            wanted = {"name": "budget.available@1", "params": {"amount": {"cpu_ms": "HERE"}}}
            step["predicates"] = {"admission": [wanted]}
    return json.dumps(plan).replace('"HERE"', written)


@pytest.mark.scenario(65)
@pytest.mark.parametrize(
    ("place", "form"),
    [("budget", "json"), ("budget", "yaml"), ("estimate", "json"), ("predicate", "yaml")],
)
@pytest.mark.parametrize("amount", AMOUNTS)
def test_an_amount_in_a_document_that_is_none_is_refused_with_its_place(
    desk: Desk, amount: str, place: str, form: str
) -> None:
    file = desk.file(f"plan.{form}", document(place, AMOUNTS[amount]))
    done = desk.theory("plan", "apply", file, "--json")
    assert (done.code, done.json["code"]) == (1, "ERR_PLAN_INVALID")
    assert not (desk.folder / "home" / "theory.db").exists() or not plans(desk)


def plans(desk: Desk) -> list[Any]:
    listed = desk.theory("plan", "list", "--json")
    found: list[Any] = listed.json["plans"] if listed.code == 0 else []
    return found


@pytest.mark.scenario(65)
@pytest.mark.parametrize(
    "text",
    [
        *("cpu_ms=-1", "cpu_ms=1.5", "cpu_ms=1e3", "cpu_ms=True", "cpu_ms=", "cpu_ms= 1", "cpu_ms"),
        *(f"cpu_ms={2**64}", "cpu_ms=" + "9" * 5000),
    ],
)
def test_an_amount_on_the_command_line_that_is_no_whole_number_is_wrong_usage(
    desk: Desk, text: str
) -> None:
    done = desk.theory("plan", "topup", "story", text)
    assert done.code == 2
    assert "whole number" in done.err


@pytest.mark.scenario(65)
@pytest.mark.parametrize(
    ("text", "code"),
    [
        (f"cpu_ms={MAX_AMOUNT + 1}", "ERR_PLAN_INVALID"),
        ("=1", "ERR_PLAN_INVALID"),
        ("cpu_ms=0", "ERR_PLAN_INVALID"),
        ("tokens=1", "ERR_PLAN_INVALID"),
        ("bitcoin=1", "ERR_PLAN_INVALID"),
        (f"cpu_ms={MAX_AMOUNT}", "ERR_BUDGET_EXCEEDED"),
    ],
)
def test_a_top_up_that_no_budget_can_take_changes_nothing(
    waiting: Desk, text: str, code: str
) -> None:
    before = waiting.theory("ledger", "head", "story").out
    done = waiting.theory("plan", "topup", "story", text, "--json")
    assert (done.code, done.json["code"]) == (1, code)
    assert waiting.theory("ledger", "head", "story").out == before


@pytest.mark.scenario(65)
def test_a_top_up_of_one_dimension_twice_is_wrong_usage(desk: Desk) -> None:
    done = desk.theory("plan", "topup", "story", "cpu_ms=1", "cpu_ms=2")
    assert done.code == 2
    assert "cpu_ms" in done.err


@pytest.fixture
def waiting(desk: Desk) -> Desk:
    """A desk with a plan that nobody has started."""

    async def create() -> None:
        settings = configuration.read({"THEORY_LOG": "error"}, home=desk.folder / "home")
        async with open_engine(settings, admitting=False) as services:
            plan = json.loads(document("budget", "60000"))
            await services.plans.apply(plan, tenant="local", by="local")

    asyncio.run(create())
    structlog.reset_defaults()
    return desk
