"""`theory world`: what stands at an address of the World."""

from __future__ import annotations

from typing import Any

import rich_click as click

from theory_api.cli import tables
from theory_api.cli.loop import run
from theory_api.cli.options import Told, shared, told
from theory_api.cli.session import reader
from theory_api.services.views import WorldView


@click.command()
@shared
@click.argument("path", metavar="PATH")
@click.option("--after", metavar="TEXT", default="", help="The next_after of a page.")
@told
def world(given: Told, path: str, after: str) -> int:
    """Show what stands at PATH, e.g. /world/local/film/streams/ or world://local/film/plan.

    A path that ends in / lists what lies below it.
    """
    settings = given.settings()

    async def work() -> int:
        async with reader(settings) as services:
            view = await services.worlds.at(path, after=after)
        listed = view.kind in _LISTED and not given.json
        tables.say(_LISTED[view.kind](view)) if listed else tables.as_json(view)
        return 0

    return run(work())


def _streams(view: WorldView) -> list[str]:
    rows = [
        (
            row["path"],
            str(row["frames"]),
            str(row["size_bytes"]),
            row["digest"],
            row["execution_id"] or "",
        )
        for row in view.value["streams"]
    ]
    head = ("stream", "frames", "bytes", "digest", "execution")
    return _paged(view, tables.table([head, *rows], right=frozenset({1, 2})), rows)


def _artifacts(view: WorldView) -> list[str]:
    rows = [
        (row["path"], str(row["size_bytes"]), row["mime"], row["cid"])
        for row in view.value["artifacts"]
    ]
    head = ("artifact", "bytes", "type", "digest")
    return _paged(view, tables.table([head, *rows], right=frozenset({1})), rows)


def _paged(view: WorldView, lines: list[str], rows: list[Any]) -> list[str]:
    found = lines if rows else [f"nothing at {view.path}"]
    more = view.value["next_after"]
    return found if more is None else [*found, f"more: --after {more}"]


_LISTED = {"streams": _streams, "stream": _streams, "artifacts": _artifacts}
"""What people read as a table; the rest is JSON either way."""
