"""What goes wrong around a whole scheduler: lost answers, a stop in full swing, prices and lies."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from theory_api.domain.registry import RegistrySnapshot
from theory_api.domain.tests.book import creation, proposal
from theory_api.domain.tests.shelf import policy, snapshot
from theory_api.domain.vector import MAX_AMOUNT
from theory_api.ports.truth import StoredEvent
from theory_api.scheduler.folding import ABREAST
from theory_api.scheduler.tests import bench
from theory_api.scheduler.tests.bench import Disk, House, Shelf, balances, data_of, step, until
from theory_api.scheduler.tests.desk import desk, pause, row
from theory_api.scheduler.tests.processors import Run, forever
from theory_core import Chain, TheoryError, canonicalize, loads_strict


@pytest.mark.scenario(2)
async def test_a_request_whose_answer_was_lost_is_answered_when_it_is_sent_again() -> None:
    async with desk() as here:
        here.truth.faults = [(TheoryError("ERR_UNAVAILABLE", "the answer was lost", {}), True)]
        with pytest.raises(TheoryError) as caught:
            await here.ask(creation(proposal("a")), row())
        assert caught.value.code == "ERR_UNAVAILABLE"
        again = await here.ask(creation(proposal("a")), row())
        assert again.replayed == b'{"done":true}'
        assert [event.kind for event in await here.events()] == [
            "plan.created",
            "transition.proposed",
        ]
        await here.sound()


@pytest.mark.scenario(18)
async def test_ten_thousand_open_plans_are_taken_up_at_a_start_a_few_at_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first, count = House(), 10_000
    await first.engine.start()
    names = [f"/world/acme/p{number}" for number in range(count)]
    writer = first.engine._writer
    assert writer is not None
    made = [
        writer.ask(command)
        for name in names
        for command in (creation(proposal("a"), plan=name), pause(name))
    ]
    await asyncio.gather(*made)
    running = await first.apply({"a": step("long")}, plan="running")
    disk = await first.crash()

    heir, reading, most = House(disk=disk), 0, 0
    events = heir.truth.events

    async def counted(plan: str, *, after: int = 0, limit: int = 1000) -> list[StoredEvent]:
        nonlocal reading, most
        reading += 1
        most = max(most, reading)
        try:
            return await events(plan, after=after, limit=limit)
        finally:
            reading -= 1

    monkeypatch.setattr(heir.truth, "events", counted)
    async with heir:
        assert most <= ABREAST
        assert heir.engine.undecided == 0
        assert not heir.engine.aside
        states = [heir.engine.state(name) for name in names]
        assert {state.status for state in states if state is not None} == {"paused"}
        assert None not in states
        assert await heir.ended(running) == "completed"
        answer = await heir.plans.pause(names[-1], by="me", reason="wait")
        assert answer.events == ()


@pytest.mark.scenario(15)
async def test_a_stop_with_100_running_executions_settles_each_and_the_next_ends_them() -> None:
    house = House(parallel=100)
    await house.engine.start()
    house.processors.behaviours["long"] = [forever]
    names = [f"t{place}" for place in range(100)]
    plan = await house.apply({name: step("long") for name in names}, budget={})
    while len(house.processors.runs) < len(names):
        await bench.settle()
    await until(house.clock, house.engine.drain())
    assert house.processors.busy == 0
    settled = await data_of(house, plan, "budget.settled")
    assert sorted(data["transition"] for data in settled) == sorted(names)
    assert {data["basis"]["cpu_ms"] for data in settled} == {"measured"}
    assert {held for held, _ in (await balances(house, plan)).values()} == {0}
    disk = await house.crash()
    with pytest.raises(TheoryError) as caught:
        await house.plans.pause(plan, by="me", reason="x")
    assert caught.value.code == "ERR_UNAVAILABLE"
    async with House(disk=disk, parallel=100) as heir:
        assert await heir.ended(plan) == "completed"
        succeeded = await data_of(heir, plan, "transition.succeeded")
        assert sorted(data["transition"] for data in succeeded) == sorted(names)


def priced(usd_micro: int, g_per_kwh: int) -> RegistrySnapshot:
    """The registry with this estimate for everything, and this much carbon in a kWh."""
    document: Any = loads_strict(snapshot().document)
    for spec in document["processors"].values():
        spec["estimate"] = {"fixed": {"usd_micro": usd_micro, "cpu_ms": 4_000_000}}
    document["policies"]["default@1"] = policy() | {"carbon": {"g_per_kwh": g_per_kwh}}
    return RegistrySnapshot.from_document(canonicalize(document))


@pytest.mark.scenario(71)
async def test_prices_that_change_after_a_plan_was_made_do_not_change_what_it_pays(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    old, new = priced(10, 400), priced(999, 4000)

    class Shelves(Shelf):
        async def get(self, snapshot_id: str) -> RegistrySnapshot:
            return {old.id: old, new.id: new}[snapshot_id]

    monkeypatch.setattr(bench, "Shelf", Shelves)

    async def costly(run: Run) -> dict[str, Any]:
        run.usage = {"cpu_ms": 3_600_000, "latency_ms": 1}
        return await run.succeed({"x": b"1"})

    disk = Disk()
    async with House(disk=disk, registry=old, admitting=False) as before:
        plan = await before.apply({"a": step("costly")}, budget={"usd_micro": 10})
    disk.database.bury("s")
    async with House(disk=disk, registry=new) as house:
        house.processors.behaviours["costly"] = [costly]
        assert await house.ended(plan) == "completed"
        (started,) = await data_of(house, plan, "execution.started")
        assert started["registry_snapshot"] == old.id
        (settled,) = await data_of(house, plan, "budget.settled")
        assert settled["hold"]["usd_micro"] == 10
        # 3,600 s at 10 W are 0.01 kWh, at 400 g/kWh 4 g.
        assert settled["actual"]["co2_mg"] == 4000


LIES: dict[str, tuple[dict[str, Any], str, dict[str, int]]] = {
    "nothing": ({"cpu_ms": 0, "usd_micro": 0}, "completed", {"cpu_ms": 5, "usd_micro": 0}),
    "less than measured": ({"cpu_ms": 4}, "completed", {"cpu_ms": 5, "usd_micro": 10}),
    "negative": ({"cpu_ms": -1}, "failed", {"cpu_ms": 5, "usd_micro": 10}),
    "no whole number": ({"usd_micro": 0.5}, "failed", {"cpu_ms": 5, "usd_micro": 10}),
    "true": ({"usd_micro": True}, "failed", {"cpu_ms": 5, "usd_micro": 10}),
    "a text": ({"usd_micro": "1e3"}, "failed", {"cpu_ms": 5, "usd_micro": 10}),
    "huge": ({"usd_micro": MAX_AMOUNT}, "failed", {"cpu_ms": 5, "usd_micro": MAX_AMOUNT}),
}


@pytest.mark.scenario(67, 72)
@pytest.mark.parametrize("lie", LIES)
async def test_usage_that_is_a_lie_costs_at_least_what_was_measured_and_a_breach_is_told(
    lie: str,
) -> None:
    usage, ending, booked = LIES[lie]

    async def liar(run: Run) -> dict[str, Any]:
        return await run.succeed({"x": b"1"}, usage=usage)

    async with House() as house:
        house.processors.behaviours["liar"] = [liar]
        plan = await house.apply({"a": step("liar")})
        assert await house.ended(plan) == ending
        (settled,) = await data_of(house, plan, "budget.settled")
        assert {name: settled["actual"][name] for name in booked} == booked
        breached = await data_of(house, plan, "budget.breached")
        assert bool(breached) == (lie == "huge")
        spent = await balances(house, plan)
        assert {name: spent[name] for name in booked} == {
            name: (0, amount) for name, amount in booked.items()
        }


def _chained_anew(told: list[StoredEvent], place: int) -> list[StoredEvent]:
    """The ledger with its event at a place there once more, and every hash as it should be."""
    story: list[Any] = [loads_strict(one.body) for one in [*told[: place + 1], *told[place:]]]
    wires = [event | {"seq": seq} for seq, event in enumerate(story, start=1)]
    sealed = Chain().append(wires)
    return [
        StoredEvent(wire["plan"], wire["seq"], wire["kind"], wire["at"], body, digest)
        for wire, (body, digest) in zip(wires, sealed, strict=True)
    ]


@pytest.mark.scenario(23, 27, 68)
@pytest.mark.parametrize("kind", ["transition.admitted", "budget.reserved", "budget.settled"])
async def test_a_ledger_that_was_chained_anew_around_what_cannot_have_happened_is_set_aside(
    kind: str,
) -> None:
    house = House()
    await house.engine.start()
    house.processors.behaviours["long"] = [forever]
    plan = await house.apply({"a": step(), "b": step("long", depends_on=["a"])})
    while len(house.processors.runs) < 2:
        await bench.settle()
    disk = await house.crash()
    table = disk.database.plans[plan]
    kinds = [event.kind for event in table.events]
    table.events[:] = _chained_anew(table.events, kinds.index(kind))
    async with House(disk=disk) as heir:
        other = await heir.apply({"c": step()}, plan="p2")
        assert await heir.ended(other) == "completed"
        assert list(heir.engine.aside) == [plan]
        assert heir.engine.aside[plan].code == "ERR_CHAIN_BROKEN"
        assert heir.engine.aside[plan].detail["seq"] == kinds.index(kind) + 2
