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
    for place, value in _addresses(schema, params):
        if not isinstance(value, str):
            continue  # the schema's own affair
        if listed is None:
            listed = {found for uri in allow if (found := origin(uri)) is not None}
        if origin(value) not in listed:
            message = f"invalid inputs payload: uri not allowed: $.params.{place}"
            detail: dict[str, str | int] = {"place": f"$.params.{place}", "reason": "uri"}
            raise TheoryError("ERR_INPUTS", message, detail)


def names(schema: Mapping[str, Any]) -> bool:
    """Whether a schema of params has any address at all."""
    return any(_is_uri(member) or _is_uri(_items(member)) for _, member in _members(schema))


def _addresses(
    schema: Mapping[str, Any], params: Mapping[str, Any]
) -> Iterator[tuple[str, object]]:
    for name, member in _members(schema):
        value = params.get(name)
        if value is not None and _is_uri(member):
            yield name, value
        elif isinstance(value, list) and _is_uri(_items(member)):
            yield from ((f"{name}[{index}]", item) for index, item in enumerate(value))


def _members(schema: Mapping[str, Any]) -> Iterable[tuple[str, object]]:
    members = schema.get("properties", {})
    return members.items() if isinstance(members, Mapping) else ()


def _items(member: object) -> object:
    return member.get("items") if isinstance(member, Mapping) else None


def _is_uri(member: object) -> bool:
    return isinstance(member, Mapping) and member.get("format") == FORMAT
