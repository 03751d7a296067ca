"""Where secrets come from on one machine: a private file of the home, or the environment."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path


class LocalSecrets:
    """Values of secrets by name; the registry's allow-list decides which names are asked for."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self._folder = folder
        self._environment = environment

    def __call__(self, name: str) -> str | None:
        """`{folder}/{name}` without its last newline, else the variable `name`, else None."""
        try:
            return (self._folder / name).read_text(encoding="utf-8").removesuffix("\n")
        except FileNotFoundError:
            return self._environment.get(name)
