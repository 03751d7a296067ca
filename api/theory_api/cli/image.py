"""`theory image …`: the images that processors run in, built here and taken to a registry."""

from __future__ import annotations

import rich_click as click

from theory_api.cli import registry, tables
from theory_api.cli.options import Told, shared, told
from theory_api.cli.session import with_containers
from theory_api.delivery.pins import PLATFORMS
from theory_api.delivery.snapshot import ENVIRONMENTS

PLATFORM = click.option(
    "--platform", type=click.Choice(PLATFORMS), help="Which machines; default this one's."
)


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
    built = with_containers(
        given.settings(), lambda here: here.build(ref, mode=mode, on_progress=_say)
    )
    if given.json:
        facts = {"ref": ref, "image_id": built.image_id, "reference": built.reference}
        tables.as_json({**facts, "file": str(built.file)})
    else:
        click.echo(f"{built.reference}  {built.image_id}")
    return 0


@image.command()
@shared
@click.argument("ref", metavar="NS/NAME@N")
@PLATFORM
@told
def push(given: Told, ref: str, platform: str | None) -> int:
    """Take the image that was built last to the registry, and print the digest it has there.

    The registry is THEORY_IMAGE_REGISTRY; who you are to it is said by `docker login`.
    """
    pushed = with_containers(given.settings(), lambda here: here.push(ref, platform=platform or ""))
    if given.json:
        tables.as_json(pushed)
    else:
        click.echo(pushed.reference)
    return 0


@image.command()
@shared
@click.argument("ref", metavar="NS/NAME@N")
@click.option("--lane", type=click.Choice(ENVIRONMENTS), required=True, help="Whose pins.")
@PLATFORM
@told
def publish(given: Told, ref: str, lane: str, platform: str | None) -> int:
    """Build an image that serves both modes, push it, and pin its digest in a lane.

    The lane stays as it was unless all of it came about.
    """
    pushed, pinned = with_containers(
        given.settings(),
        lambda here: here.publish(ref, lane=lane, platform=platform or "", on_progress=_say),
    )
    registry.show(given, pinned, image_id=pushed.image_id, reference=pushed.reference)
    return 0


def _say(text: str) -> None:
    click.echo(text, err=True)
