"""Read a document that a person wrote, YAML or JSON, into plain data; refuse with line and column.

What is read is YAML's JSON: objects with text names, lists, text, integers, decimals, true, false,
null. Whatever YAML adds (anchors, aliases, merge keys, tags, several documents, other spellings of
numbers) is refused or plain text, so that a document means the same to everybody who reads it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import yaml
from yaml import events

from theory_core import LIMITS, TheoryError, loads_strict

MAX_DEPTH: Final = LIMITS["document_depth"]
"""Documents of the API, the registry and processors nest no deeper (spec: canonical JSON)."""

_MAX_INTEGER: Final = 2**53 - 1
_INTEGER: Final = re.compile(r"-?(?:0|[1-9][0-9]*)")
_DECIMAL: Final = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?")
_WORDS: Final = {"null": None, "~": None, "": None, "true": True, "false": False}
_LOADER: Final[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

Place = tuple[str | int, ...]
"""Names and indices that lead from the top of a document to a value."""


@dataclass(frozen=True, slots=True)
class Document:
    """A document as plain data, and where in the file its values stand."""

    name: str
    data: Any
    marks: dict[Place, tuple[int, int]] = field(default_factory=dict)
    """Place -> (line, column), both from 1; empty for JSON."""

    def spot(self, place: Place) -> str:
        """`file:line:column` of the value at `place`, or of the nearest one around it."""
        for length in range(len(place), -1, -1):
            mark = self.marks.get(place[:length])
            if mark is not None:
                return f"{self.name}:{mark[0]}:{mark[1]}"
        return self.name


def parse_document(text: bytes, *, name: str, code: str = "ERR_PLAN_INVALID") -> Any:  # noqa: ANN401
    """The plain data of a document; JSON if `name` ends in `.json`, else YAML.

    Raises `TheoryError` `code` with `detail` `file`, `line`, `column` and `reason`.
    """
    return read_document(text, name=name, code=code).data


def read_document(text: bytes, *, name: str, code: str = "ERR_PLAN_INVALID") -> Document:
    """As `parse_document`, and the places of all values with it."""
    if name.endswith(".json"):
        return Document(name, _from_json(text, name, code))
    try:
        decoded = text.decode("utf-8")
    except UnicodeDecodeError as error:
        line = text.count(b"\n", 0, error.start) + 1
        column = error.start - text.rfind(b"\n", 0, error.start)
        raise _refusal(name, code, "not UTF-8", (line, column)) from error
    marks: dict[Place, tuple[int, int]] = {}
    try:
        data = _Builder(name, code, marks).build(yaml.parse(decoded, Loader=_LOADER))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        at = (mark.line + 1, mark.column + 1) if mark is not None else (1, 1)
        raise _refusal(name, code, _sentence(error.problem), at) from error
    except yaml.reader.ReaderError as error:
        at = _position(decoded, error.position)
        raise _refusal(name, code, "a character that YAML does not allow", at) from error
    return Document(name, data, marks)


def _sentence(problem: object) -> str:
    """The parser's complaint, which names tokens and never quotes the text."""
    return str(problem)[:200] if problem else "this is not YAML"


def _position(text: str, offset: int) -> tuple[int, int]:
    before = text[:offset]
    return before.count("\n") + 1, offset - before.rfind("\n")


def _refusal(name: str, code: str, reason: str, at: tuple[int, int]) -> TheoryError:
    line, column = at
    detail: dict[str, str | int] = {"file": name, "line": line, "column": column, "reason": reason}
    start = "invalid inputs payload: " if code == "ERR_INPUTS" else ""
    return TheoryError(code, f"{start}{name}:{line}:{column}: {reason}", detail)


def _from_json(text: bytes, name: str, code: str) -> Any:  # noqa: ANN401
    try:
        data = loads_strict(text)
    except TheoryError as error:
        line, column = error.detail.get("line"), error.detail.get("column")
        at = (line, column) if isinstance(line, int) and isinstance(column, int) else (1, 1)
        raise _refusal(name, code, error.message, at) from error
    if depth(data) > MAX_DEPTH:
        raise _refusal(name, code, f"nested deeper than {MAX_DEPTH}", (1, 1))
    return data


