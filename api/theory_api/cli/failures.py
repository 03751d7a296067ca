"""How a failure looks on the command line: one coded message and what to do, or one JSON object."""

from __future__ import annotations

import sys
from typing import Final

import rich_click as click

from theory_core import ERROR_CODES, TheoryError, canonicalize

FAILED: Final = 1
"""Exit code of a coded error."""

USAGE: Final = 2
"""Exit code of a command line that cannot be understood."""

INTERRUPTED: Final = 130
"""Exit code after SIGINT or SIGTERM, as shells expect it."""


def report(error: TheoryError, *, as_json: bool) -> None:
    """Tell about an error: a JSON object on stdout for programs, sentences on stderr for people."""
    if as_json:
        line = {"code": error.code, "message": error.message, "detail": dict(error.detail)}
        click.echo(canonicalize(line) + b"\n", nl=False)
        return
    click.echo(f"error {error.code}: {error.message}", err=True)
    facts = ", ".join(f"{name} {value}" for name, value in dict(error.detail).items())
    if facts:
        click.echo(f"  where: {facts}", err=True)
    click.echo(f"  what to do: {remedy(error.code)}", err=True)
    sys.stderr.flush()


def remedy(code: str) -> str:
    """What the catalogue advises for a code."""
    known = ERROR_CODES.get(code)
    return known.remedy if known is not None else "See the message."
