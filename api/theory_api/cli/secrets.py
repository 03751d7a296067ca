"""`theory secrets …`: which secrets are missing where, and how they get there."""

from __future__ import annotations

from pathlib import Path

import rich_click as click

from theory_api.cli import tables
from theory_api.cli.failures import FAILED
from theory_api.cli.loop import run
from theory_api.cli.options import Told, shared, told
from theory_api.delivery.snapshot import ENVIRONMENTS

SOURCE = click.option(
    "--from",
    "folder",
    metavar="DIR",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Private folder with a file SCOPE/NAME for each; default: this process's environment.",
)


@click.group()
@shared
def secrets() -> None:
    """Secrets that registry/secrets.yaml lists; no value is ever printed."""


@secrets.command()
@shared
@click.option("--lane", type=click.Choice(ENVIRONMENTS), help="One environment; default all.")
@SOURCE
@click.option("--source-only", is_flag=True, help="Do not ask Modal, look at the source alone.")
@told
def check(given: Told, lane: str | None, folder: Path | None, source_only: bool) -> int:
    """Say which secrets are missing, environment by environment.

    Exit code 0: none is missing in Modal (with --source-only: in the source); 1: one is. A secret
    that no processor requires, and some can use, is never missing.
    """
    from theory_api.wiring import secrets as wiring  # noqa: PLC0415 - stores take a second

    environments = ENVIRONMENTS if lane is None else (lane,)

    async def work() -> int:
        async with wiring.secrets(given.settings(), environments, folder) as keeper:
            seen = await keeper.check(environments, ask_vaults=not source_only)
        if given.json:
            tables.as_json(
                [
                    {
                        "environment": one.environment,
                        "name": one.name,
                        "source": one.source,
                        "modal": "" if one.vault is None else one.vault.value,
                        "missing": one.missing,
                        "optional": one.optional,
                    }
                    for one in seen
                ]
            )
        else:
            head = ("environment", "name", "source", "Modal")
            rows = [
                (
                    one.environment,
                    one.name,
                    "there" if one.source else "optional" if one.optional else "missing",
                    "not asked" if one.vault is None else one.vault.value,
                )
                for one in seen
            ]
            tables.say(tables.table([head, *rows]))
        return FAILED if any(one.missing for one in seen) else 0

    return run(work())


@secrets.command()
@shared
@click.option("--lane", type=click.Choice(ENVIRONMENTS), required=True, help="Which environment.")
@SOURCE
@click.option("--only", metavar="NAME", multiple=True, help="This secret alone; again for more.")
@click.option("--dry-run", is_flag=True, help="Say what would be sent, and send nothing.")
@told
def sync(given: Told, lane: str, folder: Path | None, only: tuple[str, ...], dry_run: bool) -> int:
    """Make the Modal Secrets of an environment, or give those that are there the source's values.

    Nothing is sent unless the source has all of it; optional secrets are sent if it has them, or if
    --only names them. Containers that run keep what they started
    with.
    """
    from theory_api.wiring import secrets as wiring  # noqa: PLC0415 - as above

    async def work() -> int:
        async with wiring.secrets(given.settings(), (lane,), folder) as keeper:
            sent = await keeper.sync(lane, only=only, dry_run=dry_run)
        if given.json:
            facts = [{"environment": lane, "name": one.name, "new": one.new} for one in sent]
            tables.as_json({"dry_run": dry_run, "sent": facts})
        else:
            would = "would be " if dry_run else ""
            rows = [(lane, one.name, would + ("made" if one.new else "replaced")) for one in sent]
            tables.say(tables.table(rows))
        return 0

    return run(work())
