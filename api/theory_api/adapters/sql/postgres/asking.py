"""A line whose answers come as rows and whose faults come as the ports' errors."""

from __future__ import annotations

from typing import Any

import asyncpg

from theory_api.adapters.sql.postgres.faults import DoubtfulError, refused, unavailable
from theory_api.adapters.sql.postgres.line import DEADLINE_S, Line


class Asking:
    """One connection for single statements, each a transaction of its own.

    Raises `TheoryError`: `ERR_UNAVAILABLE` where nobody knows whether it was done, and what
    `refused` makes of the server's own errors.
    """

    def __init__(self, url: str, name: str, *, deadline_s: float = DEADLINE_S) -> None:
        self._line = Line(url, name, deadline_s=deadline_s)

    async def rows(self, statement: str, *given: object) -> list[asyncpg.Record]:
        """What a statement answers."""

        async def work(connection: asyncpg.Connection) -> list[asyncpg.Record]:
            return await connection.fetch(statement, *given)

        try:
            return await self._line.run(work)
        except DoubtfulError as error:
            raise unavailable(error.__cause__ or error) from error
        except asyncpg.PostgresError as error:
            raise refused(error) from error

    async def value(self, statement: str, *given: object) -> Any:  # noqa: ANN401 - any column
        """The first column of the first row, or None."""
        rows = await self.rows(statement, *given)
        return rows[0][0] if rows else None

    async def close(self) -> None:
        """Close the connection."""
        await self._line.close()
