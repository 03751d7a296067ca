"""`theory ledger …`: take a plan's events away, and judge them."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Final

import rich_click as click

from theory_api.cli import sources, tables
from theory_api.cli.failures import FAILED
from theory_api.cli.loop import run
from theory_api.cli.options import Told, shared, told
from theory_api.cli.session import reader
from theory_core import Report, TheoryError
from theory_core import verify as judge

_HEAD: Final = re.compile(r"([1-9][0-9]{0,15})[: ](b3:[0-9a-f]{64})")


@click.group()
@shared
def ledger() -> None:
    """Ledgers: export a plan's events, verify them, note their head."""


@ledger.command()
@shared
@click.argument("name", metavar="PLAN")
@click.option("--out", metavar="FILE", help="Write there instead of stdout.")
@told
def export(given: Told, name: str, out: str | None) -> int:
    """Print a plan's events as NDJSON that `ledger verify` and `theory-core verify` judge."""
    settings = given.settings()
    address = sources.plan(name, tenant=settings.tenant)

    async def work() -> int:
        async with reader(settings) as services:
            if out is None:
                async for line in services.ledgers.export(address):
                    click.echo(line, nl=False)
                return 0
            lines = [line async for line in services.ledgers.export(address)]
        write(Path(out), b"".join(lines))
        return 0

    return run(work())


@ledger.command()
@shared
@click.argument("source", metavar="PLAN|FILE|-")
@click.option(
    "--expect-head",
    metavar="SEQ:HASH",
    help="The head that somebody else kept: anchors the verdict.",
)
@click.option(
    "--laws",
    is_flag=True,
    help="Judge kinds, data and the laws of plans and budgets too, at every prefix.",
)
@told
def verify(given: Told, source: str, expect_head: str | None, *, laws: bool) -> int:
    """Judge a ledger: this home's PLAN, an export in FILE, or one on stdin.

    Exit code 0: sound; 1: broken, with the seq and the reason, and the name of a broken law.
    """
    head = _head(expect_head)
    if source == "-":
        report = judge(sys.stdin.buffer, expect_head=head, laws=laws)
    elif Path(source).is_file():
        report = judge(source, expect_head=head, laws=laws)
    else:
        return _stored(given, source, head, laws=laws)
    if given.json:
        tables.as_json(facts(report))
    else:
        click.echo(report.verdict)
    return 0 if report.ok else FAILED


def _stored(given: Told, name: str, head: tuple[int, str] | None, *, laws: bool) -> int:
    settings = given.settings()
    address = sources.plan(name, tenant=settings.tenant)

    async def work() -> int:
        async with reader(settings) as services:
            view = await services.ledgers.verify(address, expect_head=head, laws=laws)
        if given.json:
            tables.as_json(view)
        else:
            click.echo(view.verdict)
        return 0 if view.fault is None else FAILED

    return run(work())


@ledger.command()
@shared
@click.argument("name", metavar="[PLAN]", required=False)
@click.option("--out", metavar="FILE", help="Write all heads there, in place of what it held.")
@told
def head(given: Told, name: str | None, out: str | None) -> int:
    """Print a plan's newest event's SEQ:HASH, or a line of JSON for every plan.

    Keep either elsewhere: SEQ:HASH anchors a later verdict (`--expect-head`); the lines, named by
    THEORY_LEDGER_HEADS, keep a database that lost events from being written to.
    """
    if name is None:
        return _heads(given, out)
    if out is not None:
        raise click.UsageError("--out takes the heads of all plans: leave PLAN away")
    settings = given.settings()
    address = sources.plan(name, tenant=settings.tenant)

    async def work() -> int:
        async with reader(settings) as services:
            view = await services.queries.head(address)
        if given.json:
            tables.as_json(view)
        else:
            click.echo(f"{view.seq}:{view.hash}")
        return 0

    return run(work())


def _heads(given: Told, out: str | None) -> int:
    async def work() -> int:
        async with reader(given.settings()) as services:
            lines = b"".join([line async for line in services.ledgers.heads()])
        if out is None:
            click.echo(lines, nl=False)
        else:
            _replace(Path(out), lines)
        return 0

    return run(work())


def _replace(path: Path, data: bytes) -> None:
    """Whoever reads the file sees all of what it held or all of `data`."""
    fresh = path.with_name(path.name + ".new")
    write(fresh, data)
    fresh.replace(path)


def write(path: Path, data: bytes) -> None:
    """Write a file of the caller's; `ERR_STORAGE` where that cannot be done."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    except OSError as error:
        message = f"{path} cannot be written: {error.strerror}"
        raise TheoryError("ERR_STORAGE", message, {}) from error


def facts(report: Report) -> dict[str, object]:
    """A report as JSON."""
    fault = report.fault
    return {
        "count": report.count,
        "head": None if report.head is None else {"seq": report.head[0], "hash": report.head[1]},
        "anchored": report.anchored,
        "fault": None
        if fault is None
        else {
            "seq": fault.seq,
            "line": fault.line,
            "reason": fault.reason,
            "law": fault.law,
            "member": fault.member,
        },
        "laws": report.laws,
        "verdict": report.verdict,
    }


def _head(text: str | None) -> tuple[int, str] | None:
    if text is None:
        return None
    found = _HEAD.fullmatch(text)
    if found is None:
        message = "a head is SEQ:b3:HASH, as `theory ledger head` prints it"
        raise click.BadParameter(message, param_hint="--expect-head")
    return int(found[1]), found[2]
