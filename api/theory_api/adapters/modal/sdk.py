"""Calls of Modal's SDK: each with an end of our own, each failure with one of our codes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

import structlog

from theory_api.adapters.run_v1.calling import coded
from theory_core import TheoryError

log = structlog.get_logger(__name__)

CALL_S: Final = 10.0
"""For a look-up. The SDK itself would try again for about a minute."""
DEPLOY_S: Final = 600.0
"""For a deployment, the copy of the image included."""

Answer = TypeVar("Answer")


class ModalSdk:
    """One connection to the control plane, opened when it is needed.

    Credentials and address are the SDK's own settings (`MODAL_TOKEN_ID`, `MODAL_TOKEN_SECRET`,
    `MODAL_SERVER_URL`, or its file).
    """

    def __init__(self, *, environment: str, call_s: float = CALL_S) -> None:
        self.environment = environment
        self._call_s = call_s
        self._client: Any = None
        self._lock = asyncio.Lock()

    async def call(
        self, what: str, work: Callable[[Any], Awaitable[Answer]], *, within_s: float | None = None
    ) -> Answer:
        """The answer to `work(client)`.

        Raises `TheoryError`: `ERR_ENDPOINT_MISSING` for what is not there, else
        `ERR_MODAL_INVOCATION`; `what` is the reason that it states.
        """
        limit_s = self._call_s if within_s is None else within_s
        try:
            async with asyncio.timeout(limit_s):
                return await work(await self._connect())
        except TheoryError:
            raise
        except TimeoutError as error:
            raise coded("ERR_MODAL_INVOCATION", f"{what}: no answer in {limit_s:g} s") from error
        except Exception as error:
            raise _translated(error, what) from error

    async def close(self) -> None:
        """Close the connection."""
        client, self._client = self._client, None
        if client is not None:
            await client.__aexit__(None, None, None)

    async def _connect(self) -> Any:  # noqa: ANN401 - the SDK's client
        from modal import Client  # noqa: PLC0415 - a second of imports, for those who use it
        from modal.config import config  # noqa: PLC0415 - as above

        async with self._lock:
            if self._client is None:
                ident, secret = config["token_id"], config["token_secret"]
                if not ident or not secret:
                    raise coded("ERR_MODAL_INVOCATION", "no credentials")
                self._client = await Client.from_credentials.aio(ident, secret)
        return self._client


def _translated(error: Exception, what: str) -> TheoryError:
    """The one translation of the SDK's errors; its sentences are for its own users."""
    from modal import exception  # noqa: PLC0415 - as above

    # What is none of its own errors is a fault in it, or in what it was told; the trace says.
    known = isinstance(error, exception.Error | OSError)
    log.warning("modal.error", what=what, kind=type(error).__name__, exc_info=not known)
    if isinstance(error, exception.NotFoundError):
        return coded("ERR_ENDPOINT_MISSING", what)
    return coded("ERR_MODAL_INVOCATION", f"{what}: {type(error).__name__}")
