"""Writes the files of a new processor, or none of them."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Final

from theory_api.delivery.snapshot import load_registry
from theory_api.domain.registry import slug
from theory_core import TheoryError

PLAIN: Final = "media/shotlist/1"
"""A processor that needs the runtime and nothing else: its lock is anybody's first."""

_LOCKS: Final = ("requirements.in", "requirements.txt")


@dataclass(frozen=True, slots=True)
class Places:
    """Where processors and their specs lie."""

    processors: Path
    registry: Path


@dataclass(frozen=True, slots=True)
class Written:
    """The files of a new processor."""

    yours: tuple[Path, ...]
    """To be changed: what it does, what it declares, what it is examined with."""
    others: tuple[Path, ...]


def scaffold(ref: str, places: Places, *, known: Places) -> Written:
    """Write the files of `ref` at `places`; `known` has the registry and the locks to begin with.

    A registry that is not there yet is a copy of the known one. Raises `TheoryError`: `ERR_INPUTS`
    for a reference outside the grammar or a registry that does not fit, `ERR_CONFLICT` if one of
    the files is there, `ERR_STORAGE`.
    """
    words = {"ref": ref, "slug": slug(ref), "name": ref.partition("/")[2].partition("@")[0]}
    source = places.processors / ref.replace("@", "/")
    spec = places.registry / "processors" / f"{ref.replace('@', '/')}.yaml"
    test = source / "tests" / f"test_{words['name'].replace('-', '_')}.py"
    yours = {
        source / "provider.py": "provider.py.txt",
        spec: "spec.yaml.txt",
        source / "conformance.yaml": "conformance.yaml.txt",
    }
    others = {source / "main.py": "main.py.txt", test: "test.py.txt"}
    locks = [source / name for name in _LOCKS]
    for file in (*yours, *others, *locks):
        if file.exists():
            message = f"conflict: {file} is there already; nothing was written"
            raise TheoryError("ERR_CONFLICT", message, {"file": str(file)})
    load_registry(places.registry if places.registry.exists() else known.registry)
    try:
        if not places.registry.exists():
            shutil.copytree(known.registry, places.registry)
        for file, template in (yours | others).items():
            _write(file, template, words)
        for file in locks:
            shutil.copyfile(known.processors / PLAIN / file.name, file)
    except OSError as error:
        message = f"storage unavailable: the files cannot be written: {error.strerror}"
        raise TheoryError("ERR_STORAGE", message) from error
    load_registry(places.registry)
    return Written(tuple(yours), (*others, *locks))


def _write(file: Path, template: str, words: Mapping[str, str]) -> None:
    text = files(__package__).joinpath("templates", template).read_text(encoding="utf-8")
    for name, value in words.items():
        text = text.replace(f"{{{{{name}}}}}", value)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")
