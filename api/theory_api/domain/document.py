"""The plan document `theory.plan.v1`: its members and their types, nothing of its meaning."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec

from theory_api.domain.values import Lane, Mode, Predicate, SelectorSpec
from theory_core import TheoryError

Name = Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")]
"""A transition id; `..` is refused besides."""


class Member(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of the document's closed objects."""


class Conditions(Member, frozen=True, kw_only=True):
    """Predicates of one transition, by scope."""

    admission: tuple[Predicate, ...] = ()
    success: tuple[Predicate, ...] = ()


class TransitionDocument(Member, frozen=True, kw_only=True):
    """One proposed mutation."""

    processor_ref: str
    mode: Mode
    adapter: str | None = None
    inputs: dict[str, Any] = {}
    depends_on: tuple[Name, ...] = ()
    write_prefix: str | None = None
    write_set: tuple[SelectorSpec, ...] | None = None
    predicates: Conditions = Conditions()
    estimate: dict[str, Any] | None = None
    timeout_s: Annotated[int, msgspec.Meta(ge=1, le=86_400)] | None = None


class PlanDocument(Member, frozen=True, kw_only=True):
    """A whole plan. `plan` is a name under the caller's tenant, or `/world/{tenant}/{plan}`."""

    schema: Literal["theory.plan.v1"]
    plan: Annotated[str, msgspec.Meta(min_length=1, max_length=255)]
    budget: dict[str, Any]
    transitions: Annotated[dict[Name, TransitionDocument], msgspec.Meta(min_length=1)]
    lane: Lane = "build"
    policy: str = "default@1"
    registry_snapshot: str | None = None
    goal: tuple[Predicate, ...] = ()
    invariants: tuple[Predicate, ...] = ()


def read(document: Mapping[str, Any]) -> PlanDocument:
    """The typed document; raises `TheoryError` `ERR_PLAN_INVALID` naming the place."""
    transitions = document.get("transitions")
    entries = transitions if isinstance(transitions, Mapping) else {}
    for name, entry in entries.items():
        for later in ("on_fail", "trigger"):
            if isinstance(entry, Mapping) and later in entry:
                raise _later(f"$.transitions.{name}.{later}", later)
    if document.get("invariants"):
        raise _later("$.invariants", "invariants")
    try:
        return msgspec.convert(document, PlanDocument)
    except msgspec.ValidationError as error:
        fault = error
    for name, entry in entries.items():
        try:
            msgspec.convert(name, Name)
            msgspec.convert(entry, TransitionDocument)
        except msgspec.ValidationError as error:
            raise _invalid(error, f"$.transitions.{name}") from error
    raise _invalid(fault, "$") from fault


def _later(place: str, member: str) -> TheoryError:
    """Law: what a plan asks for is carried out or refused, never passed over."""
    message = f"{place}: this version does not carry out {member}; remove it"
    return TheoryError("ERR_PLAN_INVALID", message, {"place": place[:512]})


def _invalid(error: msgspec.ValidationError, top: str) -> TheoryError:
    """The fault of a value whose place `msgspec` names from `$`, which stands for `top`."""
    sentence, _, rest = str(error).partition(" - at `")
    _, _, inner = rest.rstrip("`").rpartition("`")
    place = top + inner.removeprefix("$")
    return TheoryError("ERR_PLAN_INVALID", f"{place}: {sentence}"[:1024], {"place": place[:512]})
