"""`theory modal …`: processors deployed to Modal, looked at, probed and stopped."""

from __future__ import annotations

from typing import TYPE_CHECKING

import rich_click as click

from theory_api.cli import tables
from theory_api.cli.options import Told, shared, told
from theory_api.cli.session import with_cloud

if TYPE_CHECKING:
    from theory_api.delivery.modal import ModalDelivery
    from theory_api.ports.deployer import Deployed

REF = click.argument("ref", metavar="NS/NAME@N")
LANE = click.option("--lane", metavar="LANE", help="Whose pins and environment. [env: THEORY_LANE]")


@click.group()
@shared
def modal() -> None:
    """Processors in the cloud Modal: the adapters modal and modal-http reach them there."""


@modal.command()
@shared
@REF
@LANE
@told
def deploy(given: Told, ref: str, lane: str | None) -> int:
    """Deploy the pinned image of a processor: the functions run and mock."""
    _tell(given, with_cloud(given.settings(lane=lane), lambda cloud: cloud.deploy(ref)))
    return 0


@modal.command()
@shared
@REF
@LANE
@told
def probe(given: Told, ref: str, lane: str | None) -> int:
    """Ask the function without secrets to run in mode real; only a missing secret is an answer."""
    code = with_cloud(given.settings(lane=lane), lambda cloud: cloud.probe(ref))
    if given.json:
        tables.as_json({"ref": ref, "refused": code or ""})
    elif code is None:
        click.echo(f"{ref} declares no secret: there is nothing to probe")
    else:
        click.echo(f"{ref} refuses mode real where it has no secret: {code}")
    return 0


@modal.command()
@shared
@REF
@LANE
@told
def stop(given: Told, ref: str, lane: str | None) -> int:
    """Stop a processor's app; whoever runs in it is killed."""
    app = with_cloud(given.settings(lane=lane), lambda cloud: cloud.stop(ref))
    if given.json:
        tables.as_json({"stopped": app})
    else:
        click.echo(f"stopped {app}")
    return 0


@modal.command()
@shared
@REF
@LANE
@told
def status(given: Told, ref: str, lane: str | None) -> int:
    """Show what is deployed of a processor, and where."""
    _tell(given, with_cloud(given.settings(lane=lane), lambda cloud: cloud.status(ref)))
    return 0


@modal.command()
@shared
@REF
@LANE
@click.option("--lines", default=100, show_default=True, type=click.IntRange(1, 1000))
@told
def logs(given: Told, ref: str, lane: str | None, lines: int) -> int:
    """Print the last lines that a processor's containers wrote."""

    async def read(cloud: ModalDelivery) -> list[str]:
        return [line async for line in cloud.logs(ref, lines=lines)]

    tables.say(with_cloud(given.settings(lane=lane), read))
    return 0


@modal.command("verify-digest")
@shared
@REF
@LANE
@told
def verify_digest(given: Told, ref: str, lane: str | None) -> int:
    """Compare the image that is deployed with the one that is pinned.

    Drift is an error where the environment says that it fails; elsewhere it is reported.
    """
    seen = with_cloud(given.settings(lane=lane), lambda cloud: cloud.verify_digest(ref))
    if given.json:
        tables.as_json(
            [{"function": one.function, "pinned": one.pinned, "runs": one.digest} for one in seen]
        )
    else:
        rows = [
            (one.function, "drifted" if one.drifted else "as pinned", one.digest or "silent")
            for one in seen
        ]
        tables.say(tables.table(rows))
    return 0


@modal.command()
@shared
@LANE
@click.option(
    "--dry-run/--no-dry-run",
    default=True,
    show_default=True,
    help="Only say what would be stopped; --no-dry-run stops it.",
)
@told
def gc(given: Told, lane: str | None, dry_run: bool) -> int:
    """Stop your apps that the registry does not know any more, and versions beside newer ones.

    Apps of others, of other branches, and what Theory did not deploy are left alone. Whoever runs
    in an app that is stopped is killed.
    """
    found = with_cloud(given.settings(lane=lane), lambda cloud: cloud.collect(dry_run=dry_run))
    if given.json:
        facts = [{"app": one.app, "ref": one.ref, "reason": one.reason} for one in found]
        tables.as_json({"dry_run": dry_run, "apps": facts})
    else:
        does = "would stop" if dry_run else "stopped"
        tables.say(tables.table([(does, one.app, one.reason) for one in found]))
        click.echo(f"{len(found)} of your apps {'is' if len(found) == 1 else 'are'} stale")
    return 0


def _tell(given: Told, found: Deployed) -> None:
    if given.json:
        facts = {"app": found.app, "environment": found.environment, "urls": dict(found.urls)}
        tables.as_json(facts)
        return
    rows = [(function, url) for function, url in sorted(found.urls.items())]
    tables.say([f"{found.app} in {found.environment}", *tables.table(rows)])
