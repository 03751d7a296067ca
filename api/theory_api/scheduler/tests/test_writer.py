"""The single writer: nothing is answered before its commit, and nothing is lost with one."""

from __future__ import annotations

import asyncio

import pytest

from theory_api.domain import commands as cmd
from theory_api.domain.decision import Start
from theory_api.domain.tests.book import PLAN, Book, creation, policy, proposal
from theory_api.ports.truth import StoredEvent
from theory_api.scheduler.folding import refold
from theory_api.scheduler.tests.bench import Clock, Truth, settle
from theory_api.scheduler.tests.desk import cancel, desk, pause, resume, top_up
from theory_api.scheduler.writer import BATCH, Committed, Writer
from theory_core import TheoryError

LOST_ANSWER = TheoryError("ERR_UNAVAILABLE", "the answer was lost", {})


async def test_nothing_is_answered_or_acted_on_before_its_commit() -> None:
    async with desk() as here:
        here.truth.gate.clear()
        made, refused = here.ask(creation(proposal("a"))), here.ask(top_up(0))
        await settle()
        assert not made.done()
        assert not refused.done(), "a refusal may rest on events that are not committed"
        assert here.commits == []
        here.truth.gate.set()
        answer = await made
        assert answer.events == ("plan.created", "transition.proposed")
        assert answer.seq == 2
        assert [commit.plan for commit in here.commits] == [PLAN]
        with pytest.raises(TheoryError):
            await refused


async def test_commands_that_wait_together_commit_together() -> None:
    async with desk() as here:
        await asyncio.gather(
            *(here.ask(creation(proposal("a"), plan=f"{PLAN}{n}")) for n in range(20))
        )
        assert [len(batch) for batch in here.truth.batches] == [20]
        await asyncio.gather(*(here.ask(top_up(plan=f"{PLAN}0")) for _ in range(BATCH + 1)))
        assert here.truth.batches[1:] == [
            [(f"{PLAN}0", BATCH)],
            [(f"{PLAN}0", 1)],
        ]
        await here.sound(f"{PLAN}0")


async def test_the_next_batch_is_decided_while_one_commits() -> None:
    async with desk() as here:
        await here.ask(creation(proposal("a")))
        here.truth.gate.clear()
        first = here.ask(pause())
        await settle()
        second = here.ask(resume())
        await settle()
        state = here.writer.state(PLAN)
        assert state is not None
        assert (state.seq, state.status) == (4, "active"), "both are decided"
        assert here.writer.committed(PLAN) == 2, "neither is committed"
        here.truth.gate.set()
        assert (await first).events == ("plan.paused",)
        assert (await second).events == ("plan.resumed",)
        assert here.truth.batches[1:] == [[(PLAN, 1)], [(PLAN, 1)]]


async def test_a_failed_commit_is_forgotten_and_refolded() -> None:
    async with desk() as here:
        await here.ask(creation(proposal("a")))
        here.truth.faults = [(LOST_ANSWER, False)]
        with pytest.raises(TheoryError) as caught:
            await here.ask(pause())
        assert caught.value.code == "ERR_UNAVAILABLE"
        assert here.writer.state(PLAN) is None
        assert here.doubts == [PLAN]
        assert len(here.commits) == 1
        assert (await here.ask(pause())).seq == 3
        await here.sound()


async def test_a_commit_that_was_carried_out_after_all_is_found_in_the_store() -> None:
    async with desk() as here:
        await here.ask(creation(proposal("a")))
        here.truth.faults = [(LOST_ANSWER, True)]
        with pytest.raises(TheoryError):
            await here.ask(pause())
        assert (await here.ask(pause())).events == ()
        assert (await here.ask(resume())).seq == 4
        await here.sound()


