"""`theory registry …`: the registry that is written by people, and the pins that are not."""

from __future__ import annotations

from pathlib import Path

import rich_click as click

from theory_api.cli import tables
from theory_api.cli.failures import FAILED
from theory_api.cli.ledger import write
from theory_api.cli.options import Told, shared, told
from theory_api.cli.session import with_cloud
from theory_api.delivery.changes import changes, read_either
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


@registry.command()
@shared
@click.option(
    "--out", metavar="FILE", type=click.Path(path_type=Path, dir_okay=False), help="Default stdout."
)
@told
def snapshot(given: Told, out: Path | None) -> int:
    """Write the registry as one line of canonical JSON; its digest is the snapshot's id."""
    document = load_registry(given.settings().registry).document
    if out is None:
        click.echo(document + b"\n", nl=False)
    else:
        write(out, document + b"\n")
    return 0


@registry.command()
@shared
@click.argument("before", metavar="BEFORE", type=click.Path(path_type=Path))
@click.argument("after", metavar="[AFTER]", type=click.Path(path_type=Path), required=False)
@told
def diff(given: Told, before: Path, after: Path | None) -> int:
    """Say which entries differ between two registries, each a folder or a file with a snapshot.

    AFTER is this registry unless it is named. Exit code 0: they are one; 1: they differ.
    """
    found = changes(read_either(before), read_either(after or given.settings().registry))
    if given.json:
        tables.as_json([{"kind": one.kind, "name": one.name, "what": one.what} for one in found])
    else:
        tables.say(tables.table([(one.what, one.kind, one.name) for one in found]))
    return FAILED if found else 0


@registry.command()
@shared
@click.option("--lane", metavar="LANE", help="Whose pins and environment. [env: THEORY_LANE]")
@told
def drift(given: Told, lane: str | None) -> int:
    """Compare the images that are deployed to Modal with those that are pinned, for all processors.

    Drift is an error where the environment says that it fails; elsewhere it is reported.
    """
    seen = with_cloud(given.settings(lane=lane), lambda cloud: cloud.drift())
    if given.json:
        tables.as_json(
            [
                {"ref": one.ref, "function": one.function, "pinned": one.pinned, "runs": one.digest}
                for one in seen
            ]
        )
    else:
        rows = [
            (
                one.ref,
                one.function,
                "drifted" if one.drifted else "as pinned",
                one.digest or "silent",
            )
            for one in seen
        ]
        tables.say(tables.table(rows))
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
