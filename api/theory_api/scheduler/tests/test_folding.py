"""Kept folds: they shorten a start, they are never believed against the ledger, and may vanish."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from theory_api.domain.tests.book import PLAN, creation, proposal
from theory_api.ports.folds import Fold
from theory_api.ports.truth import StoredEvent
from theory_api.scheduler.folding import (
    Folding,
    freeze,
    freeze_slowly,
    refold,
    thaw,
)
from theory_api.scheduler.keeping import Keeper
from theory_api.scheduler.tests.bench import Clock, Disk, House, settle, step, until
from theory_api.scheduler.tests.desk import Desk, desk, pause, resume
from theory_api.scheduler.tests.processors import forever
from theory_core import TheoryError


class Reads:
    """Counts what a store is asked for."""

    def __init__(self, here: Desk) -> None:
        self.asked: list[int] = []
        inner = here.truth.events

        async def events(plan: str, *, after: int = 0, limit: int = 1000) -> list[StoredEvent]:
            self.asked.append(after)
            return await inner(plan, after=after, limit=limit)

        here.truth.events = events  # type: ignore[method-assign]


async def told(here: Desk, turns: int = 5) -> None:
    """A plan with some history."""
    await here.ask(creation(proposal("a"), proposal("b", "a")))
    for _ in range(turns):
        await here.ask(pause())
        await here.ask(resume())


async def test_a_plan_is_folded_from_its_kept_fold_and_the_rest() -> None:
    async with desk() as here:
        await told(here)
        await here.truth.folds.put([freeze(await refold(here.truth, PLAN))])
        await here.ask(pause())
        whole, reads = await refold(here.truth, PLAN), Reads(here)
        folded = await Folding(here.truth, here.truth.folds).plan(PLAN)
        assert reads.asked[0] == whole.committed - 2
        assert repr(folded.state) == repr(whole.state)
        assert (folded.committed, folded.hash, folded.at) == (
            whole.committed,
            whole.hash,
            whole.at,
        )
        assert (folded.kept, whole.kept) == (whole.committed - 1, 0)
        # The chain goes on as if it had been folded whole.
        here.writer.plans.folded[PLAN] = folded
        await here.ask(resume())
        await here.sound()


async def test_a_fold_at_any_event_and_the_rest_lead_where_the_ledger_leads() -> None:
    async with House() as house:
        plan = await house.apply({"a": step(), "b": step(depends_on=["a"])})
        assert await house.ended(plan) == "completed"
        events = house.disk.database.plans[plan].events
        whole = await refold(house.truth, plan)
        stored, rest = list(events), len(events)
        for cut in range(1, rest):
            events[:] = stored[:cut]
            fold = freeze(await refold(house.truth, plan))
            assert fold == await freeze_slowly(await refold(house.truth, plan))
            events[:] = stored
            await house.truth.folds.put([fold])
            folded = await Folding(house.truth, house.truth.folds).plan(plan)
            assert folded.kept == cut
            assert repr(folded.state) == repr(whole.state)


SPOILT = {
    "another event there": lambda fold: replace(fold, hash="b3:" + "0" * 64),
    "beyond the head": lambda fold: replace(fold, seq=fold.seq + 100),
    "another version": lambda fold: replace(fold, version="b3:" + "0" * 64),
    "rotten": lambda fold: replace(fold, body=fold.body[:-1] + b"\xff"),
    "cut": lambda fold: replace(fold, body=fold.body[: len(fold.body) // 2]),
    "empty": lambda fold: replace(fold, body=b""),
    "another time": lambda fold: replace(fold, at="2026-11-21T04:25:59.000000Z"),
}


@pytest.mark.parametrize("how", SPOILT)
async def test_a_fold_that_is_not_the_ledgers_is_ignored_and_dropped(how: str) -> None:
    async with desk() as here:
        await told(here)
        whole = await refold(here.truth, PLAN)
        await here.truth.folds.put([SPOILT[how](freeze(whole))])
        folded = await Folding(here.truth, here.truth.folds).plan(PLAN)
        assert repr(folded.state) == repr(whole.state)
        assert folded.kept == 0
        assert await here.truth.folds.newest([PLAN]) == {}


async def test_a_fold_of_another_plan_is_not_taken_for_this_ones() -> None:
    async with desk() as here:
        await told(here)
        other = "/world/acme/p2"
        await here.ask(creation(proposal("a"), plan=other))
        mine = freeze(await refold(here.truth, PLAN))
        theirs = freeze(await refold(here.truth, other))
        mixed = replace(mine, plan=other, seq=theirs.seq, hash=theirs.hash, at=theirs.at)
        with pytest.raises(TheoryError, match="of no use"):
            await thaw(mixed)


async def test_a_fold_does_not_hide_an_event_that_was_changed_after_it() -> None:
    async with desk() as here:
        await told(here)
        await here.truth.folds.put([freeze(await refold(here.truth, PLAN))])
        await here.ask(pause())
        events = here.truth.database.plans[PLAN].events
        events[-1] = replace(events[-1], body=events[-1].body.replace(b"wait", b"WAIT"))
        with pytest.raises(TheoryError, match=f"event {events[-1].seq} of") as caught:
            await Folding(here.truth, here.truth.folds).plan(PLAN)
        assert caught.value.code == "ERR_CHAIN_BROKEN"


async def test_a_store_without_its_folds_costs_time_and_nothing_else() -> None:
    class Away:
        async def newest(self, plans: object) -> dict[str, Fold]:
            raise TheoryError("ERR_UNAVAILABLE", f"no folds of {plans}")

        async def put(self, folds: object) -> None:
            raise TheoryError("ERR_UNAVAILABLE", f"not {folds}")

        async def drop(self, plans: object) -> None:
            raise TheoryError("ERR_UNAVAILABLE", f"not {plans}")

    async with House() as house:
        house.engine._context = replace(house.context, folds=Away())
        await house.engine.stop()
        house.engine.stopped.clear()
        await house.engine.start()
        assert house.engine._keeper is not None
        house.engine._keeper._every = 3
        plan = await house.apply({"a": step(), "b": step(depends_on=["a"])})
        assert await house.ended(plan) == "completed"
        await settle()
        assert house.engine.fault is None


async def test_an_engine_keeps_folds_while_it_runs_and_when_it_stops() -> None:
    disk = Disk()
    house = House(disk=disk, folding=True)
    await house.engine.start()
    assert house.engine._keeper is not None
    house.engine._keeper._every = 20
    work = {f"t{n}": step(depends_on=[f"t{n - 1}"] if n else []) for n in range(8)}
    house.processors.behaviours["long"] = [forever]
    plan = await house.apply(work | {"never": step("long")})
    seen: set[int] = set()

    async def until_idle() -> None:
        while (await house.statuses(plan))["t7"] != "succeeded":
            seen.update(fold.seq for fold in disk.database.folds.values())
            await asyncio.sleep(0)

    await until(house.clock, until_idle())
    assert seen
    house.engine._keeper._every = 1
    await house.crash()
    assert len(disk.database.folds) == 1
    second = House(disk=disk, folding=True)
    await second.engine.start()
    held = second.engine._writer
    assert held is not None
    await settle()
    folded = held.plans.held(plan)
    assert folded is not None
    assert folded.kept > max(seen)
    whole = await refold(second.truth, plan)
    assert folded.state == whole.state
    assert list(folded.state.candidates) == list(whole.state.candidates)
    await second.plans.cancel(plan, by="me", reason="enough")
    assert await second.ended(plan) == "cancelled"
    await settle()
    assert disk.database.folds == {}
    await second.engine.stop()


async def test_a_large_plan_is_folded_beside_the_writer_and_with_turns_for_everybody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with desk() as here:
        await told(here)
        folding = Folding(here.truth, here.truth.folds)
        monkeypatch.setattr("theory_api.scheduler.keeping.SMALL", 0)
        keeper = Keeper(here.truth.folds, folding, here.writer.plans, Clock(), every=1)
        working = asyncio.create_task(keeper.run())
        for commit in here.commits:
            keeper.committed(commit)
        await settle()
        kept = (await here.truth.folds.newest([PLAN]))[PLAN]
        assert kept.seq == here.writer.committed(PLAN)
        assert repr((await thaw(kept)).state) == repr(here.writer.state(PLAN))
        await keeper.last()
        working.cancel()
        await asyncio.wait({working})


@pytest.mark.scenario(27)
async def test_an_event_that_cannot_have_happened_is_a_broken_chain_not_a_crash() -> None:
    async with desk() as here:
        await told(here)
        folded = await refold(here.truth, PLAN)
        wire = {
            "v": "theory.event.v1",
            "plan": PLAN,
            "seq": folded.committed + 1,
            "at": folded.at,
            "kind": "transition.succeeded",
            "data": {"execution_id": "x", "transition": "nobody", "attempt": 1},
        }
        ((body, digest),) = folded.chain.append([wire])
        events = here.truth.database.plans[PLAN].events
        events.append(
            StoredEvent(PLAN, wire["seq"], wire["kind"], folded.at, body, digest)  # type: ignore[arg-type]
        )
        with pytest.raises(TheoryError, match="cannot have happened") as caught:
            await refold(here.truth, PLAN)
        assert caught.value.code == "ERR_CHAIN_BROKEN"


@pytest.mark.scenario(12)
@pytest.mark.parametrize("lost", [1, 3])
async def test_scenario_12_a_store_that_comes_back_behind_is_not_written_to(lost: int) -> None:
    """The writer's commit fails, it looks again, and acknowledged events are gone."""
    async with desk() as here:
        await told(here)
        known = here.writer.committed(PLAN)
        here.truth.faults = [(TheoryError("ERR_UNAVAILABLE", "failover", {}), False)]
        with pytest.raises(TheoryError) as caught:
            await here.ask(pause())
        assert caught.value.code == "ERR_UNAVAILABLE"
        del here.truth.database.plans[PLAN].events[-lost:]
        with pytest.raises(TheoryError) as caught:
            await here.ask(pause())
        assert caught.value.code == "ERR_CHAIN_REGRESSION"
        assert caught.value.detail == {"plan": PLAN, "known": known, "found": known - lost}
        with pytest.raises(TheoryError) as caught:
            await here.ask(resume())
        assert len(await here.events()) == known - lost


@pytest.mark.scenario(12)
async def test_scenario_12_a_store_that_falls_behind_a_living_writer_is_not_written_to() -> None:
    async with desk() as here:
        await told(here)
        known = here.writer.committed(PLAN)
        del here.truth.database.plans[PLAN].events[-2:]
        with pytest.raises(TheoryError) as caught:
            await here.ask(pause())
        assert caught.value.code == "ERR_CHAIN_REGRESSION"
        assert caught.value.detail == {"plan": PLAN, "known": known, "found": known - 2}
