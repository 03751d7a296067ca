"""`theory run`: one processor, once, as an implicit plan of one transition."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click

from theory_api.cli import sources, tables
from theory_api.cli.copying import Copied, copy_below, shown
from theory_api.cli.failures import FAILED, report
from theory_api.cli.loop import InterruptedByUser
from theory_api.cli.loop import run as run_loop
from theory_api.cli.options import Told, setting, shared, told
from theory_api.cli.session import engine, follow
from theory_core import TheoryError, error_envelope, expand_prefix, is_name

if TYPE_CHECKING:
    from theory_api.cli.progress import Progress
    from theory_api.services.runs import RunOutcome, RunRequest
    from theory_api.wiring import Services

_MODES = ("mock", "real")
_LOOK_S = 0.05
_LONGEST_REASON = 400


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """The options of one run, as they were typed."""

    ref: str
    adapter: str | None
    mode: str
    lane: str | None
    execution_id: str | None
    write_prefix: str | None
    inputs_json: str | None
    inputs_file: str | None
    inputs: str | None
    inputs_jsonstr: str | None
    attach: tuple[str, ...]
    timeout_s: int | None
    out: str | None
    build: bool


@click.command()
@shared
@click.option("--ref", required=True, metavar="NS/NAME@N", help="The processor to run.")
@click.option("--adapter", metavar="NAME", help="How to reach it. [env: RUN_TARGET]")
@click.option("--mode", metavar="mock|real", default="mock", show_default=True)
@click.option("--lane", metavar="LANE", help="build, dev, staging or main. [env: THEORY_LANE]")
@click.option("--execution-id", metavar="ID", help="The same id again is the same run.")
@click.option(
    "--write-prefix",
    metavar="PATH",
    help="Where outputs go in the World: a path with {execution_id} once, as a segment.",
)
@click.option("--inputs-json", metavar="JSON", help="The inputs, as one JSON object.")
@click.option("--inputs-file", metavar="FILE", help="A file that holds the inputs.")
@click.option("--inputs", metavar="-", help="- reads the inputs from stdin.")
@click.option("--inputs-jsonstr", metavar="JSON", help="Deprecated: use --inputs-json.")
@click.option("--attach", metavar="NAME=PATH", multiple=True, help='{"$attach": NAME} in inputs.')
@click.option(
    "--timeout",
    "timeout_s",
    metavar="SECONDS",
    type=click.IntRange(1, 86_400),
    help="Stop the run after this long; the processor's own limit by default.",
)
@setting("platform", metavar="amd64|arm64")
@click.option("--out", metavar="DIR", help="Copy the outputs into a folder of this machine.")
@click.option("--build", is_flag=True, help="Build the image first; lane build, adapter local.")
@told
def run(given: Told, /, **options: Any) -> int:  # noqa: ANN401 - click hands over its options
    """Run one processor to its end, under the default policy, with a receipt and a ledger.

    With --json, stdout is the envelope alone: exit code 0 for success, 1 for an error envelope.
    """
    asked = Asked(**options)
    _exclusive(asked)
    ident = asked.execution_id or f"x{uuid.uuid4().hex}"
    try:
        return run_loop(_run(given, asked, ident))
    except InterruptedByUser:
        again = f"the same command with --execution-id {ident}"
        message = f"interrupted: nothing runs any more. To go on: {again}"
        raise InterruptedByUser(message) from None
    except TheoryError as error:
        if not given.json:
            raise
        _print_envelope(refusal(ident, error, platform=given.settings().platform))
        return FAILED


async def _run(given: Told, asked: Asked, ident: str) -> int:
    request = _request(given, asked, ident)
    settings = given.settings()
    if asked.build:
        await _build(given, asked, request.lane)
    async with engine(given, settings) as (services, progress):
        running = asyncio.ensure_future(
            services.runs.run(request, tenant=settings.tenant, by=settings.principal)
        )
        try:
            await _show(services, f"/world/{settings.tenant}/run-{ident}", running, progress)
            outcome = await running
        finally:
            running.cancel()
        copied = await _copied(services, outcome, asked)
        if given.json:
            _print_envelope(outcome.envelope)
        elif outcome.error is not None:
            report(outcome.error, as_json=False)
        else:
            view = await services.queries.show(outcome.plan)
            tables.say([*tables.outputs(view.outputs), "", *tables.costs(view)])
            tables.say(f"copied to {shown(file)}" for _, file in copied)
        return 0 if outcome.status == "success" else FAILED


async def _build(given: Told, asked: Asked, lane: str) -> None:
    """Law: what is built on the spot is nobody's pinned image, so lane build alone runs it."""
    from theory_api.wiring.containers import containers  # noqa: PLC0415 - stores take a second

    settings = given.settings()
    if (asked.adapter or settings.run_target) != "local":
        raise click.UsageError("--build is for the adapter local")
    if lane != "build":
        message = f"image not pinned: --build is for lane build, not for lane {lane}"
        raise TheoryError("ERR_IMAGE_UNPINNED", message, {"lane": lane})
    async with containers(settings) as here:
        await here.build(asked.ref, mode=asked.mode, on_progress=partial(click.echo, err=True))


