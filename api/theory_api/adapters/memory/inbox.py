"""The durable inbox in memory, fenced as that of a database is."""

from __future__ import annotations

from dataclasses import dataclass, field

from theory_api.adapters.memory.truth import MemoryDatabase
from theory_api.ports.inbox import InboxRow, Reply
from theory_api.ports.truth import INBOX
from theory_core import TheoryError


@dataclass(slots=True)
class _Entry:
    row: InboxRow
    reply: Reply | None = None
    answered: float | None = None
    """When it was answered or withdrawn."""


@dataclass(slots=True)
class MemoryMail:
    """The rows of all shards; it outlives the processes that wrote them."""

    entries: dict[str, _Entry] = field(default_factory=dict)


class MemoryInbox:
    """Implements `theory_api.ports.inbox.Inbox`."""

    def __init__(self, database: MemoryDatabase, mail: MemoryMail) -> None:
        self._database = database
        self._entries = mail.entries

    async def put(self, row: InboxRow) -> None:
        """Store a row."""
        self._entries.setdefault(row.id, _Entry(row))

    async def pending(self, shard: str, *, limit: int) -> list[InboxRow]:
        """Rows without a reply, in the order in which they arrived."""
        waiting = [
            entry.row
            for entry in self._entries.values()
            if entry.row.shard == shard and entry.answered is None
        ]
        return waiting[:limit]

    async def answer(self, ident: str, reply: Reply, *, shard: str, epoch: int) -> None:
        """Reply to a row, as the owner of the present epoch."""
        held = self._database.shards.get(shard)
        if held is None or held.epoch != epoch or held.owner is None:
            message = "another process has become the writer"
            raise TheoryError("ERR_NOT_WRITER", message, {"shard": shard, "epoch": epoch})
        entry = self._entries.get(ident)
        if entry is not None and entry.answered is None:
            entry.reply, entry.answered = reply, self._database.now()

    async def reply(self, ident: str) -> Reply | None:
        """The reply, once there is one."""
        entry = self._entries.get(ident)
        return None if entry is None else entry.reply

    async def withdraw(self, ident: str) -> None:
        """Let nobody take a row that has no reply."""
        entry = self._entries.get(ident)
        if entry is not None and entry.answered is None:
            entry.answered = self._database.now()

    async def sweep(self, shard: str, *, older_s: float) -> int:
        """Remove rows answered or withdrawn longer ago than that."""
        before = self._database.now() - older_s
        old = [
            ident
            for ident, entry in self._entries.items()
            if entry.row.shard == shard and entry.answered is not None and entry.answered < before
        ]
        for ident in old:
            del self._entries[ident]
            self._database.requests.pop((INBOX, ident), None)
        return len(old)

    async def close(self) -> None:
        """Nothing is open."""
