"""References inside inputs: where they stand, what they name, and what is put in their place."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from theory_api.domain.values import Predicate
from theory_core import TheoryError, WorldPath

Kind = Literal["artifact", "output", "attach", "world", "verdict"]

_KINDS: Final[Mapping[str, Kind]] = {
    "$artifact": "artifact",
    "$output": "output",
    "$attach": "attach",
    "$world": "world",
    "$verdict": "verdict",
}

TOLD: Final = frozenset({"$world", "$verdict"})
"""References that stand for what is known of the world, not for bytes to read. Law: a resolved
document keeps what was told under the same mark, which nothing else in it can have, so that no
listed artifact is ever taken for one that the attempt may read."""

RESOLVED: Final = frozenset({"path", "cid", "size_bytes", "mime"})
"""The members of an artifact in resolved inputs. Law: only the orchestrator writes such objects,
or a plan could read bytes of others by guessing their cid."""

ATTACHMENTS: Final = "/artifacts/attachments/"
"""Where a plan keeps what a person attached, by name."""


@dataclass(frozen=True, slots=True)
class Reference:
    """One reference of an inputs document."""

    kind: Kind
    place: str
    """Where it stands, e.g. `$.script`."""
    path: str = ""
    """`artifact`: a plan-relative path; `output`: a path below the write prefix. Ends in `/` for
    all artifacts below it. `world`: what is listed, always with the slash."""
    transition: str = ""
    name: str = ""
    predicate: Predicate | None = None
    """`verdict`: what is judged."""

    @property
    def many(self) -> bool:
        """Whether it stands for a list."""
        return self.path.endswith("/")


def parse(value: Mapping[str, Any], place: str) -> Reference | None:
    """The reference that an object is; None for any other object.

    Raises `TheoryError` with the place: `ERR_PLAN_INVALID` for an object with a `$` member that is
    none, or that looks like a resolved one; the codes of WorldPaths.
    """
    marks = [name for name in value if name.startswith("$")]
    if not marks:
        if set(value) == RESOLVED:
            raise _invalid(place, "an artifact is named by a reference, never by its cid")
        return None
    kind = _KINDS.get(marks[0])
    if kind is None or len(value) != 1:
        known = ", ".join(_KINDS)
        raise _invalid(place, f"a reference is one of {known}, alone in its object")
    target = value[marks[0]]
    if kind == "output":
        return _output(target, place)
    if kind == "verdict":
        return Reference(kind, place, predicate=_predicate(target, place))
    if not isinstance(target, str) or not target:
        raise _invalid(place, f"${kind} needs a text")
    if kind == "attach":
        return Reference(kind, place, name=target)
    if not target.startswith("/artifacts/"):
        raise _invalid(place, f"${kind} needs a path that begins with /artifacts/")
    path = _canonical(target, place)
    if kind == "world" and not path.endswith("/"):
        message = f"{place}: $world lists what lies below a path: it ends in /"
        raise TheoryError("ERR_SELECTOR_KIND_MISMATCH", message, {"place": place})
    return Reference(kind, place, path=path)


def _output(target: object, place: str) -> Reference:
    if (
        not isinstance(target, Mapping)
        or set(target) != {"transition", "path"}
        or not all(isinstance(part, str) for part in target.values())
    ):
        raise _invalid(place, "$output needs exactly transition and path, both text")
    if not target["path"].startswith("outputs/"):
        raise _invalid(place, "$output.path begins with outputs/")
    path = _canonical(f"/artifacts/{target['path']}", place).removeprefix("/artifacts/")
    return Reference("output", place, path=path, transition=target["transition"])


def _predicate(target: object, place: str) -> Predicate:
    if (
        not isinstance(target, Mapping)
        or set(target) != {"name", "params"}
        or not isinstance(target["name"], str)
        or not isinstance(target["params"], Mapping)
    ):
        raise _invalid(place, "$verdict needs exactly name and params, as a predicate has them")
    return Predicate(name=target["name"], params=dict(target["params"]))


def _canonical(path: str, place: str) -> str:
    try:
        return WorldPath(path, root="/world/any/plan").relative
    except TheoryError as error:
        detail = {**error.detail, "place": place}
        raise TheoryError(error.code, f"{place}: {error.message}", detail) from error


def substitute(value: Any, put: Callable[[Reference], Any], place: str = "$") -> Any:  # noqa: ANN401
    """`value` with every reference replaced by what `put` answers. Depth is bounded by the core."""
    if isinstance(value, Mapping):
        reference = parse(value, place)
        if reference is not None:
            return put(reference)
        return {name: substitute(item, put, f"{place}.{name}") for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [substitute(item, put, f"{place}[{index}]") for index, item in enumerate(value)]
    return value


_PLACEHOLDER: Final[Mapping[str, Any]] = {
    "path": "/artifacts/placeholder",
    "cid": "b3:" + "0" * 64,
    "size_bytes": 0,
    "mime": "application/octet-stream",
}


def stand_in(reference: Reference) -> Any:  # noqa: ANN401
    """What a reference may stand for, where inputs are checked before it exists."""
    if reference.predicate is not None:
        return verdict_told(reference.predicate, "false", "it was not judged yet")
    return [dict(_PLACEHOLDER)] if reference.many else dict(_PLACEHOLDER)


def verdict_told(predicate: Predicate, verdict: str, reason: str) -> dict[str, Any]:
    """A verdict as a run is told of it."""
    return {
        "name": predicate.name,
        "params": predicate.params,
        "verdict": verdict,
        "reason": reason,
    }


def plain(value: Any) -> Any:  # noqa: ANN401
    """Resolved inputs as a processor has them: what was told of the world without its mark."""
    return _unmarked(value, lambda artifact: artifact)


def travelling(value: Any, address: Callable[[str], str]) -> Any:  # noqa: ANN401
    """Resolved inputs as they travel: `plain`, every artifact to be read with its address."""
    return _unmarked(value, lambda artifact: {**artifact, "url": address(artifact["cid"])})


def readable(value: Any) -> list[Mapping[str, Any]]:  # noqa: ANN401
    """Every artifact of resolved inputs whose bytes the attempt may read, in their order."""
    found: list[Mapping[str, Any]] = []

    def put(artifact: Mapping[str, Any]) -> None:
        found.append(artifact)

    _unmarked(value, put)
    return found


def _unmarked(value: Any, put: Callable[[Mapping[str, Any]], Any]) -> Any:  # noqa: ANN401
    if isinstance(value, Mapping):
        if len(value) == 1 and not TOLD.isdisjoint(value):
            return next(iter(value.values()))
        if set(value) == RESOLVED:
            return put(value)
        return {name: _unmarked(item, put) for name, item in value.items()}
    if isinstance(value, list):
        return [_unmarked(item, put) for item in value]
    return value


def find(value: Any) -> Iterator[Reference]:  # noqa: ANN401
    """Every reference of an inputs document, in its order."""
    found: list[Reference] = []
    substitute(value, found.append)
    return iter(found)


def _invalid(place: str, message: str) -> TheoryError:
    return TheoryError("ERR_PLAN_INVALID", f"{place}: {message}", {"place": place})
