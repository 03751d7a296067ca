"""`theory plan …`: apply documents, look at plans, stop and steer them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, Any

import rich_click as click

from theory_api.cli import sources, tables
from theory_api.cli.failures import FAILED
from theory_api.cli.loop import InterruptedByUser, run
from theory_api.cli.options import Told, shared, told
from theory_api.cli.session import engine, follow, reader
from theory_api.domain.values import TERMINAL_PLAN
from theory_api.services.views import PlanView

if TYPE_CHECKING:
    from theory_api.wiring import Reader, Services

PLAN = "PLAN"
_POLL_S = 0.2

_DIGITS = 16
"""Of the largest amount that a ledger can state."""


@click.group()
@shared
def plan() -> None:
    """Plans: transitions under a budget, and what became of them."""


@plan.command()
@shared
@click.argument("file", metavar="FILE|-")
@click.option(
    "--attach",
    metavar="NAME=PATH",
    multiple=True,
    help='A file for the plan\'s inputs: {"$attach": NAME}. May be repeated.',
)
@told
def apply(given: Told, file: str, attach: tuple[str, ...]) -> int:
    """Bring the plan in FILE (theory.plan.v1, YAML or JSON) into being and run it to its end.

    The same document again goes on where it was left; what was settled is not repeated.
    """
    document = sources.document(file)
    attached = sources.attachments(attach)
    settings = given.settings()

    async def work() -> int:
        async with engine(given, settings) as (services, shown):
            applied = await services.plans.apply(
                document,
                tenant=settings.tenant,
                by=settings.principal,
                attachments=attached,
            )
            await follow(services, applied.plan, shown, fresh=applied.created)
            view = await services.queries.show(applied.plan)
        return conclude(given, view)

    try:
        return run(work())
    except InterruptedByUser:
        raise InterruptedByUser(_later(f"theory plan apply {file}", document.get("plan"))) from None


def conclude(given: Told, view: PlanView) -> int:
    """Print an ended plan; its exit code."""
    if given.json:
        tables.as_json(view)
    else:
        tables.say(tables.plan(view))
    return 0 if view.status == "completed" else FAILED


def _later(again: str, name: object) -> str:
    return (
        f"interrupted: nothing is lost and nothing runs any more. To go on: {again}. "
        f"To give it up: theory plan cancel {name}"
    )


@plan.command()
@shared
@click.argument("name", metavar=PLAN)
@told
def show(given: Told, name: str) -> int:
    """Show a plan: transitions, what each reserved and spent, outputs."""

    async def ask(services: Reader, address: str) -> None:
        view = await services.queries.show(address)
        tables.as_json(view) if given.json else tables.say(tables.plan(view))

    return _look(given, name, ask)


@plan.command()
@shared
@click.argument("name", metavar=PLAN)
@told
def why(given: Told, name: str) -> int:
    """Say what holds each transition that has not succeeded: its first failing condition."""

    async def ask(services: Reader, address: str) -> None:
        view = await services.queries.why(address)
        tables.as_json(view) if given.json else tables.say(tables.why(view))

    return _look(given, name, ask)


@plan.command(name="list")
@shared
@click.option("--status", metavar="STATUS", help="Only plans that stand so, e.g. completed.")
@click.option("--after", metavar="CURSOR", help="The page after this one's `next`.")
@click.option("--limit", type=click.IntRange(1, 1000), default=100, show_default=True)
@told
def list_(given: Told, status: str | None, after: str | None, limit: int) -> int:
    """List plans by name."""
    settings = given.settings()

    async def work() -> int:
        async with reader(settings) as services:
            page = await services.queries.plans(
                tenant=settings.tenant, status=status, after=after, limit=limit
            )
        tables.as_json(page) if given.json else tables.say(tables.plans(page))
        return 0

    return run(work())


@plan.command()
@shared
@click.argument("name", metavar=PLAN)
@click.option("--after", type=click.IntRange(min=0), default=0, help="Only events after this seq.")
@click.option("--follow", is_flag=True, help="Go on until the plan has ended.")
@told
def events(given: Told, name: str, after: int, follow: bool) -> int:
    """Print a plan's events, one line of JSON each; works beside a running writer."""

    async def ask(services: Reader, address: str) -> None:
        async for line in _events(services, address, after, follow=follow):
            click.echo(line, nl=False)

    return _look(given, name, ask)


