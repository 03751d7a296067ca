"""The reference of `theory_core` in Markdown, written from the typed stub and the package."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import theory_core

PACKAGE: Final = (
    Path(__file__).resolve().parent.parent / "core-rs" / "python" / theory_core.__name__
)
SOURCES: Final = ("_core.pyi", "catalogue.py", "error.py", "verifier.py")
SHOWN: Final = frozenset({"str", "int", "tuple"})
"""Types of constants that are short enough to be printed."""
LINE: Final = 100
"""Longest line of a signature; a longer one has an argument in each line."""


TOPICS: Final = {
    "canonical JSON": "../spec/canonical-json.md",
    "WorldPath": "../spec/worldpath.md",
    "ledger": "../spec/ledger-chain.md",
    "plans and transitions": "../spec/ledger-chain.md#execution-ids",
    "envelope": "../spec/envelope.md",
    "run.v1": "../spec/run-v1.md",
    "errors": "errors.md",
}
"""Topic of the specification, or the words with which it begins -> its page."""


def page() -> str:
    """Every public name with its signature and its contract: constants, functions, classes."""
    declared = dict(_declared())
    missing = [name for name in theory_core.__all__ if name not in declared]
    if missing:
        message = f"public names without a declaration: {missing}"
        raise LookupError(message)
    kinds: dict[str, list[str]] = {"Constants": [], "Functions": [], "Classes": []}
    for name in theory_core.__all__:
        node, text = declared[name]
        if isinstance(node, ast.ClassDef):
            kinds["Classes"].extend(_class(node))
        elif isinstance(node, ast.FunctionDef):
            kinds["Functions"].extend(_function(name, node, heading="###"))
        else:
            kinds["Constants"].extend(_constant(name, node, text))
    text = "\n".join(part for kind, parts in kinds.items() for part in (f"## {kind}\n", *parts))
    return re.sub(r"Source:\s+spec,\s+(\w+(?:\.v1)?[^.]*)\.", _source, text)


def _source(found: re.Match[str]) -> str:
    """The source of a contract as a link to its page."""
    topic = " ".join(found[1].split())
    for begin, target in TOPICS.items():
        if topic.startswith(begin):
            return f"Source: [{topic}]({target})."
    message = f"no page has the topic {topic}"
    raise LookupError(message)


def _declared() -> Iterator[tuple[str, tuple[ast.stmt, str]]]:
    """Name, statement and, of a constant, the text below it; the stub is read first."""
    seen = set()
    for source in SOURCES:
        body = ast.parse((PACKAGE / source).read_text(encoding="utf-8")).body
        for place, node in enumerate(body):
            name, text = _name(node), ""
            if name is None or name in seen:
                continue
            if isinstance(node, ast.AnnAssign | ast.Assign):
                text = _below(body, place)
            seen.add(name)
            yield name, (node, text)


def _name(node: ast.stmt) -> str | None:
    if isinstance(node, ast.ClassDef | ast.FunctionDef):
        return node.name
    if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
        return node.target.id
    return None


def _below(body: list[ast.stmt], place: int) -> str:
    """The text that stands below a constant."""
    after = body[place + 1] if place + 1 < len(body) else None
    if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
        return inspect.cleandoc(str(after.value.value))
    return ""


def _constant(name: str, node: ast.stmt, text: str) -> Iterator[str]:
    annotation = ast.unparse(node.annotation) if isinstance(node, ast.AnnAssign) else ""
    shown = annotation.removeprefix("Final[").removesuffix("]")
    value = getattr(theory_core, name)
    given = f" = {value!r}" if type(value).__name__ in SHOWN else ""
    yield f"### {name}\n"
    yield f"```python\n{name}: {shown}{given}\n```\n"
    yield f"{text}\n"


def _function(name: str, node: ast.FunctionDef, *, heading: str) -> Iterator[str]:
    yield f"{heading} {name}\n"
    yield f"```python\n{_signature(name, node)}\n```\n"
    yield f"{ast.get_docstring(node) or ''}\n"


def _class(node: ast.ClassDef) -> Iterator[str]:
    yield f"### {node.name}\n"
    yield f"```python\n{_construction(node)}\n```\n"
    yield f"{ast.get_docstring(node) or ''}\n"
    for place, member in enumerate(node.body):
        if isinstance(member, ast.FunctionDef) and not member.name.startswith("_"):
            text = ast.get_docstring(member) or ""
            yield from _member(_signature(member.name, member), text)
        elif isinstance(member, ast.AnnAssign) and isinstance(member.target, ast.Name):
            annotation = ast.unparse(member.annotation)
            yield from _member(f"{member.target.id}: {annotation}", _below(node.body, place))


def _member(signature: str, text: str) -> Iterator[str]:
    yield f"```python\n{signature}\n```\n"
    if text:
        yield f"{text}\n"


def _construction(node: ast.ClassDef) -> str:
    """How an object is made: by its constructor, or by its fields."""
    for member in node.body:
        if isinstance(member, ast.FunctionDef) and member.name in {"__new__", "__init__"}:
            return _call(node.name, member, "")
    return f"class {node.name}({', '.join(map(ast.unparse, node.bases))})".removesuffix("()")


def _signature(name: str, node: ast.FunctionDef) -> str:
    """The signature without the object itself; a property is its type."""
    returned = ast.unparse(node.returns) if node.returns else "None"
    if any(ast.unparse(decorator) == "property" for decorator in node.decorator_list):
        return f"{name}: {returned}"
    return _call(name, node, f" -> {returned}")


def _call(name: str, node: ast.FunctionDef, returned: str) -> str:
    """The call in one line, or with an argument in each."""
    parts = _arguments(node.args)
    line = f"{name}({', '.join(parts)}){returned}"
    if len(line) <= LINE:
        return line
    lines = "".join(f"    {part},\n" for part in parts)
    return f"{name}(\n{lines}){returned}"


def _arguments(arguments: ast.arguments) -> list[str]:
    """Each argument with its type and default, and the marks between their kinds."""
    places = [*arguments.posonlyargs, *arguments.args]
    defaults: list[ast.expr | None] = [None] * (len(places) - len(arguments.defaults))
    parts = []
    for place, (argument, default) in enumerate(
        zip(places, [*defaults, *arguments.defaults], strict=True)
    ):
        if argument.arg not in {"self", "cls"}:
            parts.append(_argument(argument, default))
        if place + 1 == len(arguments.posonlyargs) and parts:
            parts.append("/")
    if arguments.kwonlyargs:
        parts.append("*")
    named = zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
    return parts + [_argument(argument, default) for argument, default in named]


def _argument(argument: ast.arg, default: ast.expr | None) -> str:
    return ast.unparse(argument) + (f" = {ast.unparse(default)}" if default else "")
