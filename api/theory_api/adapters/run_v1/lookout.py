"""Asks a server about a run that somebody else may have started: its state, or its end."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any, Final

import structlog
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from theory_api.adapters.run_v1.calling import coded
from theory_api.adapters.run_v1.endpoint import Endpoint
from theory_api.adapters.run_v1.inflow import Inflow
from theory_core import RunProtocol, TheoryError

log = structlog.get_logger(__name__)

UNKNOWN: Final = "unknown"
"""State of a run that its server knows nothing of."""
OVER: Final = frozenset({"succeeded", "failed", "cancelled", UNKNOWN})
"""States of which nothing is left to run; one that is paused goes on as soon as it may."""
LOOK_S: Final = 15.0
BACKLOG_S: Final = 60.0
"""For the frames that a server kept, beside the time that its run takes to end."""

_LOOKS_S: Final = 0.5
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


async def lost(
    endpoint: Endpoint, execution_id: str, *, within_s: float, halt: asyncio.Event
) -> bool:
    """Whether a server that had a run knows nothing of it now: the runtime behind it died.

    One that does not answer is asked again, until it does, its time is up, or `halt` is set; with
    no time at all nobody is asked.
    """
    until = asyncio.get_running_loop().time() + within_s
    while within_s and not halt.is_set():
        try:
            patience_s = min(LOOK_S, within_s)
            return await look(endpoint, execution_id, within_s=patience_s) == UNKNOWN
        except TheoryError as error:
            if asyncio.get_running_loop().time() > until:
                log.warning("run.unseen", execution_id=execution_id, code=error.code)
                return False
        await asyncio.sleep(_LOOKS_S)
    return False


async def stop(endpoint: Endpoint, execution_id: str, *, within_s: float, seen: int = 0) -> bool:
    """Cancel a run; True once its server told the result, or knows of no such run.

    `seen` is the number of the last frame that came: what was kept up to it is not sent again.
    `within_s` is for silence: who knows nothing of the run has all that was kept to read first, for
    `BACKLOG_S` at most. Law: a result is told after the death of everything that worked on it
    (spec: run.v1), unless it says `ERR_ORPHANED`. Raises `TheoryError` where the server cannot be
    asked.
    """
    opening = {"resume_from": seen} if seen else {}
    loop, inflow = asyncio.get_running_loop(), Inflow()
    latest = loop.time() + within_s + BACKLOG_S
    try:
        async with (
            asyncio.timeout(within_s) as silence,
            _listening(endpoint, "controller", execution_id, **opening) as attached,
        ):
            connection, protocol, frame = attached
            # One that ended meanwhile closes, and its result is there to be read all the same.
            with contextlib.suppress(ConnectionClosed):
                await connection.send(protocol.send("Control", {"op": "cancel"}), text=True)
            while frame["kind"] != "RunResult":
                text = await connection.recv()
                await inflow.took(len(text))
                frame = protocol.receive(text)
                silence.reschedule(min(loop.time() + within_s, latest))
            code = frame["content"].get("error", {}).get("code")
            return bool(code != "ERR_ORPHANED")
    except _Unknown:
        # A number that the server never gave is refused as a run that is not there.
        return not seen or await stop(endpoint, execution_id, within_s=within_s)
    except TimeoutError:
        return False


@contextlib.asynccontextmanager
async def _listening(
    endpoint: Endpoint, role: str, execution_id: str, **more: int
) -> AsyncIterator[tuple[ClientConnection, RunProtocol, dict[str, Any]]]:
    """A connection that is attached to the run, and the greeting that it got."""
    protocol = RunProtocol("client")
    try:
        async with endpoint.dial().open() as connection:
            content = {"role": role, "execution_id": execution_id, **more}
            await connection.send(protocol.send("RunOpen", content), text=True)
            yield connection, protocol, protocol.receive(await connection.recv())
    except ConnectionClosed as error:
        if error.rcvd is not None and error.rcvd.code == _NO_SUCH_RUN:
            raise _Unknown from error
        raise coded("ERR_WS_CLOSE", "look") from error
    except (OSError, EOFError, InvalidHandshake) as error:
        if isinstance(error, TimeoutError):
            raise
        raise coded("ERR_WS_CLOSE", "look") from error
