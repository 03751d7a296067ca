"""Commands on their way to the scheduler that owns their plan's shard, durable until answered."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from theory_api.ports.truth import IdempotencyRow


@dataclass(frozen=True, slots=True, kw_only=True)
class InboxRow:
    """A command that another replica than its owner took."""

    id: str
    """Drawn by the replica that took it; what makes the command happen once."""
    shard: str
    plan: str
    command: bytes
    idempotency: IdempotencyRow | None = None
    """The client's own key, where it gave one."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What the owner answered: exactly one of the two is there."""

    answer: bytes | None = None
    error: bytes | None = None
    """Canonical JSON `{"code", "message", "detail"}`."""


class Inbox(Protocol):
    """The durable inbox of every shard; for replicas that do not own it.

    Law: a row is answered at most once, and only by the owner of its shard's present epoch: what a
    former owner believes reaches nobody. Raises `TheoryError` `ERR_UNAVAILABLE`.
    """

    async def put(self, row: InboxRow) -> None:
        """Store a row, durable on return; the same id again changes nothing."""

    async def pending(self, shard: str, *, limit: int) -> list[InboxRow]:
        """Rows without a reply, in the order in which they arrived."""

    async def answer(self, ident: str, reply: Reply, *, shard: str, epoch: int) -> None:
        """Reply to a row that has no reply; one that is gone or has one stays as it is.

        Raises `TheoryError` `ERR_NOT_WRITER` when the epoch is over.
        """

    async def reply(self, ident: str) -> Reply | None:
        """The reply, once there is one."""

    async def withdraw(self, ident: str) -> None:
        """Nobody waits any more: a row that has no reply is not pending, and never has one.

        Idempotent. It goes with a later sweep, as its command may be under way all the same.
        """

    async def sweep(self, shard: str, *, older_s: float) -> int:
        """Remove rows answered or withdrawn longer ago than that, with what made them happen once.

        How many.
        """

    async def close(self) -> None:
        """Close every connection."""
