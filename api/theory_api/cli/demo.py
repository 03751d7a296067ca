"""`theory demo`: a short film of any text, within its budget, with a ledger that proves it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import rich_click as click

from theory_api.cli import sources, tables
from theory_api.cli.copying import Copied, copy_below, shown
from theory_api.cli.failures import FAILED
from theory_api.cli.ledger import facts, write
from theory_api.cli.loop import InterruptedByUser, run
from theory_api.cli.options import Told, shared, told
from theory_api.cli.session import engine, follow
from theory_api.cli.tamper import Proof, tamper
from theory_api.domain.values import TERMINAL_PLAN
from theory_api.services.plans import Applied, Attachment
from theory_api.settings import assets
from theory_core import Report, TheoryError, canonicalize, digest, verify

if TYPE_CHECKING:
    from theory_api.services.views import PlanView, TransitionView
    from theory_api.wiring import Services

EXAMPLE: Final = "media-generation.yaml"
SAMPLE: Final = "sample.txt"
_WRITER: Final = "write-script"
_TRIES: Final = 100
"""How many failed plans of one text are kept before a new one is refused."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Film:
    """What is to be made: the plan document and the text."""

    document: Mapping[str, Any]
    text: Attachment
    name: str
    """Of the plan; the same text and options have the same name."""


@click.command()
@shared
@click.argument("text_file", metavar="[TEXT_FILE]", required=False)
@click.option("--mode", type=click.Choice(["mock", "real"]), default="mock", show_default=True)
@click.option("--model", metavar="NAME", help="Mode real: the model that writes the script.")
@click.option("--endpoint", metavar="URL", help="Mode real: an OpenAI-compatible endpoint.")
@click.option("--out", metavar="DIR", help="Put the film, its parts and the ledger there.")
@told
def demo(given: Told, /, text_file: str | None, out: str | None, **options: Any) -> int:  # noqa: ANN401
    """Make a short silent film of TEXT_FILE (a shipped text when none is given).

    The same text again shows the finished plan; an interrupted one goes on where it was left.
    """
    film = compose(text_file, options)
    if out is not None and Path(out).exists() and not Path(out).is_dir():
        message = "--out takes a folder, and this is a file"
        raise TheoryError("ERR_INPUTS", message, {"path": out[:512]})

    async def work() -> int:
        settings = given.settings()
        async with engine(given, settings) as (services, progress):
            applied = await _apply(services, film)
            plan = applied.plan
            await follow(services, plan, progress, fresh=applied.created)
            view = await services.queries.show(plan)
            name = plan.rpartition("/")[2]
            folder = Path(out) if out is not None else settings.home / "exports" / name
            export = b"".join([line async for line in services.ledgers.export(plan)])
            files = await _copies(services, view, folder) if view.status == "completed" else []
        ledger = folder / "ledger.ndjson"
        write(ledger, export)
        report, proof = verify(ledger), tamper(export)
        tell = _as_json if given.json else _as_text
        tell(view, files, ledger, report, proof)
        sound = view.status == "completed" and report.ok and proof.ok
        return 0 if sound else FAILED

    try:
        return run(work())
    except InterruptedByUser:
        message = "interrupted: nothing is lost and nothing runs any more; the same command goes on"
        raise InterruptedByUser(message) from None


def compose(text_file: str | None, options: Mapping[str, Any]) -> Film:
    """The film of a text: the example plan with the options of mode real put in.

    Raises `TheoryError`: `ERR_NOT_FOUND`, `ERR_STORAGE`, `ERR_INPUTS` for a text that is not UTF-8.
    """
    examples = assets("docs/examples")
    file = str(examples / SAMPLE) if text_file is None else text_file
    data = sources.content(file)
    try:
        data.decode()
    except UnicodeDecodeError as error:
        message = f"{file} is not a text in UTF-8 (byte {error.start})"
        raise TheoryError("ERR_INPUTS", message, {"offset": error.start}) from error
    document = dict(sources.document(str(examples / EXAMPLE)))
    document["transitions"] = _with_mode(document["transitions"], options)
    made_of = {"document": document, "text": digest(data)}
    name = "demo-" + digest(canonicalize(made_of)).removeprefix("b3:")[:12]
    return Film(document=document, text=Attachment(data, "text/plain"), name=name)


