from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from theory_api.adapters.memory.artifacts import MemoryArtifacts
from theory_api.delivery.snapshot import load_registry
from theory_api.domain import commands as cmd
from theory_api.domain.decide import decide
from theory_api.domain.document import read
from theory_api.domain.evolve import evolve
from theory_api.domain.planning import resolve
from theory_api.domain.runnable import Blocked
from theory_api.domain.state import PlanState
from theory_api.ports.truth import ArtifactRow
from theory_api.scheduler.tests.bench import House, step
from theory_api.services.reasons import reasons, refold
from theory_api.services.views import WhyView
from theory_api.settings import assets
from theory_core import TheoryError

PLAN = "/world/local/p1"


class Shelf:
    """The artifacts of a plan, as a test puts them there."""

    def __init__(self, *paths: str) -> None:
        self._paths = paths

    async def artifact(self, plan: str, path: str) -> ArtifactRow | None:
        assert plan == PLAN
        if path not in self._paths:
            return None
        return ArtifactRow(path, "b3:" + "0" * 64, 0, "text/plain", None, 1)

    async def artifacts(
        self, plan: str, prefix: str, *, after: str = "", limit: int = 1000
    ) -> list[ArtifactRow]:
        raise NotImplementedError((plan, prefix, after, limit))


def document(**members: Any) -> dict[str, Any]:  # noqa: ANN401 - any document
    first = {"processor_ref": "llm/litellm@1", "mode": "mock", "inputs": {"text": "hi"}}
    waits = {"name": "artifact.exists@1", "params": {"path": "/artifacts/attachments/go"}}
    return {
        "schema": "theory.plan.v1",
        "plan": "p1",
        "budget": {},
        "transitions": {
            "first": first | {"predicates": {"admission": [waits]}},
            "second": first | {"depends_on": ["first"]},
        },
        **members,
    }


def created(given: dict[str, Any]) -> PlanState:
    snapshot = load_registry(assets("registry"))
    typed = read(given)
    planned = resolve(typed, tenant="local", snapshot=snapshot, attached=())
    state = PlanState(plan=planned.plan)
    command = cmd.CreatePlan(
        plan=planned.plan,
        by="local",
        document="b3:" + "0" * 64,
        limit=planned.limit,
        policy=snapshot.policy(typed.policy),
        lane=typed.lane,
        registry_snapshot=snapshot.id,
        proposals=planned.proposals,
    )
    return told(state, command)


def told(state: PlanState, command: cmd.Command) -> PlanState:
    for event in decide(state, command).events:
        evolve(state, state.seq + 1, event)
    return state


async def why(state: PlanState, shelf: Shelf, held: Blocked | None = None) -> dict[str, WhyView]:
    found = reasons(state, shelf, MemoryArtifacts(), lambda _plan, _name: held)
    return {view.transition: view async for view in found}


async def test_a_dependency_that_has_not_succeeded_is_named() -> None:
    found = (await why(created(document()), Shelf()))["second"]
    assert (found.status, found.condition) == ("pending", "dependency.satisfied")
    assert "first" in found.reason
    assert found.detail == {"transition": "first"}


async def test_a_false_admission_predicate_is_named_with_its_reason() -> None:
    found = (await why(created(document()), Shelf()))["first"]
    assert found.condition == "artifact.exists@1"
    assert "/artifacts/attachments/go" in found.reason


async def test_what_only_the_scheduler_knows_comes_last() -> None:
    shelf = Shelf("/artifacts/attachments/go")
    found = await why(created(document()), shelf, Blocked("retry.delay", "waits a little"))
    assert (found["first"].condition, found["first"].reason) == ("retry.delay", "waits a little")


async def test_a_transition_that_nothing_holds_says_what_starts_it() -> None:
    found = (await why(created(document()), Shelf("/artifacts/attachments/go")))["first"]
    assert found.condition == "none"
    assert "scheduler" in found.reason


async def test_a_paused_plan_holds_everything() -> None:
    state = created(document())
    told(state, cmd.PausePlan(plan=PLAN, by="local", reason="lunch"))
    assert {view.condition for view in (await why(state, Shelf())).values()} == {"plan.active"}


async def test_an_unaffordable_ask_is_refused_and_its_error_is_told() -> None:
    state = created(document(budget={"cpu_ms": 1}))
    found = await why(state, Shelf("/artifacts/attachments/go"))
    assert found["first"].status == "refused"
    assert found["first"].detail["code"] == "ERR_BUDGET_EXCEEDED"
    assert "cpu_ms" in found["first"].reason


@pytest.mark.parametrize("reason", ["enough", "x" * 1000])
async def test_a_cancelled_plan_says_of_each_transition_that_it_ended(reason: str) -> None:
    state = created(document())
    told(state, cmd.CancelPlan(plan=PLAN, by="local", reason=reason))
    found = await why(state, Shelf())
    assert {view.status for view in found.values()} == {"cancelled"}
    assert {view.condition for view in found.values()} == {"transition.ended"}


@pytest.mark.parametrize(("seq", "lost"), [(2, False), (3, True)])
async def test_a_ledger_that_is_not_what_was_written_is_named_by_plan_and_seq(
    seq: int, *, lost: bool
) -> None:
    async with House() as house:
        plan = await house.apply({"a": step()})
        await house.ended(plan)
        row = await house.reads.plan(plan)
        events = house.disk.database.plans[plan].events
        if lost:
            del events[seq - 1 :]
        else:
            changed = events[seq - 1].body.replace(b'"demo/echo@1"', b'"demo/echo@2"')
            events[seq - 1] = replace(events[seq - 1], body=changed)
        with pytest.raises(TheoryError) as caught:
            await refold(house.reads, row)
        assert caught.value.code == "ERR_CHAIN_BROKEN"
        assert caught.value.detail == {"plan": plan, "seq": seq}
