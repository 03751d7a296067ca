"""The register of schedulers in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from theory_api.adapters.memory.truth import HeldShard, MemoryDatabase
from theory_core import TheoryError


@dataclass(slots=True)
class MemoryRegister:
    """What the schedulers of one simulated ledger know of each other."""

    seen: dict[str, float] = field(default_factory=dict)
    home: str | None = None


class MemoryMembership:
    """Implements `theory_api.ports.membership.Membership`."""

    def __init__(self, database: MemoryDatabase, register: MemoryRegister) -> None:
        self._database = database
        self._register = register

    async def establish(self, shards: Sequence[str], *, home: str) -> None:
        """Record shards and home, or find them recorded."""
        recorded = self._database.shards
        if not recorded:
            recorded.update({shard: HeldShard() for shard in shards})
            self._register.home = home
        if set(recorded) != set(shards):
            detail = {"shards": len(recorded), "asked": len(shards)}
            raise TheoryError("ERR_CONFLICT", "the ledger has another number of shards", detail)
        if self._register.home != home:
            raise TheoryError("ERR_CONFLICT", "the ledger belongs to another home", {})

    async def renew(self, member: str) -> None:
        """Join, or stay."""
        self._register.seen[member] = self._database.now()

    async def members(self) -> frozenset[str]:
        """Members that are alive."""
        seen = self._register.seen.items()
        return frozenset(member for member, at in seen if self._database.fresh(at))

    async def owners(self) -> Mapping[str, str]:
        """Owners of the shards that have one."""
        return {
            name: shard.owner
            for name, shard in self._database.shards.items()
            if shard.owner is not None and self._database.fresh(shard.renewed)
        }

    async def leave(self, member: str) -> None:
        """End."""
        self._register.seen.pop(member, None)

    async def close(self) -> None:
        """Nothing is open."""
