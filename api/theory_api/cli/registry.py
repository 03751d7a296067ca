"""`theory registry …`: the registry that is written by people, and the pins that are not."""

from __future__ import annotations

import rich_click as click

from theory_api.cli import tables
from theory_api.cli.options import Told, shared, told
from theory_api.delivery.pins import PLATFORMS, Pinned, pin
from theory_api.delivery.snapshot import ENVIRONMENTS, load_registry


@click.group()
@shared
def registry() -> None:
    """Specs of processors, schemas, policies, and which images lanes run."""


@registry.command()
@shared
@told
def check(given: Told) -> int:
    """Read all of the registry, hold it against its schemas and itself, and print its id."""
    snapshot = load_registry(given.settings().registry)
    if given.json:
        tables.as_json({"snapshot": snapshot.id, "processors": sorted(snapshot.processors)})
    else:
        click.echo(f"{snapshot.id}  {len(snapshot.processors)} processors")
    return 0


@registry.command("pin")
@shared
@click.argument("ref", metavar="NS/NAME@N")
@click.option("--lane", type=click.Choice(ENVIRONMENTS), required=True, help="Who runs it.")
@click.option("--digest", metavar="sha256:HEX", required=True, help="Digest of the manifest.")
@click.option(
    "--platform", type=click.Choice(PLATFORMS), help="Which machines; default this one's."
)
@told
def pin_image(given: Told, ref: str, lane: str, digest: str, platform: str | None) -> int:
    """Write the digest of an image into the pins of a lane.

    Plans that are made from now on run it there; those that exist keep the registry they pinned.
    """
    settings = given.settings()
    where = platform or settings.platform
    show(given, pin(settings.registry, ref, lane=lane, platform=where, digest=digest))
    return 0


def show(given: Told, pinned: Pinned, **more: str) -> None:
    """A pin, and what it took the place of."""
    if given.json:
        facts = {
            "ref": pinned.ref,
            "lane": pinned.lane,
            "platform": pinned.platform,
            "digest": pinned.digest,
            "before": pinned.before,
            "snapshot": pinned.snapshot,
        }
        tables.as_json(facts | more)
        return
    change = "pinned" if pinned.changed else "was pinned already"
    click.echo(f"{pinned.ref} {change} in {pinned.lane} for {pinned.platform}: {pinned.digest}")
    if pinned.changed and pinned.before:
        click.echo(f"  before: {pinned.before}")
