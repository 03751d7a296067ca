"""From a document to proposals: defaults, references, and every fault with its place."""

# ruff: noqa: ANN401 - builders hand fields of any type on

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from theory_api.domain.document import read
from theory_api.domain.planning import Planned, plan_path, resolve
from theory_api.domain.tests.shelf import snapshot
from theory_api.domain.values import SelectorSpec
from theory_core import LIMITS, TheoryError, digest, execution_id, expand_prefix, loads_strict

REGISTRY = snapshot()


def step(**fields: Any) -> dict[str, Any]:
    return {"processor_ref": "demo/echo@1", "mode": "mock"} | fields


def document(transitions: dict[str, Any], **fields: Any) -> dict[str, Any]:
    plan = {"schema": "theory.plan.v1", "plan": "p1", "budget": {"usd_micro": 100}}
    return plan | {"transitions": transitions} | fields


def planned(transitions: dict[str, Any], *attached: str, **fields: Any) -> Planned:
    typed = read(document(transitions, **fields))
    return resolve(typed, tenant="acme", snapshot=REGISTRY, attached=attached)


def refusal(transitions: dict[str, Any], *attached: str, **fields: Any) -> TheoryError:
    with pytest.raises(TheoryError) as caught:
        planned(transitions, *attached, **fields)
    return caught.value


def test_what_a_document_leaves_out_is_taken_from_the_registry() -> None:
    plan = planned({"a": step()})
    (entry,) = plan.proposals
    assert plan.plan == "/world/acme/p1"
    assert plan.limit == {"usd_micro": 100}
    assert entry.write_prefix == "/artifacts/outputs/demo-echo-v1/{execution_id}/"
    assert entry.write_set == (SelectorSpec(kind="prefix", path=entry.write_prefix),)
    assert dict(entry.hold) == dict(REGISTRY.processor("demo/echo@1").estimate)
    assert entry.timeout_ms == 60_000


def test_what_a_document_states_is_taken_over() -> None:
    own = {
        "estimate": {"usd_micro": 3},
        "timeout_s": 5,
        "adapter": "process",
        "depends_on": ["b", "b"],
        "write_prefix": "/streams/x/{execution_id}/",
        "write_set": [{"kind": "prefix", "path": "/streams/x/"}],
    }
    entry = planned({"a": step(**own), "b": step()}).proposals[0]
    assert (dict(entry.hold), entry.timeout_ms, entry.adapter) == (
        {"usd_micro": 3},
        5000,
        "process",
    )
    assert entry.depends_on == ("b",)
    assert entry.write_set == (SelectorSpec(kind="prefix", path="/streams/x/"),)


def test_an_output_reference_is_a_dependency_and_an_attachment_an_artifact() -> None:
    inputs = {
        "text": {"$attach": "text"},
        "from": [{"$output": {"transition": "b", "path": "outputs/x"}}],
    }
    plan = planned({"a": step(inputs=inputs), "b": step()}, "text")
    assert plan.proposals[0].depends_on == ("b",)
    assert plan.params["a"]["text"] == {"$artifact": "/artifacts/attachments/text"}
    body = plan.inputs[plan.proposals[0].inputs]
    assert digest(body) == plan.proposals[0].inputs
    assert loads_strict(body) == {"schema": "v1", "params": plan.params["a"]}


CYCLE = {"a": step(depends_on=["b"]), "b": step(depends_on=["c"]), "c": step(depends_on=["a"])}
WRITES = "$.transitions.a.write_set[0]"


