"""Which schedulers are alive, and which shards there are for them to own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol


class Membership(Protocol):
    """The register of one ledger's schedulers. It advises; only the epoch of a shard fences.

    Raises `TheoryError` `ERR_UNAVAILABLE`.
    """

    async def establish(self, shards: Sequence[str], *, home: str) -> None:
        """Record the ledger's shards and the identity of its home, at the first start.

        Raises `TheoryError` `ERR_CONFLICT` when others are recorded: plans would be looked for on
        shards where they are not, executions in folders where they did not leave anything.
        """

    async def renew(self, member: str) -> None:
        """Join, or stay: a member that was not renewed for a lease is not alive."""

    async def members(self) -> frozenset[str]:
        """Members that are alive."""

    async def owners(self) -> Mapping[str, str]:
        """Owners of the shards that have one: a lease that was given back or is over is none."""

    async def leave(self, member: str) -> None:
        """End; idempotent."""

    async def close(self) -> None:
        """Close every connection."""
