"""The engine that queries run on: connections that cannot write, to the same primary."""

from __future__ import annotations

import asyncio
from typing import Final

import asyncpg
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from theory_api.adapters.sql.postgres.faults import Unanswered, unavailable
from theory_api.adapters.sql.postgres.line import CONNECT_S

_CONNECTIONS: Final = 4
_PATIENCE_S: Final = 15.0

_SESSION: Final = {
    "application_name": "theory-queries",
    "default_transaction_read_only": "on",
    "statement_timeout": "10000",
    "jit": "off",
}


def read_only(url: str) -> AsyncEngine:
    """An engine for `theory_api.adapters.sql.read.SqlReads`.

    A full pool fails a request after 15 s instead of hanging for ever; a server that cannot be
    reached is `TheoryError` `ERR_UNAVAILABLE`.
    """

    async def connect() -> asyncpg.Connection:
        try:
            async with asyncio.timeout(CONNECT_S + 1):
                return await asyncpg.connect(
                    url, timeout=CONNECT_S, command_timeout=_PATIENCE_S, server_settings=_SESSION
                )
        except Unanswered as error:
            # SQLAlchemy hands on as it is what its creator raises.
            raise unavailable(error) from error

    return create_async_engine(
        "postgresql+asyncpg://",
        async_creator=connect,
        isolation_level="AUTOCOMMIT",
        pool_size=_CONNECTIONS,
        max_overflow=0,
        pool_timeout=_PATIENCE_S,
        pool_pre_ping=True,
    )
