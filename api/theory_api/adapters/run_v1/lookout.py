"""Asks a server about a run that somebody else may have started: its state, or its end."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any, Final

from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from theory_api.adapters.run_v1.calling import coded
from theory_api.adapters.run_v1.endpoint import Endpoint
from theory_core import RunProtocol

UNKNOWN: Final = "unknown"
"""State of a run that its server knows nothing of."""
LOOK_S: Final = 15.0

_NO_SUCH_RUN: Final = 1008


class _Unknown(Exception):  # noqa: N818 - an answer, not an error
    """The server has no such run."""


async def look(endpoint: Endpoint, execution_id: str, *, within_s: float = LOOK_S) -> str:
    """The state that the server's `Ack` states, or `unknown`.

    Raises `TheoryError`: `ERR_WS_CLOSE`, `ERR_WS_TIMEOUT`, `ERR_WS_PROTOCOL`.
    """
    try:
        async with (
            asyncio.timeout(within_s),
            _listening(endpoint, "observer", execution_id) as (_, _, greeting),
        ):
            return str(greeting["content"]["state"])
    except _Unknown:
        return UNKNOWN
    except TimeoutError as error:
        raise coded("ERR_WS_TIMEOUT", "look") from error


async def stop(endpoint: Endpoint, execution_id: str, *, within_s: float) -> bool:
    """Cancel a run; True once its server told the result, or knows of no such run.

    Law: a result is told after the death of everything that worked on it (spec: run.v1), unless it
    says `ERR_ORPHANED`. Raises `TheoryError` where the server cannot be asked.
    """
    try:
        async with (
            asyncio.timeout(within_s),
            _listening(endpoint, "controller", execution_id) as (connection, protocol, greeting),
        ):
            # One that ended meanwhile closes, and its result is there to be read all the same.
            with contextlib.suppress(ConnectionClosed):
                await connection.send(protocol.send("Control", {"op": "cancel"}), text=True)
            frame = greeting
            while frame["kind"] != "RunResult":
                frame = protocol.receive(await connection.recv())
            code = frame["content"].get("error", {}).get("code")
            return bool(code != "ERR_ORPHANED")
    except _Unknown:
        return True
    except TimeoutError:
        return False


@contextlib.asynccontextmanager
async def _listening(
    endpoint: Endpoint, role: str, execution_id: str
) -> AsyncIterator[tuple[ClientConnection, RunProtocol, dict[str, Any]]]:
    """A connection that is attached to the run, and the greeting that it got."""
    protocol = RunProtocol("client")
    try:
        async with endpoint.dial().open() as connection:
            opening = protocol.send("RunOpen", {"role": role, "execution_id": execution_id})
            await connection.send(opening, text=True)
            yield connection, protocol, protocol.receive(await connection.recv())
    except ConnectionClosed as error:
        if error.rcvd is not None and error.rcvd.code == _NO_SUCH_RUN:
            raise _Unknown from error
        raise coded("ERR_WS_CLOSE", "look") from error
    except (OSError, EOFError, InvalidHandshake) as error:
        if isinstance(error, TimeoutError):
            raise
        raise coded("ERR_WS_CLOSE", "look") from error
