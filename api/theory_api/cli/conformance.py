"""`theory conformance`: examine a processor, in whatever language it is written."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import rich_click as click

from theory_api.cli import tables
from theory_api.cli.failures import FAILED
from theory_api.cli.loop import run
from theory_api.cli.options import Told, shared, told

if TYPE_CHECKING:
    from theory_api.delivery.conformance.report import Report, Verdict
    from theory_api.delivery.conformance.sample import Sample
    from theory_api.settings import Settings

_COLOURS: Final = {"passed": "green", "failed": "red", "skipped": "yellow"}
_SOCKET: Final = "run.sock"


@click.command()
@shared
@click.argument("target", metavar="REF|URL|SOCKET")
@click.option(
    "--sample",
    metavar="FILE",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="What it is asked to do; default: conformance.yaml beside its source.",
)
@click.option(
    "--ref",
    metavar="NS/NAME@N",
    help="Which processor of the registry listens at the URL or socket, for its spec and sample.",
)
@click.option(
    "--folder-as",
    "seen_as",
    metavar="DIR",
    help="How a container sees the socket's folder, e.g. /run/theory; outputs go to io.sock there.",
)
@click.option("--case", "cases", metavar="ID", multiple=True, help="Try this case alone; again.")
@click.option(
    "--strict", is_flag=True, help="A case that the sample leaves out counts as failed, too."
)
@told
def conformance(
    given: Told,
    target: str,
    sample: Path | None,
    ref: str | None,
    seen_as: str | None,
    cases: tuple[str, ...],
    strict: bool,
) -> int:
    """Examine a processor against the contract, case by case.

    It is a reference of the registry (`media/frames@1`: served here as a child process), a URL
    (`ws://127.0.0.1:9000/run`) or the path of a unix socket. Exit code 0: every case passed; 1: one
    failed, or nothing could be examined.
    """
    if seen_as is not None and (_is_ref(target) or "://" in target):
        raise click.BadParameter("only a socket has a folder", param_hint="--folder-as")
    return run(_examine(given, target, _Asked(sample, ref, seen_as, cases, strict)))


@dataclass(frozen=True, slots=True)
class _Asked:
    """What the options say."""

    sample: Path | None
    ref: str | None
    seen_as: str | None
    cases: Sequence[str]
    strict: bool


async def _examine(given: Told, target: str, asked: _Asked) -> int:
    from theory_api.delivery.conformance.kit import examine  # noqa: PLC0415 - a server, a client
    from theory_api.delivery.conformance.talk import Target  # noqa: PLC0415 - as above

    settings = given.settings()
    known = target if _is_ref(target) else asked.ref
    sample = _sample(settings, known, asked.sample)

    def show(verdict: Verdict) -> None:
        if not given.json:
            tables.say(_lines(verdict))

    async with _reached(settings, target) as (place, folder):
        own = folder if asked.seen_as is None else Path(place).parent
        report = await examine(
            Target(place),
            sample,
            folder=own,
            seen_as=asked.seen_as,
            only=asked.cases,
            on_verdict=show,
        )
    if given.json:
        tables.as_json(report.document())
    else:
        tables.say(["", _summary(report)])
    bad = report.of("failed") + (report.of("skipped") if asked.strict else [])
    return FAILED if bad else 0


@contextlib.asynccontextmanager
async def _reached(settings: Settings, target: str) -> AsyncIterator[tuple[str, Path | None]]:
    """Where the processor listens, and the folder for the examiner's own socket if it is set."""
    if not _is_ref(target):
        yield target, None
        return
    from theory_api.wiring.processors import served  # noqa: PLC0415 - takes a second to import

    def say(sentence: str) -> None:
        click.echo(sentence, err=True)

    async with served(settings, target, say) as folder:
        yield str(folder / _SOCKET), folder


def _sample(settings: Settings, ref: str | None, file: Path | None) -> Sample:
    """The sample of the command line, or the one beside the source of a processor."""
    from theory_api.delivery.conformance.sample import NAME, read_sample  # noqa: PLC0415 - as above
    from theory_api.delivery.snapshot import load_registry  # noqa: PLC0415 - as above

    if ref is None:
        if file is None:
            message = "without a reference there is no sample to be found; name one"
            raise click.BadParameter(message, param_hint="--sample")
        return read_sample(file, platform=settings.platform)
    spec = load_registry(settings.registry).processor(ref)
    beside = settings.processors / ref.replace("@", "/") / NAME
    return read_sample(beside if file is None else file, spec=spec, platform=settings.platform)


def _is_ref(target: str) -> bool:
    return "@" in target and "://" not in target and not target.startswith(("/", "."))


def _lines(verdict: Verdict) -> list[str]:
    """One case: how it ended, its rule, and what was seen of a rule that was not kept."""
    standing = click.style(f"{verdict.standing:<8}", fg=_COLOURS[verdict.standing])
    lines = [f"{standing}{verdict.id:<22}{verdict.section:<7}{verdict.rule}"]
    if verdict.standing != "passed":
        lines.append(f"        seen: {verdict.seen}")
    return lines


def _summary(report: Report) -> str:
    counts = ", ".join(f"{len(report.of(name))} {name}" for name in _COLOURS)  # type: ignore[arg-type]
    return f"{report.ref} at {report.target}: {counts}"