async def test_a_commit_that_lands_after_it_was_given_up_is_found_when_the_plan_is_read_again() -> (
    None
):
    async with desk() as here:
        await here.ask(creation(proposal("a")))
        here.truth.faults = [(LOST_ANSWER, False)]
        with pytest.raises(TheoryError):
            await here.ask(pause())
        assert (await here.writer.settled(PLAN)).status == "active"
        await here.writer.reread(PLAN)
        assert here.writer.state(PLAN) is not None, "nothing is news"
        await here.truth.withheld[0]()
        await here.writer.reread(PLAN)
        assert (await here.writer.settled(PLAN)).status == "paused"
        assert (await here.ask(resume())).events == ("plan.resumed",)
        await here.sound()


async def test_a_plan_that_is_read_again_keeps_the_state_that_a_commit_rests_on() -> None:
    async with desk() as here:
        await here.ask(creation(proposal("a")))
        await here.writer.settled(PLAN)
        here.truth.gate.clear()
        flying = here.ask(pause())
        await settle()
        state = here.writer.state(PLAN)
        assert state is not None
        rereading = asyncio.create_task(here.writer.reread(PLAN))
        await settle()
        assert rereading.done()
        assert here.writer.state(PLAN) is state
        here.truth.gate.set()
        await flying
        await here.writer.reread(PLAN)
        assert here.writer.state(PLAN) is state
        await here.sound()


async def test_what_was_decided_on_a_failed_commit_is_decided_again() -> None:
    async with desk() as here:
        await here.ask(creation(proposal("a")))
        here.truth.gate.clear()
        here.truth.faults = [(LOST_ANSWER, False)]
        cancelled = here.ask(cancel())
        await settle()
        raised, again = here.ask(top_up()), here.ask(pause())
        await settle()
        here.truth.gate.set()
        with pytest.raises(TheoryError) as caught:
            await cancelled
        assert caught.value.code == "ERR_UNAVAILABLE"
        assert (await raised).events == ("budget.topped_up",), "the plan was never cancelled"
        assert (await again).events == ("plan.paused",)
        assert [event.seq for event in await here.events()] == [1, 2, 3, 4]


async def test_another_plans_commands_behind_a_failed_commit_are_decided_again() -> None:
    other = f"{PLAN}2"
    async with desk() as here:
        await asyncio.gather(
            *(here.ask(creation(proposal("a"), plan=one)) for one in (PLAN, other))
        )
        here.truth.gate.clear()
        here.truth.faults = [(LOST_ANSWER, False)]
        failing = here.ask(pause())
        await settle()
        behind = here.ask(pause(other))
        await settle()
        here.truth.gate.set()
        with pytest.raises(TheoryError):
            await failing
        assert (await behind).events == ("plan.paused",)
        assert [event.seq for event in await here.events(other)] == [1, 2, 3]
        await here.sound(other)


async def test_who_waits_for_a_plan_behind_a_failed_commit_does_not_wait_for_good() -> None:
    """Its command cannot be decided again: the store is away when its plan is folded anew."""
    other = f"{PLAN}2"
    async with desk() as here:
        await asyncio.gather(
            *(here.ask(creation(proposal("a"), plan=one)) for one in (PLAN, other))
        )
        here.truth.gate.clear()
        here.truth.faults = [(LOST_ANSWER, False)]
        failing = here.ask(pause())
        await settle()
        behind = here.ask(pause(other))
        await settle()
        waits = asyncio.create_task(here.writer.settled(other))
        await settle()
        assert not waits.done()
        read, away = here.truth.events, [LOST_ANSWER]

        async def events(plan: str, *, after: int = 0, limit: int = 1000) -> list[StoredEvent]:
            if plan == other and away:
                raise away.pop()
            return await read(plan, after=after, limit=limit)

        here.truth.events = events  # type: ignore[method-assign]
        here.truth.gate.set()
        for asked in (failing, behind, waits):
            await settle()
            assert asked.done()
            asked.exception()


