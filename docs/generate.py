"""Write `docs/_generated` from the code: `make reference`. A test holds that it is up to date."""

from __future__ import annotations

import json
import runpy
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, cast

import click

from theory_api.cli.main import theory
from theory_api.delivery.conformance.kit import sections
from theory_api.settings import VARIABLES
from theory_api.web.app import litestar
from theory_api.web.doors import Doors
from theory_core import ERROR_CODES, LIMITS

ROOT: Final = Path(__file__).resolve().parent.parent
TARGET: Final = ROOT / "docs" / "_generated"
VECTORS: Final = ROOT / "core-rs" / "vectors"
EVENTS: Final = VECTORS / "events"
VERSION: Final = "0.1.0"
PATTERNS: Final[Mapping[str, str]] = {
    "sha256:": "`sha256:` digest",
    "b3:": "`b3:` digest",
    "/world/": "address of a plan",
    "artifacts": "plan-relative path",
    "ERR_": "error code",
    "@": "name@version",
    "A-Z_": "name of a secret",
    "[a-z0-9][a-z0-9._-]": "id",
}
"""What a pattern of the event schemas stands for, told by a part of it; the first that fits."""


def conformance() -> str:
    """Every case of the examination, with its rule."""
    rows = [(f"`{case}`", section, rule) for case, section, rule in sections()]
    return _table(("case", "section or rule", "says"), rows)


def errors() -> str:
    """Every code with its status, and what to do about it."""
    rows = [
        (
            f"`{code.code}`",
            str(code.status),
            "yes" if code.retryable else "",
            code.summary,
            code.remedy,
        )
        for code in ERROR_CODES.values()
    ]
    return _table(("code", "HTTP status", "retryable", "meaning", "what to do"), rows)


def events() -> str:
    """Every event kind with the members of its data, and an example."""
    return "\n".join(part for file in sorted(EVENTS.glob("*.schema.json")) for part in _kind(file))


def _kind(file: Path) -> Iterator[str]:
    schema = json.loads(file.read_text(encoding="utf-8"))
    kind = file.name.removesuffix(".schema.json")
    data = schema["properties"]["data"]
    families = {"audit", "thread"}
    yield f"## {kind}.*\n" if kind in families else f"## {kind}\n"
    required = set(data.get("required", ()))
    rows = [
        (f"`{name}`", "" if name in required else "may be absent", _type(member))
        for name, member in data["properties"].items()
    ]
    yield _table(("member", "", "type"), rows)
    for vector in sorted(EVENTS.glob(f"{kind}.*.json" if kind in families else f"{kind}.json")):
        if not vector.name.endswith(".schema.json"):
            example = _example(json.loads(vector.read_text(encoding="utf-8")))
            shown = json.dumps(example, indent=1, sort_keys=True, ensure_ascii=False)
            yield f"```json\n{shown}\n```\n"


def _example(vector: Mapping[str, Any]) -> object:
    """The data of the first valid event of a vector file."""
    for group in vector["testGroups"]:
        for case in group["tests"]:
            if case["result"] == "valid":
                return case["event"]["data"]
    message = "an event kind without a valid vector"
    raise LookupError(message)


def _type(schema: Mapping[str, Any]) -> str:
    """A schema in a few words."""
    if "$ref" in schema:
        return f"{schema['$ref'].rpartition('/')[2]}"
    if "const" in schema:
        return f"`{json.dumps(schema['const'])}`"
    if "enum" in schema:
        return ", ".join(f"`{json.dumps(value)}`" for value in schema["enum"])
    if schema.get("type") == "array":
        return f"list of {_type(schema['items'])}"
    if schema.get("type") == "object" and "properties" in schema:
        names = ", ".join(f"`{name}`" for name in schema["properties"])
        return f"object: {names}"
    if "pattern" in schema:
        return next(
            (name for begin, name in PATTERNS.items() if begin in schema["pattern"]), "text"
        )
    return str(schema.get("type", "any value"))


def command_line() -> str:
    """Every command with its arguments and options, and every setting with its variable."""
    context = click.Context(cast("click.Command", theory), info_name="theory")
    settings = [(f"`{variable}`", meaning) for variable, meaning in VARIABLES.values()]
    commands = "\n".join(_command(context))
    return f"{commands}\n## Environment\n\n{_table(('variable', 'meaning'), settings)}"


def _command(context: click.Context) -> Iterator[str]:
    command = context.command
    usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
    yield f"## {context.command_path}\n"
    yield f"```text\n{usage}\n```\n"
    yield _prose(command.help or "")
    left_out = {"help"} if context.parent is None else {"help", "home", "database_url", "json"}
    rows = []
    for parameter in command.get_params(context):
        if isinstance(parameter, click.Option) and parameter.name not in left_out:
            record = parameter.get_help_record(context)
            if record is not None:
                rows.append((f"`{record[0]}`", record[1]))
    if rows:
        yield _table(("option", "meaning"), rows)
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            if inner is not None:
                yield from _command(click.Context(inner, info_name=name, parent=context))


