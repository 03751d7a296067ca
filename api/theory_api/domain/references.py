"""References inside inputs: where they stand, what they name, and what is put in their place."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from theory_core import TheoryError, WorldPath

_KINDS: Final[Mapping[str, Literal["artifact", "output", "attach"]]] = {
    "$artifact": "artifact",
    "$output": "output",
    "$attach": "attach",
}

RESOLVED: Final = frozenset({"path", "cid", "size_bytes", "mime"})
"""The members of an artifact in resolved inputs. Law: only the orchestrator writes such objects,
or a plan could read bytes of others by guessing their cid."""

ATTACHMENTS: Final = "/artifacts/attachments/"
"""Where a plan keeps what a person attached, by name."""


@dataclass(frozen=True, slots=True)
class Reference:
    """One reference of an inputs document."""

    kind: Literal["artifact", "output", "attach"]
    place: str
    """Where it stands, e.g. `$.script`."""
    path: str = ""
    """`artifact`: a plan-relative path; `output`: a path below the write prefix. Ends in `/` for
    all artifacts below it."""
    transition: str = ""
    name: str = ""

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
        if (
            not isinstance(target, Mapping)
            or set(target) != {"transition", "path"}
            or not all(isinstance(part, str) for part in target.values())
        ):
            raise _invalid(place, "$output needs exactly transition and path, both text")
        if not target["path"].startswith("outputs/"):
            raise _invalid(place, "$output.path begins with outputs/")
        path = _canonical(f"/artifacts/{target['path']}", place).removeprefix("/artifacts/")
        return Reference(kind, place, path=path, transition=target["transition"])
    if not isinstance(target, str) or not target:
        raise _invalid(place, f"${kind} needs a text")
    if kind == "attach":
        return Reference(kind, place, name=target)
    if not target.startswith("/artifacts/"):
        raise _invalid(place, "$artifact needs a path that begins with /artifacts/")
    return Reference(kind, place, path=_canonical(target, place))


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
    """An artifact in the place of a reference, where inputs are checked before it exists."""
    return [dict(_PLACEHOLDER)] if reference.many else dict(_PLACEHOLDER)


def find(value: Any) -> Iterator[Reference]:  # noqa: ANN401
    """Every reference of an inputs document, in its order."""
    found: list[Reference] = []
    substitute(value, found.append)
    return iter(found)


def _invalid(place: str, message: str) -> TheoryError:
    return TheoryError("ERR_PLAN_INVALID", f"{place}: {message}", {"place": place})
