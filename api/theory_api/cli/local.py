"""`theory local …`: containers that wait for work, so that a run need not start one."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import rich_click as click

from theory_api.cli import tables
from theory_api.cli.options import Told, shared, told
from theory_api.cli.session import with_containers

if TYPE_CHECKING:
    from theory_api.wiring.containers import Containers

ANY_REF = click.argument("ref", metavar="[NS/NAME@N]", default="")


@click.group()
@shared
def local() -> None:
    """Containers of the adapter local that stay up between runs."""


@local.command()
@shared
@click.argument("ref", metavar="NS/NAME@N")
@click.option("--lane", metavar="LANE", help="Whose pinned image. [env: THEORY_LANE]")
@told
def start(given: Told, ref: str, lane: str | None) -> int:
    """Start as many containers of a processor as its spec lets run at once.

    Runs without secrets and without a network use them, one run at a time in each.
    """
    started = with_containers(given.settings(lane=lane), lambda here: here.start(ref))
    if given.json:
        tables.as_json({"started": started})
    else:
        click.echo(f"started {len(started)}: {', '.join(started) or 'all were there'}")
    return 0


@local.command()
@shared
@ANY_REF
@told
def stop(given: Told, ref: str) -> int:
    """Stop the waiting containers of a processor, or all of this home."""
    stopped = with_containers(given.settings(), lambda here: here.stop(ref))
    if given.json:
        tables.as_json({"stopped": stopped})
    else:
        click.echo(f"stopped {len(stopped)}")
    return 0


@local.command()
@shared
@ANY_REF
@told
def status(given: Told, ref: str) -> int:
    """List the waiting containers of this home."""
    found = with_containers(given.settings(), lambda here: here.listed(ref))
    if given.json:
        tables.as_json({"containers": [asdict(one) for one in found]})
    else:
        rows = [
            (one.name, one.ref, "busy" if one.busy else "waits", one.container[:12])
            for one in found
        ]
        tables.say(tables.table(rows))
    return 0


@local.command()
@shared
@ANY_REF
@click.option("--lines", type=click.IntRange(1, 10_000), default=100, show_default=True)
@told
def logs(given: Told, ref: str, lines: int) -> int:
    """Print what waiting containers wrote last."""

    async def read(here: Containers) -> dict[str, str]:
        return {one.name: await here.said(one, lines=lines) for one in await here.listed(ref)}

    said = with_containers(given.settings(), read)
    if given.json:
        tables.as_json({"logs": said})
    else:
        for name, text in said.items():
            tables.say(f"{name}  {line}" for line in text.splitlines())
    return 0
