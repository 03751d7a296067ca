"""From a plan document to the command that creates it: defaults, references, faults with places."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Any

from theory_api.domain import predicates, references, uris
from theory_api.domain.commands import Proposal
from theory_api.domain.document import PlanDocument, TransitionDocument
from theory_api.domain.registry import ProcessorSpec, RegistrySnapshot
from theory_api.domain.values import Predicate, SelectorSpec
from theory_api.domain.vector import checked
from theory_core import (
    LIMITS,
    Selector,
    TheoryError,
    WorldPath,
    canonicalize,
    digest,
    expand_prefix,
    is_name,
)

_SAMPLE_ID = "x" + "0" * 32
"""An execution id to try templates with, as long as they are."""

_ANSWER_BYTES = 512
"""What a predicate's answer holds beside its parameters and a path in its reason."""

_ENDING_BYTES = 16 * 1024
"""What an event that ends a plan holds beside the answers to its goal."""

RESERVED = frozenset({"audit", "governance"})
"""Plans of every tenant that the control plane writes itself (spec: ledger)."""


@dataclass(frozen=True, slots=True)
class Planned:
    """A document made whole: what the `CreatePlan` command needs, and bytes to store before it."""

    plan: str
    limit: dict[str, int]
    proposals: tuple[Proposal, ...]
    inputs: dict[str, bytes] = field(default_factory=dict)
    """Cid -> canonical inputs document."""
    params: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Transition -> its params as written, attachments replaced by their paths."""


def plan_path(name: str, tenant: str) -> str:
    """`/world/{tenant}/{plan}` of a document's `plan` member.

    Raises `TheoryError` `ERR_PLAN_INVALID` for a name outside the grammar, `ERR_FORBIDDEN` for
    another tenant's.
    """
    path = name if name.startswith("/") else f"/world/{tenant}/{name}"
    try:
        world = WorldPath(f"{path}/plan")
    except TheoryError as error:
        message = "$.plan: a plan is named [a-z0-9][a-z0-9._-]{0,62} or /world/{tenant}/{plan}"
        raise TheoryError("ERR_PLAN_INVALID", message, {"place": "$.plan"}) from error
    if world.tenant != tenant:
        message = f"$.plan: the plan belongs to tenant {world.tenant}, the caller to {tenant}"
        raise TheoryError("ERR_FORBIDDEN", message, {"place": "$.plan"})
    return f"/world/{world.tenant}/{world.plan}"


def resolve(
    document: PlanDocument,
    *,
    tenant: str,
    snapshot: RegistrySnapshot,
    attached: Iterable[str],
    known: AbstractSet[str] = frozenset(),
    default_adapter: str = "process",
) -> Planned:
    """Check the whole document against the registry and itself.

    `known` are all transitions that a reference may name, where a document adds to a plan.

    Raises `TheoryError`: `ERR_PLAN_INVALID` with the place (a cycle, an unknown id, a write set
    outside the plan, a template fault …), `ERR_NOT_FOUND` (an unknown processor or policy),
    `ERR_IMAGE_UNPINNED` (outside the build lane: `process`, or no pinned image), `ERR_INPUTS` (an
    address that the policy does not list).
    """
    if len(document.transitions) > LIMITS["transitions_per_plan"]:
        cap = LIMITS["transitions_per_plan"]
        raise _invalid("$.transitions", f"a plan has at most {cap} transitions")
    plan = plan_path(document.plan, tenant)
    if plan.rpartition("/")[2] in RESERVED:
        raise _invalid("$.plan", "this name is reserved for the control plane's own ledger")
    own = document.transitions.keys()
    # Law: a document of one transition costs no walk over the thousands that its plan has.
    names = known if own <= known else {*own, *known}
    inputs: dict[str, bytes] = {}
    params: dict[str, dict[str, Any]] = {}
    proposals: list[Proposal] = []
    for name, entry in document.transitions.items():
        place = f"$.transitions.{name}"
        if not is_name(name):
            raise _invalid(place, "a transition id is [a-z0-9][a-z0-9._-]{0,62} without ..")
        spec = _processor(snapshot, entry, place)
        _check_lane(document, entry.adapter or default_adapter, place)
        _check_pin(document, entry, snapshot, place)
        params[name], depends_on, told = _inputs(entry, place, names, set(attached))
        if entry.mode == "real":
            _price(spec, snapshot, params[name])
        if spec.names_uris:
            allow = snapshot.policy_spec(document.policy).uri_allow
            uris.check(spec.document.inputs, params[name], allow)
        body = canonicalize({"schema": "v1", "params": params[name]})
        if len(body) > LIMITS["json_in_truth_bytes"]:
            raise _invalid(f"{place}.inputs", "inputs are too large: attach the bytes instead")
        inputs[digest(body)] = body
        for scope in ("admission", "success"):
            asked = getattr(entry.predicates, scope)
            _check_predicates(asked, f"{place}.predicates.{scope}", names)
        proposals.append(_proposal(plan, name, entry, spec, digest(body), depends_on, told))
    check_order(proposals)
    for scope in ("goal", "invariants"):
        _check_predicates(getattr(document, scope), f"$.{scope}", names)
    _check_goal(document.goal)
    return Planned(
        plan, checked(document.budget, place="$.budget"), tuple(proposals), inputs, params
    )


def _invalid(place: str, message: str) -> TheoryError:
    return TheoryError("ERR_PLAN_INVALID", f"{place}: {message}", {"place": place})


def _processor(snapshot: RegistrySnapshot, entry: TransitionDocument, place: str) -> ProcessorSpec:
    try:
        return snapshot.processor(entry.processor_ref)
    except TheoryError as error:
        message = f"{place}.processor_ref: {error.message}"
        raise TheoryError(error.code, message, dict(error.detail)) from error


def _check_lane(document: PlanDocument, adapter: str, place: str) -> None:
    """Law: outside the build lane nothing runs that nobody pinned; `process` has no digest."""
    if document.lane != "build" and adapter == "process":
        message = f"{place}: image not pinned: the process adapter runs in lane build only"
        raise TheoryError("ERR_IMAGE_UNPINNED", message, {"lane": document.lane})


def _check_pin(
    document: PlanDocument, entry: TransitionDocument, snapshot: RegistrySnapshot, place: str
) -> None:
    try:
        snapshot.check_pinned(entry.processor_ref, lane=document.lane)
    except TheoryError as error:
        raise TheoryError(error.code, f"{place}: {error.message}", dict(error.detail)) from error


def _price(spec: ProcessorSpec, snapshot: RegistrySnapshot, params: dict[str, Any]) -> None:
    """State what a model's tokens cost, where a processor takes a `price`.

    Law: a price is the pinned snapshot's, whatever the document says (spec: budgets). A model that
    the table lacks has none: its cost is unknown, and the hold is booked.
    """
    priced = spec.document.estimate.priced
    if priced is None or "price" not in spec.document.inputs.get("properties", {}):
        return
    params.pop("price", None)
    model = params.get("model", priced.model)
    price = snapshot.prices.get(model) if isinstance(model, str) else None
    if price is not None:
        params["price"] = {"input": price.input, "output": price.output}


def _inputs(
    entry: TransitionDocument, place: str, names: AbstractSet[str], attached: set[str]
) -> tuple[dict[str, Any], tuple[str, ...], tuple[Predicate, ...]]:
    """Params with attachments as artifacts, the dependencies that they and the document name.

    And the predicates that stamp what the run is told of the world.
    """
    depends_on = dict.fromkeys(entry.depends_on)
    told: list[Predicate] = []

    def put(reference: references.Reference) -> dict[str, Any]:
        stamp = predicates.implied(reference, place=reference.place)
        if stamp is not None and stamp not in told and stamp not in entry.predicates.admission:
            told.append(stamp)
        if reference.predicate is not None:
            asked = reference.predicate
            return {"$verdict": {"name": asked.name, "params": asked.params}}
        if reference.kind == "world":
            return {"$world": reference.path}
        if reference.kind == "attach":
            if reference.name not in attached:
                message = f"nothing is attached as {reference.name[:64]!r}"
                raise _invalid(
                    reference.place, f"{message}; use --attach {reference.name[:64]}=FILE"
                )
            return {"$artifact": references.ATTACHMENTS + reference.name}
        if reference.kind == "output":
            depends_on[reference.transition] = None
            return {"$output": {"transition": reference.transition, "path": reference.path}}
        return {"$artifact": reference.path}

    params = references.substitute(entry.inputs, put, f"{place}.inputs")
    for dependency in depends_on:
        if dependency not in names:
            raise _invalid(f"{place}.depends_on", f"no transition {dependency[:64]!r} in this plan")
    return params, tuple(depends_on), tuple(told)


def _proposal(
    plan: str,
    name: str,
    entry: TransitionDocument,
    spec: ProcessorSpec,
    inputs: str,
    depends_on: tuple[str, ...],
    told: tuple[Predicate, ...],
) -> Proposal:
    place = f"$.transitions.{name}"
    prefix = entry.write_prefix or f"/artifacts/outputs/{spec.slug}/{{execution_id}}/"
    write_set = entry.write_set or (SelectorSpec(kind="prefix", path=prefix),)
    _check_writes(plan, prefix, write_set, place)
    hold = spec.estimate if entry.estimate is None else entry.estimate
    timeout_s = entry.timeout_s or spec.timeout_s
    return Proposal(
        transition=name,
        processor_ref=entry.processor_ref,
        mode=entry.mode,
        inputs=inputs,
        depends_on=depends_on,
        write_prefix=prefix,
        write_set=write_set,
        admission=(*entry.predicates.admission, *told),
        success=entry.predicates.success,
        hold=checked(hold, place=f"{place}.estimate"),
        timeout_ms=timeout_s * 1000,
        adapter=entry.adapter,
    )


def _check_writes(plan: str, prefix: str, write_set: tuple[SelectorSpec, ...], place: str) -> None:
    """The write prefix is a template of the grammar; the write set holds it and stays at home."""
    try:
        home = Selector("prefix", expand_prefix(prefix, _SAMPLE_ID, root=plan))
    except TheoryError as error:
        message = f"{place}.write_prefix: {error.message}"
        raise TheoryError(error.code, message, dict(error.detail)) from error
    own = Selector("prefix", f"{plan}/artifacts/execution/")
    contained = False
    for index, spec in enumerate(write_set):
        spot = f"{place}.write_set[{index}]"
        try:
            path = WorldPath(spec.path.replace("{execution_id}", _SAMPLE_ID), root=plan)
            selector = Selector(spec.kind, path)
        except TheoryError as error:
            raise TheoryError(error.code, f"{spot}: {error.message}", dict(error.detail)) from error
        if f"/world/{path.tenant}/{path.plan}" != plan:
            raise _invalid(spot, "the write set lies outside the plan")
        if path.facet not in {"artifacts", "streams"} or selector.overlaps(own):
            raise _invalid(spot, "processors write to artifacts and streams, not to the rest")
        contained = contained or (spec.kind == "prefix" and selector.contains(home))
    if not contained:
        raise _invalid(f"{place}.write_set", "the write set must contain the write prefix")


def _check_predicates(asked: tuple[Predicate, ...], place: str, names: AbstractSet[str]) -> None:
    for index, predicate in enumerate(asked):
        spot = f"{place}[{index}]"
        predicates.validate(predicate, place=spot)
        named = predicate.params.get("transition")
        if named is not None and named not in names:
            raise _invalid(spot, f"no transition {named[:64]!r} in this plan")


def _check_goal(goal: tuple[Predicate, ...]) -> None:
    """Law: a plan that can be created can be ended: one event holds every answer to its goal.

    An answer repeats the parameters, and its reason may name the path once more.
    """
    room = LIMITS["json_in_truth_bytes"] - _ENDING_BYTES
    for index, predicate in enumerate(goal):
        room -= 2 * len(canonicalize(predicate.params)) + _ANSWER_BYTES
        if room < 0:
            raise _invalid(f"$.goal[{index}]", "the goal is too large from here on; ask for less")


def check_order(proposals: list[Proposal]) -> None:
    """Refuse a cycle, naming the transitions on it. Kahn's algorithm, without recursion.

    Raises `TheoryError` `ERR_PLAN_INVALID`.
    """
    dependents: Mapping[str, list[str]] = {proposal.transition: [] for proposal in proposals}
    unmet = dict.fromkeys(dependents, 0)
    for proposal in proposals:
        # What the plan had before cannot be part of a cycle.
        for dependency in dependents.keys() & set(proposal.depends_on):
            dependents[dependency].append(proposal.transition)
            unmet[proposal.transition] += 1
    ready = [name for name, count in unmet.items() if not count]
    while ready:
        for name in dependents[ready.pop()]:
            unmet[name] -= 1
            if not unmet[name]:
                ready.append(name)
    stuck = [name for name, count in unmet.items() if count]
    if stuck:
        shown = ", ".join(sorted(stuck)[:10])
        raise _invalid("$.transitions", f"a cycle of dependencies holds {shown}")