@pytest.mark.parametrize(
    ("transitions", "place", "words"),
    [
        (CYCLE, "$.transitions", "a cycle of dependencies holds a, b, c"),
        ({"a": step(depends_on=["a"])}, "$.transitions", "cycle"),
        (
            {"r": step(), "a": step(depends_on=["r", "b"]), "b": step(depends_on=["a"])},
            "$.transitions",
            "a cycle of dependencies holds a, b",
        ),
        ({"a": step(depends_on=["z"])}, "$.transitions.a.depends_on", "no transition 'z'"),
        (
            {"a": step(inputs={"x": {"$output": {"transition": "z", "path": "outputs/x"}}})},
            "$.transitions.a.depends_on",
            "no transition 'z'",
        ),
        (
            {"a": step(inputs={"x": [{"$attach": "text"}]})},
            "$.transitions.a.inputs.x[0]",
            "--attach text=FILE",
        ),
        ({"a..b": step()}, "$.transitions.a..b", "without .."),
        ({"a\n": step()}, "$.transitions.a\n", "a transition id"),
        (
            {"a": step(write_prefix="/world/acme/p2/artifacts/{execution_id}/")},
            WRITES,
            "outside the plan",
        ),
        (
            {"a": step(write_set=[{"kind": "prefix", "path": "/world/evil/p1/artifacts/x/"}])},
            WRITES,
            "outside the plan",
        ),
        (
            {"a": step(write_set=[{"kind": "prefix", "path": "/artifacts/execution/"}])},
            WRITES,
            "not to the rest",
        ),
        (
            {"a": step(write_set=[{"kind": "prefix", "path": "/artifacts/"}])},
            WRITES,
            "not to the rest",
        ),
        (
            {"a": step(write_set=[{"kind": "exact", "path": "/plan/budget"}])},
            WRITES,
            "not to the rest",
        ),
        (
            {"a": step(write_set=[{"kind": "prefix", "path": "/artifacts/elsewhere/"}])},
            "$.transitions.a.write_set",
            "must contain the write prefix",
        ),
        (
            {"a": step(estimate={"coins": 1})},
            "$.transitions.a.estimate",
            "unknown budget dimension",
        ),
        ({"a": step(estimate={"tokens": -1})}, "$.transitions.a.estimate.tokens", "2^53-1"),
        (
            {"a": step(predicates={"admission": [{"name": "coffee.ready@1"}]})},
            "$.transitions.a.predicates.admission[0]",
            "unknown predicate",
        ),
        (
            {
                "a": step(
                    predicates={
                        "success": [
                            {"name": "dependency.satisfied@1", "params": {"transition": "z"}}
                        ]
                    }
                )
            },
            "$.transitions.a.predicates.success[0]",
            "no transition 'z'",
        ),
        (
            {"a": step(inputs={"x": "y" * LIMITS["json_in_truth_bytes"]})},
            "$.transitions.a.inputs",
            "attach the bytes instead",
        ),
    ],
)
def test_a_fault_of_a_transition_names_its_place(
    transitions: dict[str, Any], place: str, words: str
) -> None:
    error = refusal(transitions)
    assert error.code == "ERR_PLAN_INVALID"
    assert error.detail["place"] == place
    assert error.message.startswith(place)
    assert words in error.message


@pytest.mark.parametrize(
    ("fields", "code", "words"),
    [
        ({"plan": "Bad Name"}, "ERR_PLAN_INVALID", "$.plan"),
        ({"plan": "a/b"}, "ERR_PLAN_INVALID", "$.plan"),
        ({"plan": "/world/evil/p1"}, "ERR_FORBIDDEN", "tenant evil"),
        ({"plan": "audit"}, "ERR_PLAN_INVALID", "reserved"),
        ({"plan": "/world/acme/governance"}, "ERR_PLAN_INVALID", "reserved"),
        ({"budget": {"coins": 1}}, "ERR_PLAN_INVALID", "$.budget"),
        ({"lane": "dev"}, "ERR_IMAGE_UNPINNED", "image not pinned"),
        ({"goal": [{"name": "artifact.exists@1"}]}, "ERR_PLAN_INVALID", "$.goal[0]"),
        (
            {
                "goal": [
                    {
                        "name": "artifact.exists@1",
                        "params": {"path": "outputs/x", "transition": "z"},
                    }
                ]
            },
            "ERR_PLAN_INVALID",
            "no transition 'z'",
        ),
    ],
)
def test_a_fault_of_the_plan_says_what_is_wrong(
    fields: dict[str, Any], code: str, words: str
) -> None:
    error = refusal({"a": step()}, **fields)
    assert error.code == code
    assert words in error.message


@pytest.mark.scenario(54)
@pytest.mark.parametrize(
    ("prefix", "code"),
    [
        ("/artifacts/x/", "ERR_PREFIX_TEMPLATE"),
        ("/artifacts/{execution_id}/{execution_id}/", "ERR_PREFIX_TEMPLATE"),
        ("/artifacts/x-{execution_id}/", "ERR_PREFIX_TEMPLATE"),
        ("/artifacts/{execution_id}/%7Bx/", "ERR_PREFIX_TEMPLATE"),
        ("/artifacts/{execution_id}", "ERR_SELECTOR_KIND_MISMATCH"),
        ("/tmp/{execution_id}/", "ERR_BAD_FACET"),  # noqa: S108 - a path of the World
        ("/artifacts/../{execution_id}/", "ERR_DOT_SEGMENTS"),
    ],
)
def test_a_template_fault_keeps_its_code_and_says_where(prefix: str, code: str) -> None:
    error = refusal({"a": step(write_prefix=prefix)})
    assert error.code == code
    assert error.message.startswith("$.transitions.a.write_prefix")


