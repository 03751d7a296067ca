"""Built-in predicates: their parameters, what they read, and the ones that the state answers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from theory_api.domain import facts
from theory_api.domain.evolve import selector
from theory_api.domain.references import Reference
from theory_api.domain.runnable import leased, unaffordable
from theory_api.domain.state import PlanState
from theory_api.domain.values import Predicate, Verdict, Verdict3
from theory_api.domain.vector import checked
from theory_core import Selector, TheoryError, WorldPath

WORLD: Final = frozenset(
    {
        "artifact.exists@1",
        "file.count_min@1",
        "file.size_gt@1",
        "series.has_new@1",
        "stream.has_data@1",
    }
).union(facts.READ_BYTES, ("world.judged@1", "world.listed@1"))
"""Predicates that read artifacts; evaluated on a view of the world stamped with its seq."""

LISTED: Final = "world.listed@1"
"""True of what a run is told lies below a path (spec: inputs)."""
JUDGED: Final = "world.judged@1"
"""True of what a run is told another predicate answers."""

TOLD: Final = frozenset({LISTED, JUDGED})
"""Predicates that hold nothing up: they stamp what an attempt is told with the seq of reading."""

STATE: Final = frozenset({"budget.available@1", "dependency.satisfied@1", "lease.acquirable@1"})
"""Predicates that the plan's own state answers."""

MACHINE: Final = frozenset({"disk.space_available@1"})
"""Predicates about the machine: what they read changes without any event of the plan."""

FOLDERS: Final = frozenset({"file.count_min@1", "series.has_new@1"})
"""Predicates that read what lies below a path, with or without the slash."""

_ANYWHERE: Final = "/world/any/plan"
"""Stands for a plan where only the grammar of a path matters."""

_PARAMS: Final[Mapping[str, Mapping[str, type]]] = {
    "artifact.exists@1": {"path": str, "transition?": str},
    "artifact.jmespath_ok@1": {"path": str, "transition?": str, "expression": str},
    "disk.space_available@1": {"free_bytes": int},
    "file.count_min@1": {"path": str, "transition?": str, "count": int},
    "file.size_gt@1": {"path": str, "transition?": str, "size_bytes": int},
    "http.get.200@1": {"path": str, "transition?": str, "url?": str},
    "image.resolution_min@1": {"path": str, "transition?": str, "width": int, "height": int},
    "json.schema_ok@1": {"path": str, "transition?": str, "schema": dict},
    "media.duration_between@1": {
        "path": str,
        "transition?": str,
        "min_ms": int,
        "max_ms": int,
    },
    "series.has_new@1": {"path": str, "transition?": str, "after?": str},
    "stream.has_data@1": {"path": str, "transition?": str},
    "tests.pass@1": {"path": str, "transition?": str, "min?": int},
    "budget.available@1": {"amount": dict},
    "dependency.satisfied@1": {"transition": str},
    "lease.acquirable@1": {"path": str},
    "world.judged@1": {"name": str, "params": dict},
    "world.listed@1": {"path": str},
}


def implied(reference: Reference, *, place: str) -> Predicate | None:
    """The predicate that stamps what a reference tells of the world; None if it tells nothing.

    Raises `TheoryError` with the place, as `validate` does.
    """
    if reference.kind == "world":
        asked = Predicate(name=LISTED, params={"path": reference.path})
    elif reference.predicate is not None:
        told = {"name": reference.predicate.name, "params": reference.predicate.params}
        asked = Predicate(name=JUDGED, params=told)
    else:
        return None
    validate(asked, place=place)
    return asked


def inner(predicate: Predicate) -> Predicate:
    """What a `world.judged@1` asks about."""
    return Predicate(name=predicate.params["name"], params=predicate.params["params"])


def validate(predicate: Predicate, *, place: str) -> None:
    """Refuse unknown names and parameters that do not fit.

    Raises `TheoryError` with the place: `ERR_PLAN_INVALID`, and the codes of WorldPaths.
    """
    expected = _PARAMS.get(predicate.name)
    if expected is None:
        known = ", ".join(sorted(_PARAMS))
        message = f"{place}: unknown predicate {predicate.name[:64]!r}; known are {known}"
        raise TheoryError("ERR_PLAN_INVALID", message, {"place": place})
    names = {name.rstrip("?") for name in expected}
    for name in predicate.params:
        if name not in names:
            message = f"{place}: {predicate.name} has no parameter {name[:64]!r}"
            raise TheoryError("ERR_PLAN_INVALID", message, {"place": place})
    for name, kind in expected.items():
        value = predicate.params.get(name.rstrip("?"))
        if value is None and name.endswith("?"):
            continue
        if type(value) is not kind or (isinstance(value, int) and not 0 <= value < 2**53):
            message = f"{place}: {predicate.name} needs {name.rstrip('?')} as {kind.__name__}"
            raise TheoryError("ERR_PLAN_INVALID", message, {"place": place})
    _check_values(predicate, place=place)


def _check_values(predicate: Predicate, *, place: str) -> None:
    if predicate.name == "budget.available@1":
        checked(predicate.params["amount"], place=f"{place}.params.amount")
    if "path" in predicate.params:
        _check_path(predicate, place=f"{place}.params.path")
    if predicate.name == JUDGED:
        _check_judged(inner(predicate), place=f"{place}.params")
    facts.check(predicate, place=place)


