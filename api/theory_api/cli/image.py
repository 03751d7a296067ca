"""`theory image …`: the images that processors run in."""

from __future__ import annotations

import rich_click as click

from theory_api.cli import tables
from theory_api.cli.loop import run
from theory_api.cli.options import Told, shared, told


@click.group()
@shared
def image() -> None:
    """Images of processors, for the adapter local."""


@image.command()
@shared
@click.argument("ref", metavar="NS/NAME@N")
@click.option(
    "--mode",
    type=click.Choice(["mock", "real"]),
    default="real",
    show_default=True,
    help="Install what mode real needs, which serves both, or only what mock needs.",
)
@told
def build(given: Told, ref: str, mode: str) -> int:
    """Build an image from the processor's source; lane build runs what was built last.

    The same source, lock, wheels and base give the same image id.
    """
    from theory_api.wiring.containers import containers  # noqa: PLC0415 - stores take a second

    settings = given.settings()

    async def work() -> int:
        async with containers(settings) as here:
            built = await here.build(ref, mode=mode, on_progress=_say)
        if given.json:
            facts = {"ref": ref, "image_id": built.image_id, "reference": built.reference}
            tables.as_json({**facts, "file": str(built.file)})
        else:
            click.echo(f"{built.reference}  {built.image_id}")
        return 0

    return run(work())


def _say(text: str) -> None:
    click.echo(text, err=True)
