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
    estimate: dict[str, int] | None = None
    timeout_s: Annotated[int, msgspec.Meta(ge=1, le=86_400)] | None = None


class PlanDocument(Member, frozen=True, kw_only=True):
    """A whole plan. `plan` is a name under the caller's tenant, or `/world/{tenant}/{plan}`."""

    schema: Literal["theory.plan.v1"]
    plan: Annotated[str, msgspec.Meta(min_length=1, max_length=255)]
    budget: dict[str, int]
    transitions: Annotated[dict[Name, TransitionDocument], msgspec.Meta(min_length=1)]
    lane: Lane = "build"
    policy: str = "default@1"
    registry_snapshot: str | None = None
    goal: tuple[Predicate, ...] = ()
    invariants: tuple[Predicate, ...] = ()


def read(document: Mapping[str, Any]) -> PlanDocument:
    """The typed document; raises `TheoryError` `ERR_PLAN_INVALID` naming the place."""
    for later in ("on_fail", "trigger"):
        transitions = document.get("transitions")
        for name, entry in transitions.items() if isinstance(transitions, Mapping) else ():
            if isinstance(entry, Mapping) and later in entry:
                place = f"$.transitions.{name}.{later}"
                message = f"{place}: this version does not carry out {later}; remove it"
                raise TheoryError("ERR_PLAN_INVALID", message, {"place": place})
    try:
        return msgspec.convert(document, PlanDocument)
    except msgspec.ValidationError as error:
        text = str(error)
        sentence, _, place = text.partition(" - at `")
        place = place.rstrip("`") or "$"
        message = f"{place}: {sentence[:512]}"
        raise TheoryError("ERR_PLAN_INVALID", message, {"place": place[:512]}) from error
