"""The same request again: one effect, one answer."""

from __future__ import annotations

import asyncio

import pytest

from theory_api.domain.tests.book import creation, proposal
from theory_api.scheduler.tests.bench import settle
from theory_api.scheduler.tests.desk import desk, pause, resume, row, top_up
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


@pytest.mark.scenario(88)
@pytest.mark.parametrize("body", ["a", "b"])
async def test_a_key_that_another_writer_took_first_fails_nobody_else(body: str) -> None:
    async with desk() as here:
        await here.ask(creation(proposal("a")))
        here.truth.gate.clear()
        flying = here.ask(pause())
        await settle()
        late, beside = here.ask(top_up(), row()), here.ask(top_up(2))
        await settle()
        here.truth.let(1)
        await flying
        after = here.ask(resume())
        await settle()
        theirs = row(body)
        here.truth.database.requests[(theirs.scope, theirs.key)] = theirs
        here.truth.gate.set()
        assert (await beside).events == ("budget.topped_up",)
        assert (await after).events == ("plan.resumed",)
        if body == "a":
            assert (await late).replayed == theirs.answer
        else:
            with pytest.raises(TheoryError) as caught:
                await late
            assert caught.value.code == "ERR_IDEMPOTENCY_MISMATCH"
        kinds = [event.kind for event in await here.events()]
        assert kinds[-3:] == ["plan.paused", "budget.topped_up", "plan.resumed"]
        assert here.doubts == []
        await here.sound()


@pytest.mark.scenario(88)
async def test_a_writer_that_stops_while_it_asks_whose_key_it_is_leaves_nobody_waiting() -> None:
    async with desk() as here:
        await here.ask(creation(proposal("a")))
        here.truth.gate.clear()
        late, beside = here.ask(top_up(), row()), here.ask(top_up(2))
        await settle()
        here.truth.database.requests[("acme/me", "k")] = row("b")
    for waiting in (late, beside):
        with pytest.raises(TheoryError):
            await waiting
