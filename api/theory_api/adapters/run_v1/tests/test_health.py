"""How patiently a processor is asked whether it is there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest

from theory_api.adapters.run_v1.health import HealthPace, await_healthy
from theory_core import TheoryError


def answering(*answers: httpx.Response | None) -> httpx.MockTransport:
    """A server whose first answers are these; the last is repeated, None is silence."""
    left = list(answers)

    def answer(_request: httpx.Request) -> httpx.Response:
        said = left.pop(0) if len(left) > 1 else left[0]
        if said is None:
            message = "nobody there"
            raise httpx.ConnectError(message)
        return said

    return httpx.MockTransport(answer)


HEALTHY = httpx.Response(200, content=b'{"ok":true}')
QUICK = HealthPace(budget_s=0.1, first_s=0.01, longest_s=0.02)


class Endless(httpx.AsyncByteStream):
    """An answer without an end, and how much of it was read."""

    def __init__(self, piece: bytes, pause_s: float) -> None:
        self._piece = piece
        self._pause_s = pause_s
        self.read = 0

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Pieces for ever."""
        while True:
            await asyncio.sleep(self._pause_s)
            self.read += len(self._piece)
            yield self._piece


async def test_health_is_asked_until_it_is_there() -> None:
    never: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    early = [None, httpx.Response(503), httpx.Response(200, content=b'{"ok": true}')]
    await await_healthy(answering(*early, HEALTHY), ended=asyncio.shield(never), pace=QUICK)


@pytest.mark.parametrize("answer", [None, httpx.Response(200, content=b"ok")])
async def test_health_has_a_budget(answer: httpx.Response | None) -> None:
    never: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    with pytest.raises(TheoryError) as caught:
        await await_healthy(answering(answer), ended=asyncio.shield(never), pace=QUICK)
    assert (caught.value.code, caught.value.detail["reason"]) == ("ERR_HEALTH", "budget")


async def test_health_is_not_asked_of_the_dead() -> None:
    ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    ended.set_result(None)
    with pytest.raises(TheoryError) as caught:
        await await_healthy(answering(HEALTHY), ended=asyncio.shield(ended), pace=QUICK)
    assert caught.value.detail["reason"] == "ended"


@pytest.mark.parametrize(("piece", "pause_s"), [(b"x" * 65536, 0.0), (b"{", 0.03), (b"", 0.03)])
async def test_an_answer_without_an_end_is_read_no_further_than_it_could_be_right(
    piece: bytes, pause_s: float
) -> None:
    never: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    endless = Endless(piece, pause_s)
    answer = httpx.MockTransport(lambda _: httpx.Response(200, stream=endless))
    with pytest.raises(TheoryError) as caught:
        async with asyncio.timeout(10):
            await await_healthy(answer, ended=asyncio.shield(never), pace=QUICK)
    assert caught.value.detail["reason"] == "budget"
    assert endless.read <= 65536 * 20
