"""The register of schedulers in PostgreSQL, by the server's clock."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Final

from theory_api.adapters.sql.postgres.asking import Asking
from theory_api.adapters.sql.postgres.claims import LEASE
from theory_api.adapters.sql.postgres.line import DEADLINE_S
from theory_core import TheoryError

_ESTABLISH: Final = """
INSERT INTO constant (name, value) VALUES ('home', $1), ('shards', $2) ON CONFLICT DO NOTHING
"""
_ESTABLISHED: Final = "SELECT name, value FROM constant"
_STRANGE: Final = "SELECT count(*) FROM shard WHERE id <> ALL($1::text[])"
_RENEW: Final = """
INSERT INTO replica AS r (id, renewed_at) VALUES ($1, clock_timestamp())
ON CONFLICT (id) DO UPDATE SET renewed_at = excluded.renewed_at
"""
_MEMBERS: Final = "SELECT id FROM replica WHERE renewed_at >= clock_timestamp() - $1::interval"
_OWNERS: Final = """
SELECT shard, owner FROM shard_lease WHERE renewed_at >= clock_timestamp() - $1::interval
"""
# A member that died is forgotten by whoever leaves after it.
_LEAVE: Final = """
DELETE FROM replica WHERE id = $1 OR renewed_at < clock_timestamp() - interval '1 day'
"""


class PostgresMembership:
    """Implements `theory_api.ports.membership.Membership`."""

    def __init__(
        self, url: str, *, lease: timedelta = LEASE, deadline_s: float = DEADLINE_S
    ) -> None:
        self._lease = lease
        self._asking = Asking(url, "theory-membership", deadline_s=deadline_s)

    async def establish(self, shards: Sequence[str], *, home: str) -> None:
        """Record shards and home, or find them recorded."""
        await self._asking.rows(_ESTABLISH, home, str(len(shards)))
        recorded = {row["name"]: row["value"] for row in await self._asking.rows(_ESTABLISHED)}
        strange = await self._asking.value(_STRANGE, list(shards))
        if recorded["shards"] != str(len(shards)) or strange:
            message = (
                f"the ledger has {recorded['shards']} shards for good, not {len(shards)}:"
                " set THEORY_SHARDS to their number"
            )
            detail = {"shards": recorded["shards"], "asked": len(shards)}
            raise TheoryError("ERR_CONFLICT", message, detail)
        if recorded["home"] != home:
            message = (
                "the ledger belongs to another home: its schedulers share one, on one machine or"
                " on one file system"
            )
            raise TheoryError("ERR_CONFLICT", message, {"reason": "home"})

    async def renew(self, member: str) -> None:
        """Join, or stay."""
        await self._asking.rows(_RENEW, member)

    async def members(self) -> frozenset[str]:
        """Members that are alive."""
        return frozenset(row[0] for row in await self._asking.rows(_MEMBERS, self._lease))

    async def owners(self) -> Mapping[str, str]:
        """Shards whose lease is fresh, and their owners."""
        found = await self._asking.rows(_OWNERS, self._lease)
        return {row["shard"]: row["owner"] for row in found}

    async def leave(self, member: str) -> None:
        """End."""
        await self._asking.rows(_LEAVE, member)

    async def close(self) -> None:
        """Close the connection."""
        await self._asking.close()
