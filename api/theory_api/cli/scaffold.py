"""`theory scaffold`: begin a processor."""

from __future__ import annotations

from pathlib import Path

import rich_click as click

from theory_api.cli import tables
from theory_api.cli.options import Told, shared, told
from theory_core import TheoryError


@click.command()
@shared
@click.argument("ref", metavar="NS/NAME@N")
@click.option(
    "--into",
    metavar="DIR",
    type=click.Path(path_type=Path, file_okay=False),
    help="A folder for `processors` and `registry`; default: those of the settings.",
)
@told
def scaffold(given: Told, ref: str, into: Path | None) -> int:
    """Write a processor that works, to be changed into yours.

    Three files are yours: what it does, what it declares, what it is examined with.
    """
    from theory_api.delivery.scaffold.processor import (  # noqa: PLC0415 - checks schemas
        Places,
        scaffold,
    )

    settings = given.settings()
    known = Places(settings.processors, settings.registry)
    if into is None and "_assets" in settings.processors.parts:
        message = "invalid inputs payload: an installed package is no place to write to; use --into"
        raise TheoryError("ERR_INPUTS", message, {"reason": "into"})
    places = known if into is None else Places(into / "processors", into / "registry")
    written = scaffold(ref, places, known=known)
    if given.json:
        yours, others = ([str(file) for file in part] for part in (written.yours, written.others))
        tables.as_json({"ref": ref, "yours": yours, "others": others})
        return 0
    tables.say(["yours to change", *(f"  {file}" for file in written.yours)])
    tables.say(["to be left alone", *(f"  {file}" for file in written.others)])
    tables.say(["", f"next: theory conformance {ref}"])
    return 0