def depth(data: object) -> int:
    """Depth of plain data; a scalar has 0, an empty list 1."""
    deepest, level = 0, [data]
    while level := [item for item in level if isinstance(item, dict | list)]:
        deepest += 1
        level = [
            child for item in level for child in (item.values() if isinstance(item, dict) else item)
        ]
    return deepest


class _Frame:
    """An object or list that is being read."""

    __slots__ = ("held", "key", "place")

    def __init__(self, held: dict[str, Any] | list[Any], place: Place) -> None:
        self.held = held
        self.place = place
        self.key: str | None = None
        """The name that waits for its value."""


class _Builder:
    """Plain data from a stream of YAML events, without recursion."""

    def __init__(self, name: str, code: str, marks: dict[Place, tuple[int, int]]) -> None:
        self._name = name
        self._code = code
        self._marks = marks
        self._open: list[_Frame] = []
        self._documents = 0
        self._root: Any = None

    def build(self, stream: Iterator[events.Event]) -> Any:  # noqa: ANN401
        for event in stream:
            if isinstance(event, events.DocumentStartEvent):
                self._documents += 1
                if self._documents > 1:
                    raise self._refuse(event, "one document a file")
            elif isinstance(event, events.NodeEvent):
                self._node(event)
            elif isinstance(event, events.CollectionEndEvent):
                self._open.pop()
        if self._documents == 0:
            raise _refusal(self._name, self._code, "the document is empty", (1, 1))
        return self._root

    def _refuse(self, event: events.Event, reason: str) -> TheoryError:
        return _refusal(self._name, self._code, reason, _at(event))

    def _node(self, event: events.NodeEvent) -> None:
        if isinstance(event, events.AliasEvent) or event.anchor is not None:
            raise self._refuse(event, "anchors and aliases are not allowed; write it out")
        if not isinstance(event, events.ScalarEvent | events.CollectionStartEvent):
            raise self._refuse(event, "this is not YAML")
        if event.tag not in {None, "!"}:
            raise self._refuse(event, "tags are not allowed")
        frame = self._open[-1] if self._open else None
        if frame is not None and isinstance(frame.held, dict) and frame.key is None:
            frame.key = self._name_of(event, frame.held)
            return
        if isinstance(event, events.ScalarEvent):
            self._put(frame, event, self._scalar(event))
            return
        if len(self._open) >= MAX_DEPTH:
            raise self._refuse(event, f"nested deeper than {MAX_DEPTH}")
        held: dict[str, Any] | list[Any] = {} if isinstance(event, events.MappingStartEvent) else []
        self._open.append(_Frame(held, self._put(frame, event, held)))

    def _put(self, frame: _Frame | None, event: events.Event, value: Any) -> Place:  # noqa: ANN401
        """Put a value where it belongs, and answer its place."""
        place: Place = ()
        if frame is None:
            self._root = value
        elif isinstance(frame.held, list):
            place = (*frame.place, len(frame.held))
            frame.held.append(value)
        else:
            name = frame.key if frame.key is not None else ""
            place = (*frame.place, name)
            frame.held[name] = value
            frame.key = None
        self._marks[place] = _at(event)
        return place

    def _name_of(self, event: events.NodeEvent, held: dict[str, Any]) -> str:
        if not isinstance(event, events.ScalarEvent):
            raise self._refuse(event, "a name must be text")
        name = self._scalar(event)
        if not isinstance(name, str):
            raise self._refuse(event, "a name must be text; put it in quotes")
        if name == "<<" and event.implicit[0]:
            raise self._refuse(event, "merge keys are not allowed; write it out")
        if name in held:
            raise self._refuse(event, "duplicate name")
        return name

    def _scalar(self, event: events.ScalarEvent) -> Any:  # noqa: ANN401
        text = event.value
        if not event.implicit[0]:
            return text
        if text in _WORDS:
            return _WORDS[text]
        if _INTEGER.fullmatch(text):
            if len(text) > len(str(-_MAX_INTEGER)) or abs(int(text)) > _MAX_INTEGER:
                raise self._refuse(event, "an integer beyond 2^53-1; put it in quotes")
            return int(text)
        if _DECIMAL.fullmatch(text):
            number = float(text)
            if number in {float("inf"), float("-inf")}:
                raise self._refuse(event, "a number out of range")
            return number
        return text


def _at(event: events.Event) -> tuple[int, int]:
    mark = event.start_mark
    return (mark.line + 1, mark.column + 1) if mark is not None else (1, 1)
