"""The same request again: one effect, one answer."""

from __future__ import annotations

import asyncio

import pytest

from theory_api.domain.tests.book import creation, proposal
from theory_api.scheduler.tests.bench import settle
from theory_api.scheduler.tests.desk import desk, pause, resume, row
from theory_core import TheoryError


@pytest.mark.scenario(88)
async def test_the_same_request_again_gets_the_first_answer() -> None:
    async with desk() as here:
        made = creation(proposal("a"))
        assert (await here.ask(made, row())).replayed is None
        again = await here.ask(pause(), row())
        assert again.replayed == b'{"done":true}'
        with pytest.raises(TheoryError) as caught:
            await here.ask(made, row("another body"))
        assert caught.value.code == "ERR_IDEMPOTENCY_MISMATCH"
        assert len(await here.events()) == 2


@pytest.mark.scenario(88)
async def test_the_same_request_at_once_is_told_to_come_again() -> None:
    async with desk() as here:
        here.truth.gate.clear()
        first = here.ask(creation(proposal("a")), row())
        await settle()
        with pytest.raises(TheoryError) as caught:
            await here.ask(creation(proposal("a")), row())
        assert caught.value.code == "ERR_IDEMPOTENCY_IN_FLIGHT"
        here.truth.gate.set()
        await first
        assert (await here.ask(creation(proposal("a")), row())).replayed == b'{"done":true}'


@pytest.mark.scenario(88)
async def test_a_request_whose_sender_left_keeps_its_key() -> None:
    async with desk() as here:
        here.truth.gate.clear()
        first = here.ask(creation(proposal("a")), row())
        await settle()
        first.cancel()
        await asyncio.wait({first})
        with pytest.raises(TheoryError) as caught:
            await here.ask(creation(proposal("a")), row())
        assert caught.value.code == "ERR_IDEMPOTENCY_IN_FLIGHT"
        here.truth.gate.set()
        await settle()
        assert (await here.ask(creation(proposal("a")), row())).replayed is not None
        assert len(here.truth.batches) == 1


@pytest.mark.scenario(88)
async def test_a_refused_request_does_not_use_its_key_up() -> None:
    async with desk() as here:
        with pytest.raises(TheoryError) as caught:
            await here.ask(pause(), row())
        assert caught.value.code == "ERR_NOT_FOUND"
        await here.ask(creation(proposal("a")))
        assert (await here.ask(pause(), row())).events == ("plan.paused",)
        assert (await here.ask(pause(), row(key="other"))).events == ()
        assert (await here.ask(resume(), row(key="other"))).replayed is not None
