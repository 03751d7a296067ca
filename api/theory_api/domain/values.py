"""Small closed values that commands, events and rows share."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

Mode = Literal["mock", "real"]
Lane = Literal["build", "dev", "staging", "main"]
Verdict3 = Literal["true", "false", "error"]
Basis = Literal["measured", "reported", "hold"]
ControlOp = Literal["cancel", "pause", "resume", "set_budget"]
"""What a controller asks of a run (spec: run.v1)."""

TERMINAL_PLAN = frozenset({"completed", "failed", "cancelled"})
"""Statuses after which a plan never changes."""

TERMINAL_TRANSITION = frozenset({"succeeded", "failed", "cancelled", "skipped", "refused"})
"""Statuses after which a transition never changes."""


class Value(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True
):
    """Base of the closed, immutable values."""


class SelectorSpec(Value, frozen=True):
    """A set of WorldPaths: one path, or everything below a prefix."""

    kind: Literal["exact", "prefix"]
    path: str


class Predicate(Value, frozen=True, omit_defaults=False):
    """A named condition with its parameters, e.g. `artifact.exists@1` `{"path": …}`."""

    name: str
    params: dict[str, Any] = {}


class Verdict(Value, frozen=True, omit_defaults=False):
    """What a predicate answered, and on which state of the world."""

    name: str
    params: dict[str, Any]
    verdict: Verdict3
    reason: str
    at_seq: int


class Fault(Value, frozen=True, omit_defaults=False):
    """An error as data: code, sentence, facts."""

    code: str
    message: str
    detail: dict[str, str | int] = {}


class Output(Value, frozen=True):
    """An artifact that an execution wrote."""

    path: str
    cid: str
    size_bytes: int
    mime: str


class StreamSeal(Value, frozen=True):
    """A stream as an attempt left it (spec: run.v1, conduct)."""

    path: str
    digest: str
    """Of the data of its frames, one after the other."""
    count: int
    bytes: int


class InputBytes(Value, frozen=True):
    """An artifact that an execution read."""

    path: str
    cid: str
    size_bytes: int


class Retry(Value, frozen=True, omit_defaults=False):
    """When and how often a failed attempt is repeated."""

    max_attempts: int
    backoff_ms: tuple[int, ...]
    jitter_permille: int
    retry_on: tuple[str, ...]


class Policy(Value, frozen=True, omit_defaults=False):
    """The rules of a plan, resolved from the registry when it was created."""

    ref: str
    on_refused: Literal["fail", "pause"]
    on_breach: Literal["fail", "pause"]
    lease_ms: int
    retry: Retry


class Counts(Value, frozen=True, omit_defaults=False):
    """How many transitions ended how."""

    succeeded: int = 0
    failed: int = 0
    skipped: int = 0
    cancelled: int = 0
    refused: int = 0
