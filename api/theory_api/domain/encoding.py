"""A plan's fold as bytes and back, in pieces small enough to stop between any two of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import fields
from functools import cache
from itertools import islice
from typing import Any, Final, get_type_hints

import msgspec

from theory_api.domain.state import PlanState
from theory_core import Selector, TheoryError, canonicalize, digest

REVISION: Final = 1
"""Raised when `evolve` makes another state of the same events: older folds are then ignored."""

PIECE: Final = 250
"""Entries of a mapping or list in one frame."""

_HINTS: Final = get_type_hints(PlanState)
_NAMES: Final = tuple(entry.name for entry in fields(PlanState))


def frames(state: PlanState) -> Iterator[bytes]:
    """The state as frames, each of a bounded part of one field; the order is free.

    `state` must not change before the last one was taken.
    """
    for name in _NAMES:
        for piece in _pieces(getattr(state, name)):
            yield _encoder().encode((name, piece))


def absorb(state: PlanState, frame: bytes) -> None:
    """Put a frame into the state that is being rebuilt.

    Law: a fresh state that absorbed all frames of another, once each, equals it, the order of its
    mappings included. Raises `TheoryError` `ERR_STORAGE` for a frame of something else.
    """
    try:
        name, piece = _envelope().decode(frame)
        value = _decoder(name).decode(piece)
    except (msgspec.MsgspecError, KeyError, TheoryError) as error:
        message = "storage unavailable: a stored fold is not readable"
        raise TheoryError("ERR_STORAGE", message) from error
    if isinstance(value, dict):
        getattr(state, name).update(value)
    elif isinstance(value, list):
        getattr(state, name).extend(value)
    else:
        setattr(state, name, value)


def size(state: PlanState) -> int:
    """How many entries the state has: what its encoding costs, in no unit."""
    values = (getattr(state, name) for name in _NAMES)
    return sum(len(value) for value in values if isinstance(value, dict | list))


@cache
def layout() -> str:
    """Names the shape of a fold's frames: a digest of every field and type in them."""
    shape: Any = msgspec.json.schema(PlanState, schema_hook=lambda _: {"type": "array"})
    return digest(canonicalize([REVISION, shape]))


def _pieces(value: Any) -> Iterable[Any]:  # noqa: ANN401 - fields are of many types
    if isinstance(value, dict):
        items = iter(value.items())
        return iter(lambda: dict(islice(items, PIECE)), {})
    if isinstance(value, list):
        return (value[start : start + PIECE] for start in range(0, len(value), PIECE))
    return (value,)


def _flat(value: Any) -> Any:  # noqa: ANN401 - whatever msgspec does not know
    if isinstance(value, Selector):
        return (value.kind, str(value.path))
    raise TypeError(type(value))


def _full(kind: type[Any], value: Any) -> Any:  # noqa: ANN401 - as above
    if kind is Selector and isinstance(value, list):
        return Selector(*value)
    raise TypeError(kind)


@cache
def _encoder() -> msgspec.msgpack.Encoder:
    return msgspec.msgpack.Encoder(enc_hook=_flat)


@cache
def _envelope() -> msgspec.msgpack.Decoder[tuple[str, msgspec.Raw]]:
    return msgspec.msgpack.Decoder(tuple[str, msgspec.Raw])


@cache
def _decoder(name: str) -> msgspec.msgpack.Decoder[Any]:
    return msgspec.msgpack.Decoder(_HINTS[name], dec_hook=_full)
