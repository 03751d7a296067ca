"""Folds in PostgreSQL, over a connection of their own: no append waits for one."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping, Sequence
from typing import Final, TypeVar

import asyncpg

from theory_api.adapters.sql.columns import to_raw, to_text
from theory_api.adapters.sql.postgres.faults import DoubtfulError, refused, unavailable
from theory_api.adapters.sql.postgres.line import DEADLINE_S, Line
from theory_api.ports.folds import Fold
from theory_core import TheoryError

T = TypeVar("T")

PLANS: Final = 64
"""Plans whose folds are read by one statement."""

_PUT: Final = """
INSERT INTO fold (plan, seq, hash, at, version, body) VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (plan) DO UPDATE SET
  seq = excluded.seq, hash = excluded.hash, at = excluded.at,
  version = excluded.version, body = excluded.body
"""
_READ: Final = """
SELECT plan, seq, hash, at, version, body FROM fold WHERE plan = ANY($1::text[])
"""
_DROP: Final = "DELETE FROM fold WHERE plan = ANY($1::text[])"


class PostgresFolds:
    """Implements `theory_api.ports.folds.FoldStore`.

    Not fenced: a fold is bound to its event, and one of an owner that is over means nothing in a
    ledger that went another way.
    """

    def __init__(self, url: str, *, deadline_s: float = DEADLINE_S) -> None:
        self._line = Line(url, "theory-folds", deadline_s=deadline_s)

    async def put(self, folds: Sequence[Fold]) -> None:
        """Keep folds; the plans must be there."""
        rows = [
            (fold.plan, fold.seq, to_raw(fold.hash), fold.at, fold.version, fold.body)
            for fold in folds
        ]

        async def work(connection: asyncpg.Connection) -> None:
            await connection.executemany(_PUT, rows)

        await _answered(self._line.run(work))

    async def newest(self, plans: Sequence[str]) -> Mapping[str, Fold]:
        """The folds of these plans."""
        found: dict[str, Fold] = {}
        for start in range(0, len(plans), PLANS):
            group = list(plans[start : start + PLANS])

            async def work(
                connection: asyncpg.Connection, group: list[str] = group
            ) -> list[asyncpg.Record]:
                return await connection.fetch(_READ, group)

            for plan, seq, digest, at, version, body in await _answered(self._line.run(work)):
                found[plan] = Fold(plan, seq, to_text(digest), at, version, body)
        return found

    async def drop(self, plans: Sequence[str]) -> None:
        """Forget folds."""

        async def work(connection: asyncpg.Connection) -> None:
            await connection.execute(_DROP, list(plans))

        await _answered(self._line.run(work))

    async def close(self) -> None:
        """Close the connection."""
        await self._line.close()


async def _answered(running: Awaitable[T]) -> T:
    try:
        return await running
    except DoubtfulError as error:
        raise unavailable(error.__cause__ or error) from error
    except TheoryError:
        raise
    except asyncpg.PostgresError as error:
        raise refused(error) from error
