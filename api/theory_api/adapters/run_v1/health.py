"""Waits until a processor answers `/healthz`."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass
from typing import Final

import httpx
import structlog

from theory_core import ERROR_CODES, TheoryError

log = structlog.get_logger(__name__)

HEALTHY = b'{"ok":true}'
DIGEST_HEADER: Final = "Theory-Image-Digest"
_PLAINLY = {"Accept-Encoding": "identity"}


@dataclass(frozen=True, slots=True)
class HealthPace:
    """How patiently a processor is asked."""

    budget_s: float = 15.0
    first_s: float = 0.1
    longest_s: float = 1.6
    jitter: float = 0.2
    """Share by which a pause may be longer or shorter."""


async def await_healthy(
    transport: httpx.AsyncBaseTransport,
    *,
    ended: Awaitable[object],
    pace: HealthPace,
    execution_id: str | None = None,
) -> None:
    """Return once `/healthz` says `{"ok":true}`.

    `ended` is done when there is nobody left to ask; `execution_id` is whom it is for, if anybody,
    and what the log says. Raises `TheoryError` `ERR_HEALTH` with
    `detail.reason` `ended` or `budget`.
    """
    labels = {} if execution_id is None else {"execution_id": execution_id}
    began = time.monotonic()
    pause_s = pace.first_s
    end = asyncio.ensure_future(ended)
    async with httpx.AsyncClient(transport=transport, timeout=pace.longest_s) as client:
        while True:
            jitter = random.uniform(1 - pace.jitter, 1 + pace.jitter)  # noqa: S311 - no secret
            await asyncio.wait({end}, timeout=pause_s * jitter)
            if end.done():
                raise _unhealthy("ended", labels)
            rest_s = pace.budget_s - (time.monotonic() - began)
            if await _asks(client, max(rest_s, pace.first_s)):
                log.info("adapter.health.ok", elapsed_ms=_ms(began), **labels)
                return
            if time.monotonic() - began > pace.budget_s:
                raise _unhealthy("budget", labels)
            pause_s = min(2 * pause_s, pace.longest_s)


async def _asks(client: httpx.AsyncClient, seconds: float) -> bool:
    """Whether the processor says in time that it is healthy; anything else is a no.

    Law: no more is read of a stranger's answer than the right one has.
    """
    said = b""
    try:
        async with (
            asyncio.timeout(seconds),
            client.stream("GET", "http://localhost/healthz", headers=_PLAINLY) as answer,
        ):
            if answer.status_code != httpx.codes.OK or "content-encoding" in answer.headers:
                return False
            async for piece in answer.aiter_bytes():
                said += piece
                if len(said) > len(HEALTHY):
                    return False
    except (httpx.HTTPError, TimeoutError):
        return False
    return said == HEALTHY


class Witness(httpx.AsyncBaseTransport):
    """Another transport; keeps which image its last answer said to be."""

    def __init__(self, transport: httpx.AsyncBaseTransport) -> None:
        self._transport = transport
        self.image_digest: str | None = None

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Pass it on."""
        answer = await self._transport.handle_async_request(request)
        self.image_digest = answer.headers.get(DIGEST_HEADER)
        return answer

    async def aclose(self) -> None:
        """Close the connections."""
        await self._transport.aclose()


def _unhealthy(reason: str, labels: Mapping[str, str]) -> TheoryError:
    log.warning("adapter.health.error", reason=reason, **labels)
    message = f"{ERROR_CODES['ERR_HEALTH'].summary}: {reason}"
    return TheoryError("ERR_HEALTH", message, {"reason": reason})


def _ms(since: float) -> int:
    return int((time.monotonic() - since) * 1000)