@pytest.mark.scenario(5)
@pytest.mark.parametrize("code", ["ERR_NOT_WRITER", "ERR_CONFLICT", "ERR_CHAIN_BROKEN"])
async def test_a_writer_that_lost_its_shard_stops_for_good(code: str) -> None:
    async with desk() as here:
        await here.ask(creation(proposal("a")))
        here.truth.gate.clear()
        here.truth.faults = [(TheoryError(code, "somebody else writes", {}), False)]
        flying = here.ask(pause())
        await settle()
        decided = here.ask(resume())
        await settle()
        here.truth.gate.set()
        for task in (flying, decided, here.ask(top_up())):
            with pytest.raises(TheoryError) as caught:
                await task
            assert caught.value.code == "ERR_NOT_WRITER"
        with pytest.raises(TheoryError):
            await here.writer.settled(PLAN)
        assert len(await here.events()) == 2


@pytest.mark.scenario(17)
async def test_a_fault_that_nobody_foresaw_is_answered_and_goes_on() -> None:
    truth, epoch = Truth(), 1
    await truth.claim("s", "me")
    writer = Writer(truth, Clock(), shard="s", epoch=epoch, on_commit=lambda _: None)
    loop = asyncio.create_task(writer.run())
    truth.gate.clear()
    truth.faults = [(ZeroDivisionError(), False)]
    flying = asyncio.create_task(writer.submit(creation(proposal("a"))))
    await settle()
    waiting = asyncio.create_task(writer.submit(pause()))
    await settle()
    truth.gate.set()
    with pytest.raises(TheoryError) as caught:
        await flying
    assert caught.value.code == "ERR_INTERNAL"
    with pytest.raises(TheoryError):
        await waiting
    with pytest.raises(ZeroDivisionError):
        await loop


async def test_a_listener_that_fails_leaves_nobody_waiting() -> None:
    truth = Truth()
    await truth.claim("s", "me")

    def listen(_: Committed) -> None:
        raise ZeroDivisionError

    writer = Writer(truth, Clock(), shard="s", epoch=1, on_commit=listen)
    loop = asyncio.create_task(writer.run())
    first = asyncio.create_task(writer.submit(creation(proposal("a"))))
    assert (await first).seq == 2
    with pytest.raises(ZeroDivisionError):
        await loop
    with pytest.raises(TheoryError) as caught:
        await writer.submit(pause())
    assert caught.value.code == "ERR_UNAVAILABLE"


async def test_a_writer_that_is_stopped_lands_its_commit_and_refuses_the_rest() -> None:
    async with desk() as here:
        await here.ask(creation(proposal("a")))
        here.truth.gate.clear()
        flying = here.ask(pause())
        await settle()
        decided, late = here.ask(resume()), here.ask(top_up())
        await settle()
        (loop,) = (
            task
            for task in asyncio.all_tasks()
            if task.get_coro().__qualname__ == "Writer.run"  # type: ignore[union-attr]
        )
        loop.cancel()
        await settle()
        waiting = here.ask(top_up())
        await settle()
        here.truth.gate.set()
        assert (await flying).events == ("plan.paused",)
        for task in (decided, late, waiting):
            with pytest.raises(TheoryError) as caught:
                await task
            assert caught.value.code == "ERR_UNAVAILABLE"
        assert len(await here.events()) == 3


@pytest.mark.scenario(7)
async def test_a_clock_that_steps_back_is_held_at_the_last_value() -> None:
    async with desk() as here:
        await here.ask(creation(proposal("a")))
        clock = here.writer._clock
        assert isinstance(clock, Clock)
        clock.wall = 50
        await here.ask(pause())
        clock.wall = 10
        await here.ask(resume())
        times = [event.at for event in await here.events()]
        assert times == sorted(times)
        assert times[-1] == times[-2]
        await here.sound()


async def test_an_event_that_no_ledger_can_hold_refuses_its_command_alone() -> None:
    async with desk() as here:
        await here.ask(creation(proposal("a")))
        endless = cmd.PausePlan(plan=PLAN, by="me", reason="x" * 300_000)
        crooked = cmd.PausePlan(plan=PLAN, by="me", reason="\ud800")
        tasks = [here.ask(one) for one in (top_up(), endless, crooked, pause())]
        await asyncio.wait(tasks)
        codes = [getattr(task.exception(), "code", None) for task in tasks]
        assert codes == [None, "ERR_TOO_LARGE", "ERR_JSON_UNICODE", None]
        assert [event.kind for event in await here.events()][2:] == [
            "budget.topped_up",
            "plan.paused",
        ]
        await here.sound()


