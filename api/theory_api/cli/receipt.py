"""`theory receipt diff`: compare what two executions state about themselves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import rich_click as click

from theory_api.cli import sources, tables
from theory_api.cli.failures import FAILED
from theory_api.cli.loop import run
from theory_api.cli.options import Told, shared, told
from theory_api.cli.session import reader
from theory_core import TheoryError, WorldPath, loads_strict

if TYPE_CHECKING:
    from theory_api.wiring import Reader

STABLE: Final = (
    "execution_id",
    "processor_ref",
    "image_digest",
    "image_id",
    "env_fingerprint",
    "inputs_hash",
    "hash_schema",
    "outputs_index",
    "processor_info",
    "prompt_digests",
    "mode",
    "status",
    "registry_snapshot",
    "written_by",
)
"""Fields that two runs of the same work share (spec: receipts); the others vary."""


@click.group()
@shared
def receipt() -> None:
    """Receipts: what an execution states about its inputs, its outputs and its environment."""


@receipt.command()
@shared
@click.argument("left", metavar="LEFT")
@click.argument("right", metavar="RIGHT")
@click.option(
    "--ignore", metavar="FIELD", multiple=True, help="Leave a field out, e.g. execution_id."
)
@told
def diff(given: Told, left: str, right: str, ignore: tuple[str, ...]) -> int:
    """Compare the stable fields of two receipts.

    LEFT and RIGHT are files, or paths such as
    /world/local/film/artifacts/execution/x0123/determinism.json.
    Exit code 0: no difference; 1: the fields that differ are printed.
    """
    unknown = sorted(set(ignore) - set(STABLE))
    if unknown:
        message = f"{unknown[0]} is no stable field; those are {', '.join(STABLE)}"
        raise click.BadParameter(message, param_hint="--ignore")

    async def work() -> int:
        first, second = await _load(given, left), await _load(given, right)
        fields = [name for name in STABLE if name not in ignore]
        found = differences(first, second, fields)
        if given.json:
            tables.as_json({"equal": not found, "differences": found})
        elif found:
            rows = [(row["field"], _text(row["left"]), _text(row["right"])) for row in found]
            tables.say(tables.table([("field", "left", "right"), *rows]))
        else:
            click.echo("no difference in the stable fields")
        return FAILED if found else 0

    return run(work())


def differences(
    left: Mapping[str, Any], right: Mapping[str, Any], fields: list[str]
) -> list[dict[str, Any]]:
    """The fields whose values differ; a field that one side lacks is null there."""
    return [
        {"field": name, "left": left.get(name), "right": right.get(name)}
        for name in fields
        if (left.get(name), name in left) != (right.get(name), name in right)
    ]


async def _load(given: Told, operand: str) -> Mapping[str, Any]:
    if operand.startswith(("/world/", "world://")):
        path = WorldPath(operand)
        async with reader(given.settings()) as services:
            data = await _bytes(services, path)
    else:
        data = sources.content(operand)
    try:
        parsed = loads_strict(data)
    except TheoryError as error:
        message = f"{operand} is not a receipt: {error.message}"
        raise TheoryError("ERR_INPUTS", message, {"reason": error.code}) from error
    if not isinstance(parsed, Mapping) or "execution_id" not in parsed:
        message = f"{operand} is not a receipt: it names no execution_id"
        raise TheoryError("ERR_INPUTS", message, {"reason": "schema"})
    return parsed


async def _bytes(services: Reader, path: WorldPath) -> bytes:
    content = await services.queries.artifact(path.root, path.relative)
    return b"".join([piece async for piece in content.stream(0, None)])


def _text(value: object) -> str:
    return "(none)" if value is None else str(value)
