"""A writer whose link to the server died without a word: it ends its wait by itself and goes on."""

from __future__ import annotations

import asyncio

import pytest

from theory_api.adapters.sql.postgres.tests.conftest import Making
from theory_api.adapters.system.clock import SystemClock
from theory_api.domain import commands as cmd
from theory_api.domain.tests.book import PLAN, creation, proposal
from theory_api.scheduler.answer import Answer
from theory_api.scheduler.writer import Writer
from theory_api.tests.proxy import Proxy
from theory_core import TheoryError


def pause() -> cmd.Command:
    return cmd.PausePlan(plan=PLAN, by="me", reason="wait")


@pytest.mark.scenario(8, 9)
async def test_a_writer_whose_packets_are_swallowed_refuses_ends_and_goes_on_over_another_link(
    store: Making, proxy: Proxy, url: str
) -> None:
    truth = store(proxy.through(url))
    epoch = await truth.claim("s0", "o1")
    writer = Writer(truth, SystemClock(), shard="s0", epoch=epoch, on_commit=lambda _: None)
    loop = asyncio.create_task(writer.run())
    await writer.submit(creation(proposal("a")))
    dead = list(proxy.links)
    for link in dead:
        link.swallow_up = link.swallow_down = True
    answers: list[Answer] = []
    refusals: list[str] = []
    while not answers and len(refusals) <= len(dead):
        # Longer than the store's own deadline with its question what became of it.
        asked = asyncio.create_task(writer.submit(pause()))
        await asyncio.wait({asked}, timeout=15)
        fault = asked.exception()
        if isinstance(fault, TheoryError):
            refusals.append(fault.code)
        else:
            answers.append(asked.result())
    assert 1 <= len(refusals) <= len(dead), "each dead link costs one refusal"
    assert set(refusals) == {"ERR_UNAVAILABLE"}
    assert not loop.done()
    assert answers[0].events == ("plan.paused",)
    assert [event.kind for event in await truth.events(PLAN)].count("plan.paused") == 1
    loop.cancel()
    await asyncio.wait({loop}, timeout=15)
    assert loop.done(), "the task really ends"
