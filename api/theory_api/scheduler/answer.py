"""What a command led to, and how that is kept for replicas that did not hear it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import msgspec

from theory_api.ports.inbox import Reply
from theory_api.ports.truth import INBOX, IdempotencyRow
from theory_core import TheoryError, canonicalize, loads_strict


@dataclass(frozen=True, slots=True)
class Answer:
    """What a command led to, after its commit."""

    plan: str
    seq: int
    events: tuple[str, ...] = ()
    """Kinds, in order; empty when the command changed nothing."""
    stale: bool = False
    """A predicate's answer was older than what it read: evaluate again."""
    replayed: bytes | None = None
    """The stored answer of an earlier request with the same idempotency key."""


def stamped(row: IdempotencyRow, answer: Answer) -> IdempotencyRow:
    """The row as it is committed.

    Law: what a replica will be told lies in the transaction of what it asked for.
    """
    if row.scope != INBOX:
        return row
    return replace(row, answer=msgspec.json.encode(answer))


def reply(answer: Answer | TheoryError, *, own: bool) -> Reply:
    """An outcome for the inbox; `own`: the key was the inbox's, a repetition is the first answer.

    Law: `outcome(reply(a)) == a`.
    """
    if isinstance(answer, TheoryError):
        said = {"code": answer.code, "message": answer.message, "detail": dict(answer.detail)}
        return Reply(error=canonicalize(said))
    if own and answer.replayed is not None:
        return Reply(answer=answer.replayed)
    return Reply(answer=msgspec.json.encode(answer))


def outcome(told: Reply) -> Answer:
    """The answer of a reply; raises the `TheoryError` that it holds instead."""
    if told.answer is not None:
        return msgspec.json.decode(told.answer, type=Answer)
    said: Any = loads_strict(told.error or b"{}")
    raise TheoryError(said["code"], said["message"], said["detail"])