def test_a_template_that_only_short_names_fit_is_refused_at_once() -> None:
    room = LIMITS["path_bytes"] - len("/world/acme/p1/artifacts/{execution_id}/")
    name = execution_id("/world/acme/p1", "a", 1)
    spare = len(name) - len("{execution_id}")
    for surplus, fits in ((0, True), (2, False)):
        parts = "a/" * ((room - spare - 1) // 2 + surplus // 2)
        prefix = f"/artifacts/{parts}{{execution_id}}/"
        if fits:
            plan = planned({"a": step(write_prefix=prefix)})
            assert expand_prefix(plan.proposals[0].write_prefix, name, root=plan.plan)
        else:
            assert refusal({"a": step(write_prefix=prefix)}).code == "ERR_PATH_TOO_LONG"


def test_an_unknown_processor_is_named_with_its_place_and_what_is_near() -> None:
    error = refusal({"a": step(processor_ref="demo/ecko@1")})
    assert error.code == "ERR_NOT_FOUND"
    assert error.message.startswith("$.transitions.a.processor_ref")
    assert "demo/echo@1" in error.message


@pytest.mark.scenario(75)
def test_another_adapter_than_process_runs_outside_the_build_lane_what_is_pinned_there() -> None:
    typed = read(document({"a": step(adapter="local")}, lane="dev"))
    pins = {"dev": {"demo/echo@1": {"arm64": "sha256:" + "0" * 64}}}
    planned = resolve(typed, tenant="acme", snapshot=snapshot(pins=pins), attached=())
    assert planned.proposals[0].adapter == "local"
    others: list[dict[str, Any]] = [{}, {"main": pins["dev"]}, {"dev": {"demo/strict@1": {}}}]
    for other in others:
        with pytest.raises(TheoryError) as caught:
            resolve(typed, tenant="acme", snapshot=snapshot(pins=other), attached=())
        assert caught.value.code == "ERR_IMAGE_UNPINNED"
        assert "$.transitions.a: image not pinned" in caught.value.message


@pytest.mark.scenario(49)
@pytest.mark.parametrize(
    ("changes", "place"),
    [
        ({"schema": "theory.plan.v2"}, "$.schema"),
        ({"transitions": {}}, "$.transitions"),
        ({"transitions": {"A": step()}}, "$.transitions.A"),
        ({"transitions": {"a": step(mode="smoke")}}, "$.transitions.a.mode"),
        ({"transitions": {"a": step(timeout_s=0)}}, "$.transitions.a.timeout_s"),
        ({"transitions": {"a": step(), "b": step(colour=1)}}, "$.transitions.b"),
        ({"transitions": {"a": step(trigger="x")}}, "$.transitions.a.trigger"),
        ({"transitions": {"a": step(on_fail="x")}}, "$.transitions.a.on_fail"),
        ({"invariants": [{"name": "artifact.exists@1"}]}, "$.invariants"),
        ({"budget": []}, "$.budget"),
        ({"lane": "prod"}, "$.lane"),
        ({"extra": 1}, "$"),
    ],
)
def test_a_document_of_the_wrong_shape_is_refused_with_its_place(
    changes: dict[str, Any], place: str
) -> None:
    with pytest.raises(TheoryError) as caught:
        read(document({"a": step()}) | changes)
    assert caught.value.code == "ERR_PLAN_INVALID"
    assert caught.value.detail["place"] == place
    assert caught.value.message.startswith(place)


def test_a_plan_is_named_by_itself_or_by_its_whole_path() -> None:
    assert plan_path("p1", "acme") == plan_path("/world/acme/p1", "acme") == "/world/acme/p1"


def test_a_plan_has_a_largest_number_of_transitions() -> None:
    cap = LIMITS["transitions_per_plan"]
    typed = read(document({"a": step()}))
    many = dict.fromkeys(map(str, range(cap + 1)), typed.transitions["a"])
    crowded = msgspec.structs.replace(typed, transitions=many)
    with pytest.raises(TheoryError, match=f"at most {cap}"):
        resolve(crowded, tenant="acme", snapshot=REGISTRY, attached=())


def test_what_is_told_of_the_world_is_stamped_in_the_admission() -> None:
    exists = {"name": "artifact.exists@1", "params": {"path": "/artifacts/film/"}}
    listed = {"name": "world.listed@1", "params": {"path": "/artifacts/"}}
    inputs = {
        "there": {"$world": "/artifacts/"},
        "again": [{"$world": "/artifacts/"}],
        "goal": {"$verdict": exists},
    }
    stated = {
        "admission": [listed, {"name": "disk.space_available@1", "params": {"free_bytes": 1}}]
    }
    for predicates, names in (
        ({}, ["world.listed@1", "world.judged@1"]),
        (stated, ["world.listed@1", "disk.space_available@1", "world.judged@1"]),
    ):
        plan = planned({"a": step(inputs=inputs, predicates=predicates)})
        (entry,) = plan.proposals
        assert [predicate.name for predicate in entry.admission] == names
        assert entry.admission[-1].params == exists
        assert loads_strict(plan.inputs[entry.inputs])["params"] == inputs


@pytest.mark.parametrize(
    ("reference", "code"),
    [
        ({"$world": "/artifacts/film"}, "ERR_SELECTOR_KIND_MISMATCH"),
        ({"$verdict": {"name": "coffee.ready@1", "params": {}}}, "ERR_PLAN_INVALID"),
        (
            {"$verdict": {"name": "budget.available@1", "params": {"amount": {}}}},
            "ERR_PLAN_INVALID",
        ),
        (
            {"$verdict": {"name": "artifact.exists@1", "params": {"path": "outputs/x"}}},
            "ERR_PLAN_INVALID",
        ),
    ],
)
def test_what_cannot_be_told_of_the_world_is_refused_with_its_place(
    reference: dict[str, Any], code: str
) -> None:
    error = refusal({"a": step(inputs={"x": [reference]})})
    assert error.code == code
    assert str(error.detail["place"]).startswith("$.transitions.a.inputs.x[0]")
