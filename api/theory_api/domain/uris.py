"""Which addresses the inputs of a run may name: those that its plan's policy lists.

Source of the rule: spec, limits (`uri_allow`). A schema says which of its members are addresses,
by `format: uri`. Whoever connects checks the resolved address besides; nothing here resolves.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from theory_core import TheoryError

FORMAT: Final = "uri"

_URI: Final = re.compile(
    r"(https?)://([a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?|\[[0-9a-f:.]{2,45}\])"
    r"(?::([1-9][0-9]{0,4}))?(?:[/?][!-\[\]-~]*)?"
)
"""Scheme, host in lower case, port; no user, no backslash, no space, nothing to be decoded."""
_PORTS: Final = {"http": 80, "https": 443}
_MAX_PORT: Final = 65535
_CALLED: Final = re.compile(r"(?:.*[_-])?(?:endpoint|uri|url)s?", re.IGNORECASE)
"""Names of parameters that are addresses, whatever their schema says."""
_SHAPED: Final = re.compile(r"\^?(?:\((?:\?:)?)*https?")
"""How a pattern begins that addresses match."""

Origin = tuple[str, str, int]


def origin(uri: str) -> Origin | None:
    """Scheme, host and port of an address, or None for what is none."""
    match = _URI.fullmatch(uri)
    if match is None or "#" in uri:
        return None
    port = int(match[3] or _PORTS[match[1]])
    return (match[1], match[2], port) if port <= _MAX_PORT else None


def check(schema: Mapping[str, Any], params: Mapping[str, Any], allow: Iterable[str]) -> None:
    """Refuse params of which an address is not on the list, or is none.

    Raises `TheoryError` `ERR_INPUTS` "uri not allowed" with `detail` `place` and `reason`.
    """
    listed: set[Origin] | None = None
    for place, value in _addresses(schema, params, "$.params"):
        if not isinstance(value, str):
            continue  # the schema's own affair
        if listed is None:
            listed = {found for uri in allow if (found := origin(uri)) is not None}
        if origin(value) not in listed:
            message = f"invalid inputs payload: uri not allowed: {place}"
            detail: dict[str, str | int] = {"place": place, "reason": "uri"}
            raise TheoryError("ERR_INPUTS", message, detail)


def names(schema: Mapping[str, Any]) -> bool:
    """Whether a schema of params has any address at all."""
    return next(_followed(schema), None) is not None


def hidden(schema: Mapping[str, Any]) -> bool:
    """Whether a schema declares an address where `check` would not look: in a choice, a reference.

    Law: such a schema is refused when it is read, so that no address passes unseen.
    """
    seen = set(map(id, _followed(schema)))
    return any(id(member) not in seen for member in _declared(schema))


def undeclared(schema: Mapping[str, Any]) -> str | None:
    """The name of a parameter that is an address by name or by pattern and does not say so.

    Law: such a schema is refused when it is read: what is not declared, no policy is asked about.
    """
    for name, member in _named(schema):
        if any(_looks(name, text) for text in _texts(member)):
            return name
    return None


def _addresses(schema: object, value: object, place: str) -> Iterator[tuple[str, object]]:
    """Every value that stands where the schema has an address, and its place."""
    if _is_uri(schema):
        yield place, value
    if isinstance(value, Mapping):
        for name, member in _members(schema):
            if name in value:
                yield from _addresses(member, value[name], f"{place}.{name}")
    elif isinstance(value, list):
        items = _items(schema)
        for index, item in enumerate(value):
            yield from _addresses(items, item, f"{place}[{index}]")


def _followed(schema: object) -> Iterator[object]:
    """The schemas of addresses below `properties` and `items`."""
    if _is_uri(schema):
        yield schema
    for _, member in _members(schema):
        yield from _followed(member)
    items = _items(schema)
    if items is not None:
        yield from _followed(items)


def _declared(value: object) -> Iterator[object]:
    """The schemas of addresses anywhere."""
    if _is_uri(value):
        yield value
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from _declared(item)


def _named(value: object) -> Iterator[tuple[str, object]]:
    """Every property of a schema, wherever it is declared."""
    if isinstance(value, Mapping):
        yield from _members(value)
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from _named(item)


def _texts(schema: object) -> Iterator[Mapping[str, Any]]:
    """The schemas of strings that a property may be, one by one or in lists and choices."""
    if not isinstance(schema, Mapping):
        return
    kind = schema.get("type", "string" if "pattern" in schema else None)
    if kind == "string" or (isinstance(kind, list) and "string" in kind):
        yield schema
    for choice in ("anyOf", "oneOf", "allOf", "prefixItems"):
        for item in schema.get(choice, ()):
            yield from _texts(item)
    for inner in ("items", "additionalProperties"):
        yield from _texts(schema.get(inner))


def _looks(name: str, schema: Mapping[str, Any]) -> bool:
    shaped = _SHAPED.match(str(schema.get("pattern", ""))) is not None
    return (shaped or _CALLED.fullmatch(name) is not None) and not _is_uri(schema)


def _members(schema: object) -> Iterable[tuple[str, object]]:
    members = schema.get("properties", {}) if isinstance(schema, Mapping) else {}
    return members.items() if isinstance(members, Mapping) else ()


def _items(schema: object) -> object:
    return schema.get("items") if isinstance(schema, Mapping) else None


def _is_uri(schema: object) -> bool:
    return isinstance(schema, Mapping) and schema.get("format") == FORMAT