async def _show(
    services: Services, plan: str, running: asyncio.Future[RunOutcome], progress: Progress
) -> None:
    """Show the run's events from the moment at which its plan is there."""
    while not running.done():
        try:
            await services.queries.row(plan)
        except TheoryError as error:
            if error.code != "ERR_NOT_FOUND":
                raise
            await asyncio.wait({running}, timeout=_LOOK_S)
            continue
        await follow(services, plan, progress)
        return


def _request(given: Told, asked: Asked, ident: str) -> RunRequest:
    from theory_api.services.runs import RunRequest  # noqa: PLC0415 - with the scheduler it imports

    if asked.mode not in _MODES:
        message = f"invalid mode: {asked.mode[:32]!r} is neither mock nor real"
        raise TheoryError("ERR_MODE_INVALID", message, {})
    if not is_name(ident):
        message = "invalid inputs payload: an execution id is [a-z0-9][a-z0-9._-]* without .."
        raise TheoryError("ERR_INPUTS", message, {"reason": "execution_id"})
    if asked.write_prefix is not None:
        _check_prefix(asked.write_prefix)
    return RunRequest(
        ref=asked.ref,
        inputs=_inputs(asked),
        mode="real" if asked.mode == "real" else "mock",
        adapter=asked.adapter,
        lane=given.settings(lane=asked.lane).lane,
        execution_id=ident,
        write_prefix=asked.write_prefix,
        timeout_s=asked.timeout_s,
        attachments=sources.attachments(asked.attach),
    )


def _check_prefix(template: str) -> None:
    """Say at once where a folder of this machine belongs."""
    try:
        expand_prefix(template, "x", root="/world/local/run")
    except TheoryError as error:
        if error.code != "ERR_BAD_FACET":
            raise
        message = (
            "the write prefix is a path of the plan's World, such as /artifacts/…/{execution_id}/;"
            " to copy outputs to a folder of this machine use --out DIR"
        )
        raise TheoryError("ERR_BAD_FACET", message, dict(error.detail)) from error


def _exclusive(asked: Asked) -> None:
    ways = {
        "--inputs-json": asked.inputs_json,
        "--inputs-file": asked.inputs_file,
        "--inputs": asked.inputs,
        "--inputs-jsonstr": asked.inputs_jsonstr,
    }
    used = [name for name, value in ways.items() if value is not None]
    if len(used) > 1:
        raise click.UsageError(f"{used[0]} and {used[1]} exclude each other")
    if asked.inputs not in {None, "-"}:
        raise click.UsageError("--inputs takes - (stdin); for a file use --inputs-file")
    if asked.inputs_jsonstr is not None:
        click.echo("warning: --inputs-jsonstr is deprecated; use --inputs-json", err=True)


def _inputs(asked: Asked) -> Mapping[str, Any]:
    if asked.inputs_file is not None:
        return sources.inputs(sources.content(asked.inputs_file), name=asked.inputs_file)
    if asked.inputs is not None:
        return sources.inputs(sources.content("-"), name="stdin")
    text = asked.inputs_json if asked.inputs_json is not None else asked.inputs_jsonstr
    if text is None:
        return {}
    return sources.inputs(text.encode("utf-8", "surrogateescape"), name="--inputs-json")


def refusal(ident: str, error: TheoryError, *, platform: str) -> bytes:
    """The envelope of a run that could not be asked for: no processor, hardly a fingerprint."""
    return error_envelope(
        ident if is_name(ident) else f"x{uuid.uuid4().hex}",
        error.code,
        env_fingerprint=f"cpu:unknown;memory:unknown;platform:{platform};runtime:unknown",
        reason=" ".join(error.message.split())[:_LONGEST_REASON],
    )


async def _copied(services: Services, outcome: RunOutcome, asked: Asked) -> list[Copied]:
    if asked.out is None or outcome.status != "success":
        return []
    view = await services.queries.show(outcome.plan)
    prefix = view.transitions[0].executions[-1].write_prefix
    page = await services.queries.artifacts(outcome.plan, prefix)
    found = list(page.artifacts)
    while page.next_after is not None:
        page = await services.queries.artifacts(outcome.plan, prefix, after=page.next_after)
        found += page.artifacts
    return await copy_below(services.queries, outcome.plan, prefix, found, Path(asked.out))


def _print_envelope(envelope: bytes) -> None:
    click.echo(envelope + b"\n", nl=False)