def _with_mode(transitions: Mapping[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """Mode real concerns the step that writes: the others need neither secrets nor a network."""
    found = dict(transitions)
    if options["mode"] == "real":
        chosen = {name: options[name] for name in ("model", "endpoint") if options[name]}
        step = dict(found[_WRITER])
        step |= {"mode": "real", "inputs": {**step["inputs"], **chosen}}
        found[_WRITER] = step
    elif options["model"] or options["endpoint"]:
        raise click.UsageError("--model and --endpoint belong to --mode real")
    return found


async def _apply(services: Services, film: Film) -> Applied:
    """Bring the film's plan into being or find it; a plan that failed is followed by a new one."""
    settings = services.settings
    for number in range(1, _TRIES):
        name = film.name if number == 1 else f"{film.name}-{number}"
        try:
            row = await services.queries.row(f"/world/{settings.tenant}/{name}")
        except TheoryError as error:
            if error.code != "ERR_NOT_FOUND":
                raise
        else:
            if row.status in TERMINAL_PLAN - {"completed"}:
                continue
        return await services.plans.apply(
            {**film.document, "plan": name},
            tenant=settings.tenant,
            by=settings.principal,
            attachments={"text": film.text},
        )
    message = f"{_TRIES - 1} plans of this text have failed; use another --home"
    raise TheoryError("ERR_CONFLICT", message, {})


async def _copies(services: Services, view: PlanView, folder: Path) -> list[Copied]:
    """Copy every step's outputs; the film last."""
    files: list[Copied] = []
    for step in view.transitions:
        prefix = step.executions[-1].write_prefix + "outputs/"
        found = [entry for entry in view.outputs if entry.path.startswith(prefix)]
        files += await copy_below(services.queries, view.plan, prefix, found, folder)
    return files


def _step(step: TransitionView) -> dict[str, object]:
    held, spent = tables.totals(step)
    return {"step": step.transition, "reserved": held, "spent": spent}


def _as_json(
    view: PlanView, files: list[Copied], ledger: Path, report: Report, proof: Proof
) -> None:
    tables.as_json(
        {
            "plan": view.plan,
            "status": view.status,
            "error": view.error,
            "steps": [_step(step) for step in view.transitions],
            "outputs": view.outputs,
            "files": [str(file) for _, file in files],
            "ledger": str(ledger),
            "report": facts(report),
            "tampered": {
                "offset": proof.offset,
                "seq": proof.seq,
                "reported": proof.reported,
                "reason": proof.reason,
            },
        }
    )


def _listing(files: list[Copied]) -> list[str]:
    rows = [(shown(file), str(artifact.size_bytes), artifact.cid[:15]) for artifact, file in files]
    return tables.table([("output", "bytes", "cid"), *rows], right=frozenset({1}))


def _as_text(
    view: PlanView, files: list[Copied], ledger: Path, report: Report, proof: Proof
) -> None:
    lines = [f"{view.plan}  {view.status}"]
    lines += tables.failure(view.error)
    lines += ["", *_listing(files)] if files else []
    lines += ["", *tables.costs(view), "", f"ledger    {shown(ledger)}"]
    lines.append(f"verdict   {report.verdict}")
    noticed = "nothing" if proof.reported is None else f"seq {proof.reported} ({proof.reason})"
    lines += [
        f"tampered  a copy: byte {proof.offset} flipped, in the line of seq {proof.seq}",
        f"          the verifier names {noticed}: {'as it should' if proof.ok else 'WRONG'}",
    ]
    lines += [f"film      {shown(file)}" for _, file in files if file.suffix == ".mp4"]
    tables.say(lines)