async def _events(
    services: Reader, address: str, after: int, *, follow: bool
) -> AsyncIterator[bytes]:
    while True:
        row = await services.queries.row(address)
        async for line in services.ledgers.export(address, after=after):
            yield line
        after = max(after, row.head_seq)
        if not follow or row.status in TERMINAL_PLAN:
            return
        await asyncio.sleep(_POLL_S)


@plan.command()
@shared
@click.argument("name", metavar=PLAN)
@click.option("--reason", default="cancelled on the command line", show_default=True)
@told
def cancel(given: Told, name: str, reason: str) -> int:
    """Stop a plan; done when everything that ran for it has stopped."""

    async def change(services: Services, address: str, by: str) -> None:
        await services.plans.cancel(address, by=by, reason=reason)
        await services.engine.wait(address)

    return _steer(given, name, change)


@plan.command()
@shared
@click.argument("name", metavar=PLAN)
@click.option("--reason", default="paused on the command line", show_default=True)
@told
def pause(given: Told, name: str, reason: str) -> int:
    """Admit nothing more of a plan until it is resumed."""

    async def change(services: Services, address: str, by: str) -> None:
        await services.plans.pause(address, by=by, reason=reason)

    return _steer(given, name, change)


@plan.command()
@shared
@click.argument("name", metavar=PLAN)
@click.option("--reason", default="resumed on the command line", show_default=True)
@told
def resume(given: Told, name: str, reason: str) -> int:
    """Go on with a plan that was paused or interrupted, to its end."""
    settings = given.settings()
    address = sources.plan(name, tenant=settings.tenant)

    async def work() -> int:
        async with engine(given, settings) as (services, shown):
            if (await services.queries.row(address)).status not in TERMINAL_PLAN:
                await services.plans.resume(address, by=settings.principal, reason=reason)
                await follow(services, address, shown, fresh=False)
            view = await services.queries.show(address)
        return conclude(given, view)

    try:
        return run(work())
    except InterruptedByUser:
        raise InterruptedByUser(_later(f"theory plan resume {name}", name)) from None


@plan.command()
@shared
@click.argument("name", metavar=PLAN)
@click.argument("amounts", metavar="DIMENSION=AMOUNT…", nargs=-1, required=True)
@told
def topup(given: Told, name: str, amounts: tuple[str, ...]) -> int:
    """Raise a plan's limits, in the ledger's units: `theory plan topup film cpu_ms=60000`."""
    amount = dict(_amount(text) for text in amounts)
    if len(amount) < len(amounts):
        message = "each dimension is raised once: " + ", ".join(amounts)[:256]
        raise click.BadParameter(message, param_hint="DIMENSION=AMOUNT")

    async def change(services: Services, address: str, by: str) -> None:
        await services.plans.topup(address, by=by, amount=amount)

    return _steer(given, name, change)


def _amount(text: str) -> tuple[str, int]:
    dimension, separator, value = text.partition("=")
    if not (separator and value.isascii() and value.isdigit() and len(value) <= _DIGITS):
        message = f"{text[:64]!r} is not DIMENSION=AMOUNT with a whole number below 10^{_DIGITS}"
        raise click.BadParameter(message, param_hint="DIMENSION=AMOUNT")
    return dimension, int(value)


def _look(given: Told, name: str, ask: Callable[[Reader, str], Awaitable[Any]]) -> int:
    """Ask something about one plan."""
    settings = given.settings()
    address = sources.plan(name, tenant=settings.tenant)

    async def work() -> int:
        async with reader(settings) as services:
            await ask(services, address)
        return 0

    return run(work())


def _steer(given: Told, name: str, change: Callable[[Services, str, str], Awaitable[None]]) -> int:
    """Change one plan without starting anything, and show where it stands then."""
    settings = given.settings()
    address = sources.plan(name, tenant=settings.tenant)

    async def work() -> int:
        async with engine(given, settings, admitting=False) as (services, _):
            await services.queries.row(address)
            await change(services, address, settings.principal)
            view = await services.queries.show(address)
        if given.json:
            tables.as_json(view)
        else:
            click.echo(f"{view.plan}  {view.status}")
        return 0

    return run(work())