def openapi() -> str:
    """The OpenAPI document, as `/schema/openapi.json` serves it."""
    return json.dumps(_schema(), indent=1, sort_keys=True, ensure_ascii=False)


def http() -> str:
    """Every operation with its answers."""
    rows = [
        (
            f"`{method.upper()} {path}`",
            operation.get("summary", ""),
            ", ".join(sorted(operation["responses"])),
            f"`{operation['operationId']}`",
        )
        for path, item in sorted(_schema()["paths"].items())
        for method, operation in sorted(item.items())
        if isinstance(operation, dict)
    ]
    return _table(("request", "does", "statuses", "operation"), rows)


def _schema() -> dict[str, Any]:
    # Nothing is asked of the services: the document is read from the controllers' signatures.
    nothing = cast("Any", None)
    doors = Doors(
        plans=nothing,
        queries=nothing,
        ledgers=nothing,
        worlds=nothing,
        engine=nothing,
        watching=nothing,
        key="",
        tenant="local",
        principal="local",
        unready=lambda: None,
        version=VERSION,
    )
    return litestar(doors).openapi_schema.to_schema()


def script(name: str) -> Callable[[], str]:
    """The page that a script beside this one writes."""

    def page() -> str:
        found = runpy.run_path(str(ROOT / "docs" / name), run_name="docs")
        return cast("str", found["page"]())

    return page


def limits() -> str:
    """Every cap with its value."""
    rows = [(f"`{name}`", f"{value:,}", _power(value)) for name, value in LIMITS.items()]
    return _table(("limit", "value", ""), rows)


def _power(value: int) -> str:
    """A value in binary units, where it has some."""
    for unit, size in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if value % size == 0:
            return f"{value // size} {unit}"
    return ""


def vectors() -> str:
    """Every file of vectors: its cases and what its notes say; the kinds of events as one row."""
    rows, kinds = [], []
    for file in sorted(VECTORS.glob("*/*.json")):
        if file.name.endswith(".schema.json"):
            continue
        document = json.loads(file.read_text(encoding="ascii"))
        count = sum(len(group["tests"]) for group in document["testGroups"])
        if file.parent == EVENTS:
            kinds.append(count)
            continue
        name = file.relative_to(VECTORS).as_posix().removesuffix(".json")
        notes = " ".join(document["notes"]).replace("|", r"\|")
        rows.append((f"`{name}`", str(count), f"{document['algorithm']}. {notes}"))
    shape = f"one closed schema and one file for each of {len(kinds)} kinds of events"
    rows.append(("`events/*`", str(sum(kinds)), shape))
    return _table(("file", "cases", "what"), rows)


def decisions() -> str:
    """What the text door does where the JSON standards leave the choice or differ."""
    document = json.loads((VECTORS / "json" / "decisions.json").read_text(encoding="ascii"))
    rows = [
        (
            f"`{case['file']}`",
            case["comment"],
            f"accepted: `{case['canonical']}`" if "canonical" in case else f"`{case['code']}`",
            f"`json/decisions#{case['tcId']}`",
        )
        for group in document["testGroups"]
        for case in group["tests"]
    ]
    return _table(("file of the suite", "question", "answer", "vector"), rows)


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    columns = list(head)
    lines = [f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}"]
    lines += [f"| {' | '.join(cell.replace(chr(10), ' ') for cell in row)} |" for row in rows]
    return "\n".join(lines) + "\n"


def _prose(text: str) -> str:
    return "\n".join(line.strip() for line in text.strip().splitlines()) + "\n"


PAGES: Final[Mapping[str, Callable[[], str]]] = {
    "cli.md": command_line,
    "conformance.md": conformance,
    "decisions.md": decisions,
    "errors.md": errors,
    "events.md": events,
    "http.md": http,
    "lifecycle.md": script("lifecycle.py"),
    "limits.md": limits,
    "openapi.json": openapi,
    "python.md": script("python_reference.py"),
    "scenarios.md": script("scenarios.py"),
    "vectors.md": vectors,
}
"""File of `docs/_generated` -> what writes it."""


def main() -> int:
    """Write every page; with `--check` only compare, exit code 1 if one is out of date."""
    stale = []
    for name, page in PAGES.items():
        text, file = page().rstrip() + "\n", TARGET / name
        if "--check" not in sys.argv:
            TARGET.mkdir(exist_ok=True)
            file.write_text(text, encoding="utf-8")
        elif not file.exists() or file.read_text(encoding="utf-8") != text:
            stale.append(name)
    if stale:
        sys.stderr.write(f"out of date: {', '.join(stale)}; run make reference\n")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
