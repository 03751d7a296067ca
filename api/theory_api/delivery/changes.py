"""What differs between two registries, by the names of their entries."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from theory_api.delivery.snapshot import load_registry
from theory_api.domain.registry import RegistrySnapshot
from theory_core import ERROR_CODES, TheoryError, loads_strict


@dataclass(frozen=True, slots=True)
class Change:
    """One entry that is not the same in both."""

    kind: str
    """`processors`, `pins`, …: the member of a snapshot that it is in."""
    name: str
    what: Literal["added", "removed", "changed"]


def read_either(place: Path) -> RegistrySnapshot:
    """The snapshot of a registry's folder, or of a file that holds one.

    It blocks. Raises `TheoryError`: `ERR_NOT_FOUND`, `ERR_INPUTS`.
    """
    if place.is_dir():
        return load_registry(place)
    try:
        document = place.read_bytes()
    except OSError as error:
        summary = ERROR_CODES["ERR_NOT_FOUND"].summary
        message = f"{summary}: no registry and no snapshot at {place.name}"
        raise TheoryError("ERR_NOT_FOUND", message, {"kind": "registry"}) from error
    return RegistrySnapshot.from_document(document.removesuffix(b"\n"))


def changes(before: RegistrySnapshot, after: RegistrySnapshot) -> tuple[Change, ...]:
    """Every entry that was added, removed or changed, by kind and name.

    Law: none if and only if the snapshots have one id.
    """
    old, new = (_entries(loads_strict(one.document)) for one in (before, after))
    found = [Change(*key, "added") for key in new.keys() - old.keys()]
    found += [Change(*key, "removed") for key in old.keys() - new.keys()]
    found += [Change(*key, "changed") for key in old.keys() & new.keys() if old[key] != new[key]]
    return tuple(sorted(found, key=lambda one: (one.kind, one.name)))


def _entries(document: Mapping[str, Any]) -> dict[tuple[str, str], Any]:
    """Kind and name -> entry; a pin is named by its lane and processor."""
    entries = {}
    for kind, members in document.items():
        if not isinstance(members, Mapping):
            entries[kind, ""] = members
            continue
        for name, entry in members.items():
            if kind == "pins":
                entries |= {(kind, f"{name}/{ref}"): digests for ref, digests in entry.items()}
            else:
                entries[kind, name] = entry
    return entries