async def test_a_plan_is_folded_once_however_many_ask() -> None:
    async with desk() as here:
        await here.ask(creation(proposal("a")))
        here.writer.plans.folded.clear()
        loads = [asyncio.create_task(here.writer.load(PLAN)) for _ in range(5)]
        paused = here.ask(pause())
        states = await asyncio.gather(*loads)
        await paused
        assert all(state is states[0] for state in states)
        assert states[0].status == "paused"


async def test_a_plan_that_ended_is_kept_until_its_last_commit_has_landed() -> None:
    async with desk() as here:
        await here.ask(creation(proposal("a")))
        here.truth.gate.clear()
        first = here.ask(top_up())
        await settle()
        last = here.ask(cancel())
        await settle()
        here.truth.gate.set()
        await first
        here.truth.gate.clear()
        late = here.ask(pause())
        await settle()
        here.truth.gate.set()
        assert (await last).events[-1] == "plan.cancelled"
        with pytest.raises(TheoryError, match="has ended") as caught:
            await late
        assert caught.value.code == "ERR_CONFLICT"
        assert here.writer.lost is None
        assert here.writer.plans.folded == {}


async def test_asking_about_plans_that_are_not_there_leaves_nothing_behind() -> None:
    async with desk() as here:
        for n in range(5):
            with pytest.raises(TheoryError):
                await here.ask(pause(f"{PLAN}{n}"))
        assert here.writer.plans.folded == {}
        assert here.commits == []


async def test_the_settled_state_is_one_that_the_store_holds() -> None:
    async with desk() as here:
        await here.ask(creation(proposal("a")))
        here.truth.gate.clear()
        here.ask(pause())
        await settle()
        settled = asyncio.create_task(here.writer.settled(PLAN))
        await settle()
        assert not settled.done()
        here.truth.gate.set()
        assert (await settled).status == "paused"
        assert here.writer.committed(PLAN) == 3


async def test_effects_come_with_their_commit() -> None:
    async with desk() as here:
        await here.ask(creation(proposal("a"), policy=policy()))
        book = Book(proposal("a"))
        command = book.admission("a")
        await here.ask(command)
        assert here.commits[-1].effects == (Start(command.execution_id),)
        await here.ask(book.completion(command.execution_id, "failed"))
        (delay,) = here.commits[-1].effects
        assert delay != Start(command.execution_id)


@pytest.mark.scenario(21)
async def test_a_stored_event_that_was_changed_is_named() -> None:
    async with desk() as here:
        await here.ask(creation(proposal("a")))
        here.writer.plans.folded.clear()
        stored = here.truth.database.plans[PLAN].events
        whole = list(stored)
        other = whole[1]
        shifted = StoredEvent(PLAN, 2, other.kind, other.at, other.body + b" ", other.hash)
        for bad in (
            StoredEvent(PLAN, 2, other.kind, other.at, other.body, whole[0].hash),
            shifted,
        ):
            stored[1] = bad
            with pytest.raises(TheoryError, match="event 2 of") as caught:
                await refold(here.truth, PLAN)
            assert caught.value.code == "ERR_CHAIN_BROKEN"
            with pytest.raises(TheoryError) as caught:
                await here.ask(pause())
            assert caught.value.code == "ERR_CHAIN_BROKEN"
        stored[:] = whole
        with pytest.raises(TheoryError, match="event 2 of"):
            await here.ask(resume())  # set aside is set aside, until people have looked
        assert [event.seq for event in await here.events()] == [1, 2]


@pytest.mark.scenario(26)
async def test_a_ledger_under_another_plans_name_is_refused() -> None:
    async with desk() as here:
        await here.ask(creation(proposal("a")))
        tables = here.truth.database.plans
        tables["/world/acme/p2"] = tables[PLAN]
        with pytest.raises(TheoryError) as caught:
            await here.ask(pause("/world/acme/p2"))
        assert caught.value.code == "ERR_CHAIN_BROKEN"
