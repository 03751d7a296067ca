"""`theory artifact …`: what plans wrote, by path."""

from __future__ import annotations

import sys
from pathlib import Path

import rich_click as click

from theory_api.cli import sources, tables
from theory_api.cli.copying import copy
from theory_api.cli.loop import run
from theory_api.cli.options import Told, shared, told
from theory_api.cli.session import reader
from theory_api.services.views import ArtifactPage
from theory_core import TheoryError


@click.group()
@shared
def artifact() -> None:
    """Artifacts: bytes at the paths of a plan's World."""


@artifact.command()
@shared
@click.argument("name", metavar="PLAN")
@click.argument("prefix", metavar="[PREFIX]", default="/artifacts/")
@click.option("--after", metavar="PATH", default="", help="Only paths after this one.")
@click.option("--limit", type=click.IntRange(1, 1000), default=1000, show_default=True)
@told
def ls(given: Told, name: str, prefix: str, after: str, limit: int) -> int:
    """List a plan's artifacts below PREFIX."""
    settings = given.settings()
    address = sources.plan(name, tenant=settings.tenant)
    below = prefix if prefix.endswith("/") else prefix + "/"

    async def work() -> int:
        async with reader(settings) as services:
            page = await services.queries.artifacts(address, below, after=after, limit=limit)
        tables.as_json(page) if given.json else tables.say(_listing(page))
        return 0

    return run(work())


@artifact.command()
@shared
@click.argument("name", metavar="PLAN")
@click.argument("path", metavar="PATH")
@click.option("--out", metavar="FILE", help="Write there instead of stdout.")
@told
def get(given: Told, name: str, path: str, out: str | None) -> int:
    """Print the bytes at PATH, verified against their digest, or write them to --out FILE."""
    settings = given.settings()
    address = sources.plan(name, tenant=settings.tenant)

    async def work() -> int:
        async with reader(settings) as services:
            content = await services.queries.artifact(address, path)
            if out is not None:
                await copy(content, Path(out))
            elif sys.stdout.isatty() and not content.artifact.mime.startswith("text/"):
                message = f"{content.artifact.mime} does not belong on a terminal; use --out FILE"
                raise TheoryError("ERR_INPUTS", message, {"reason": "out"})
            else:
                async for piece in content.stream(0, None):
                    click.echo(piece, nl=False)
        if out is not None:
            tables.as_json(content.artifact) if given.json else click.echo(out)
        return 0

    return run(work())


def _listing(page: ArtifactPage) -> list[str]:
    lines = tables.outputs(page.artifacts) if page.artifacts else ["no artifacts"]
    if page.next_after is not None:
        lines.append(f"more: --after {page.next_after}")
    return lines