def _check_judged(asked: Predicate, *, place: str) -> None:
    """Law: what a run is told is read from artifacts, at paths that are no attempt's own."""
    if asked.name not in WORLD or asked.name in TOLD:
        message = f"{place}.name: {asked.name[:64]!r} does not read the artifacts of the world"
        raise TheoryError("ERR_PLAN_INVALID", message, {"place": f"{place}.name"})
    validate(asked, place=place)
    if not asked.params["path"].startswith("/") or "transition" in asked.params:
        message = f"{place}.params.path: a path begins with a facet such as /artifacts/"
        raise TheoryError("ERR_PLAN_INVALID", message, {"place": f"{place}.params.path"})


def _check_path(predicate: Predicate, *, place: str) -> None:
    """Law: a predicate reads its own plan; what no WorldPath can name is refused, not false."""
    path: str = predicate.params["path"]
    own = predicate.name in WORLD - TOLD and path.split("/", 1)[0] == "outputs"
    if not own and not path.startswith("/"):
        where_to = " or with outputs/" if predicate.name in WORLD - TOLD else ""
        message = f"{place}: a path begins with a facet such as /artifacts/{where_to}"
        raise TheoryError("ERR_PLAN_INVALID", message, {"place": place})
    try:
        world = WorldPath(f"/artifacts/{path}" if own else path, root=_ANYWHERE)
    except TheoryError as error:
        detail = {**error.detail, "place": place}
        raise TheoryError(error.code, f"{place}: {error.message}", detail) from error
    if path.startswith("/world/"):
        message = f"{place}: a predicate names paths of its plan by /{world.facet}/…"
        raise TheoryError("ERR_PLAN_INVALID", message, {"place": place})
    if predicate.name == "stream.has_data@1" and not own and world.facet != "streams":
        message = f"{place}: a stream lies below /streams/ or outputs/"
        raise TheoryError("ERR_PLAN_INVALID", message, {"place": place})
    if predicate.name == LISTED and not (world.facet == "artifacts" and world.is_prefix):
        message = f"{place}: what is listed lies below /artifacts/, and the path ends in /"
        raise TheoryError("ERR_PLAN_INVALID", message, {"place": place})
    if predicate.params.get("after"):
        _check_after(predicate.params["after"], place=place.rpartition(".")[0] + ".after")


def _check_after(name: str, *, place: str) -> None:
    """Law: what a series is read after is a name in it, spelled as its paths are."""
    try:
        spelled = WorldPath(f"/artifacts/{name}", root=_ANYWHERE).segments
    except TheoryError as error:
        detail = {**error.detail, "place": place}
        raise TheoryError(error.code, f"{place}: {error.message}", detail) from error
    if "/".join(spelled) != name:
        message = f"{place}: it is no name as paths have it, such as {'/'.join(spelled)[:64]!r}"
        raise TheoryError("ERR_PLAN_INVALID", message, {"place": place})


def where(predicate: Predicate, state: PlanState, own: str | None) -> str | None:
    """The plan-relative path that a world predicate reads; None while there is none yet.

    A path with its facet stands for itself. `outputs/…` is below the write prefix of the newest
    attempt of `transition`, or of the transition that the predicate belongs to. What counts files,
    or looks for new ones, reads a whole prefix, with or without the slash.
    """
    path: str = predicate.params["path"]
    if not path.startswith("/"):
        name = predicate.params.get("transition", own)
        entry = state.transitions.get(name) if name is not None else None
        if entry is None or entry.write_prefix is None:
            return None
        path = entry.write_prefix + path
    if predicate.name in FOLDERS and not path.endswith("/"):
        path += "/"
    return WorldPath(path, root=state.plan).relative


def reads(predicate: Predicate, state: PlanState, own: str | None) -> Selector | None:
    """What of the world a predicate's answer depends on."""
    if predicate.name not in WORLD:
        return None
    if predicate.name == JUDGED:
        return reads(inner(predicate), state, own)
    path = where(predicate, state, own)
    if path is None:
        return None
    return selector(state.plan, "prefix" if path.endswith("/") else "exact", path)


def judge(predicate: Predicate, state: PlanState, own: str | None) -> tuple[Verdict3, str]:
    """The answer of a predicate in `STATE`, and why."""
    params: Mapping[str, Any] = predicate.params
    if predicate.name == "dependency.satisfied@1":
        entry = state.transitions.get(params["transition"])
        status = "not proposed" if entry is None else entry.status
        return _three(status == "succeeded", f"{params['transition']} is {status}")
    if predicate.name == "budget.available@1":
        blocked = unaffordable(state, params["amount"])
        return _three(blocked is None, "it fits" if blocked is None else blocked.reason)
    if predicate.name == "lease.acquirable@1":
        path: str = params["path"]
        wanted = selector(state.plan, "prefix" if path.endswith("/") else "exact", path)
        others = leased(state, (wanted,), besides=own)
        return _three(others is None, "it is free" if others is None else others.reason)
    return "error", f"{predicate.name} is not answered by the state"


def _three(value: bool, reason: str) -> tuple[Verdict3, str]:  # noqa: FBT001
    return ("true" if value else "false"), reason


def stale(state: PlanState, verdicts: Iterable[Verdict], own: str | None = None) -> bool:
    """Whether an answer is older than the last event that touched what it read.

    Law: decisions count only answers that would be the same if evaluated now.
    """
    for verdict in verdicts:
        predicate = Predicate(name=verdict.name, params=verdict.params)
        if predicate.name in STATE:
            if judge(predicate, state, own)[0] != verdict.verdict:
                return True
            continue
        if not state.touches or state.touches[-1][0] <= verdict.at_seq:
            continue
        scope = reads(predicate, state, own)
        if scope is None:
            continue
        for seq, touched in reversed(state.touches):
            if seq <= verdict.at_seq:
                break
            if touched.overlaps(scope):
                return True
    return False
