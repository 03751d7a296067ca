"""Where the source of a processor lies."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Final

from theory_core import TheoryError

_REF: Final = re.compile(r"([a-z][a-z0-9]{0,30})/([a-z][a-z0-9-]{0,62})@([1-9][0-9]{0,3})")

Resolver = Callable[[str], Path]
"""The folder of a ref's `main.py`; raises `TheoryError` `ERR_NOT_FOUND`."""


def folder_resolver(root: Path) -> Resolver:
    """Processors at `{root}/{ns}/{name}/{v}/`."""

    def resolve(ref: str) -> Path:
        match = _REF.fullmatch(ref)
        folder = None if match is None else root.joinpath(*match.groups())
        if folder is None or not (folder / "main.py").is_file():
            message = "not found: no source of this processor here"
            raise TheoryError("ERR_NOT_FOUND", message, {"kind": "processor"})
        return folder

    return resolve
