"""Stores that are away for a while, orders that cannot be read, receipts that are not believed."""

from __future__ import annotations

from typing import Any

import pytest
from structlog.testing import capture_logs

from theory_api.domain.tests.shelf import snapshot
from theory_api.ports.artifacts import Blob
from theory_api.ports.truth import StoredEvent
from theory_api.scheduler import inputs
from theory_api.scheduler.tests.bench import House, balances, data_of, settle, step, until
from theory_api.scheduler.tests.processors import Run, badly, well
from theory_core import TheoryError, loads_strict


def _away(monkeypatch: pytest.MonkeyPatch, target: Any, name: str, times: int) -> list[str]:  # noqa: ANN401
    """Have a store's method fail a few times before it works again."""
    real = getattr(target, name)
    failed: list[str] = []

    async def method(*given: Any, **named: Any) -> Any:  # noqa: ANN401
        if len(failed) < times:
            failed.append(name)
            raise TheoryError("ERR_STORAGE", "no space left", {})
        return await real(*given, **named)

    monkeypatch.setattr(target, name, method)
    return failed


@pytest.mark.scenario(60)
async def test_a_full_disk_at_the_end_of_a_run_loses_nothing_and_runs_nothing_twice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with House() as house:
        plan = await house.apply({"a": step()})
        failed = _away(monkeypatch, house.disk.scratch, "save", 3)
        assert await house.ended(plan) == "completed"
        assert failed == ["save"] * 3
        assert len(house.processors.runs) == 1


@pytest.mark.scenario(60)
async def test_a_full_disk_while_outputs_are_recorded_does_not_stop_the_scheduler(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with House() as house:

        async def unlucky(run: Run) -> dict[str, Any]:
            envelope = await well(run)
            _away(monkeypatch, house.disk.artifacts, "put", 2)
            return envelope

        house.processors.behaviours["unlucky"] = [unlucky]
        plan = await house.apply({"a": step("unlucky")})
        assert await house.ended(plan) == "completed"
        after = await house.apply({"a": step()}, plan="p2")
        assert await house.ended(after) == "completed"


@pytest.mark.scenario(8)
async def test_a_database_that_is_away_when_a_run_ends_loses_neither_its_end_nor_the_scheduler(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with House() as house:

        async def unlucky(run: Run) -> dict[str, Any]:
            envelope = await well(run)
            gone = TheoryError("ERR_UNAVAILABLE", "the database refused: 08003", {})
            house.truth.faults = [(gone, False)]
            _away(monkeypatch, house.truth, "events", 5)
            return envelope

        house.processors.behaviours["unlucky"] = [unlucky]
        plan = await house.apply({"a": step("unlucky"), "b": step(depends_on=["a"])})
        assert await house.ended(plan) == "completed"
        assert house.engine.fault is None
        assert len(await data_of(house, plan, "budget.settled")) == 2
        assert len(house.processors.runs) == 2


async def test_a_world_that_cannot_be_read_for_a_moment_makes_no_predicate_false(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    goal = {"name": "artifact.exists@1", "params": {"transition": "a", "path": "outputs/x"}}
    async with House() as house:
        failed: list[list[str]] = []

        async def unlucky(run: Run) -> dict[str, Any]:
            failed.append(_away(monkeypatch, house.reads, "artifact", 2))
            return await well(run)

        house.processors.behaviours["unlucky"] = [unlucky]
        plan = await house.apply({"a": step("unlucky")}, goal=[goal])
        assert await house.ended(plan) == "completed"
        assert failed == [["artifact"] * 2]


async def test_an_order_that_cannot_be_read_ends_unpaid_and_stops_no_other_plan(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with House() as house:
        real = house.disk.artifacts.get
        lost: set[str] = set()

        async def get(cid: str, *, max_bytes: int = 8 << 20) -> bytes:
            if cid in lost:
                raise TheoryError("ERR_ARTIFACT_DIGEST", "the bytes rotted", {})
            return await real(cid, max_bytes=max_bytes)

        put = house.disk.artifacts.put

        async def remember(data: bytes) -> Blob:
            blob = await put(data)
            if data.startswith(b'{"params":') and b'"marked"' in data:
                seen.append(blob.cid)
                if len(seen) > 1:
                    lost.add(blob.cid)
            return blob

        seen: list[str] = []
        monkeypatch.setattr(inputs, "_SMALL", 0)  # nothing is known by heart
        monkeypatch.setattr(house.disk.artifacts, "get", get)
        monkeypatch.setattr(house.disk.artifacts, "put", remember)
        plan = await house.apply({"a": step(inputs={"marked": 1})})
        other = await house.apply({"a": step()}, plan="p2")
        assert await house.ended(plan) == "failed"
        assert await house.ended(other) == "completed"
        kinds = await house.kinds(plan)
        assert (kinds.count("budget.voided"), kinds.count("budget.settled")) == (1, 0)
        assert all(balance == (0, 0) for balance in (await balances(house, plan)).values())
        (orphaned,) = await data_of(house, plan, "execution.orphaned")
        assert orphaned["error"]["code"] == "ERR_ARTIFACT_DIGEST"


@pytest.mark.scenario(72)
async def test_a_receipt_that_is_not_believed_releases_nothing_and_counts_what_is_more() -> None:
    async def liar(run: Run) -> dict[str, Any]:
        return await run.succeed({"x": b"1"}, usage={"usd_micro": 10**9}, mode="real")

    async with House() as house:
        house.processors.behaviours["liar"] = [liar]
        plan = await house.apply({"a": step("liar")})
        assert await house.ended(plan) == "failed"
        (settled,) = await data_of(house, plan, "budget.settled")
        assert settled["actual"]["usd_micro"] == 10**9
        (failed,) = await data_of(house, plan, "execution.failed")
        assert failed["error"]["code"] == "ERR_RECEIPT"


IMAGE = "sha256:" + "c" * 64


@pytest.mark.parametrize(
    ("stated", "outcome"),
    [({"image_id": IMAGE}, "completed"), ({}, "failed"), ({"image_id": IMAGE[:-1]}, "failed")],
    ids=["the image", "none", "another"],
)
async def test_a_receipt_names_the_image_that_the_adapter_chose(
    stated: dict[str, str], outcome: str
) -> None:
    async def run(run: Run) -> dict[str, Any]:
        return await run.succeed({"x": b"1"}, **stated)

    async with House() as house:
        house.processors.image_id = IMAGE
        house.processors.behaviours["run"] = [run]
        plan = await house.apply({"a": step("run")})
        assert await house.ended(plan) == outcome
        (ended,) = await data_of(house, plan, "budget.settled")
        receipt = loads_strict(await house.disk.artifacts.get(ended["receipt"]))
        written = "processor" if outcome == "completed" else "orchestrator"
        assert (receipt["image_id"], receipt["written_by"]) == (IMAGE, written)


@pytest.mark.scenario(7)
async def test_a_delay_before_a_retry_begins_anew_with_a_new_owner() -> None:
    retry = {"max_attempts": 2, "backoff_ms": [60_000], "jitter_permille": 0}
    fields = {"retry": {**retry, "retry_on": ["ERR_PROVIDER"]}}
    house = House(registry=snapshot(**fields))
    await house.engine.start()
    house.processors.behaviours["bad"] = [badly]
    plan = await house.apply({"a": step("bad")})
    await settle()
    assert (await house.kinds(plan))[-1] == "transition.retried"
    disk = await house.crash()
    async with House(disk=disk, registry=snapshot(**fields)) as successor:
        await settle()
        assert successor.processors.runs == {}
        events: list[StoredEvent] = await successor.reads.events(plan)
        assert events[-1].kind == "transition.retried"
        assert await successor.ended(plan) in {"completed", "failed"}
        assert len(successor.processors.runs) == 1


async def test_what_a_dead_owner_did_not_clean_up_is_removed_at_the_next_start() -> None:
    house = House()
    async with house:
        plan = await house.apply({"a": step()})
        assert await house.ended(plan) == "completed"
        (ident,) = house.processors.runs
    disk = await house.crash()
    await disk.scratch.save(ident, b"{}")
    successor = House(disk=disk)
    successor.processors.kept = {ident, "x-never-heard-of"}
    async with successor:
        assert sorted(successor.processors.released) == sorted([ident, "x-never-heard-of"])
        assert await disk.scratch.names() == ()


async def test_what_cannot_be_removed_at_a_start_keeps_nothing_else_and_goes_later() -> None:
    disk = await House().crash()
    for name in ("x1", "x2", "x3"):
        await disk.scratch.save(name, b"{}")
    house, faults = House(disk=disk), ["EACCES"] * 2
    house.processors.kept = {"x1", "x2"}

    async def release(execution_id: str) -> None:
        if execution_id == "x1" and faults:
            raise TheoryError("ERR_STORAGE", f"storage unavailable: {faults.pop()}", {})
        house.processors.released.append(execution_id)
        house.processors.kept.discard(execution_id)

    house.processors.release = release  # type: ignore[method-assign]
    with capture_logs() as lines:
        async with house:
            assert house.processors.released == ["x2"]
            assert await disk.scratch.names() == ("x1",)
            plan = await house.apply({"a": step()})
            assert await house.ended(plan) == "completed"
            await until(house.clock, house.clock.sleep(60))
            assert house.processors.released[0] == "x2"
            assert "x1" in house.processors.released
            assert await disk.scratch.names() == ()
            assert house.engine.fault is None
    told = [line for line in lines if line["event"] == "execution.unreleased"]
    assert [line["execution_id"] for line in told] == ["x1", "x1"]


async def test_what_cannot_be_removed_behind_an_execution_stops_nobody_and_goes_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with House() as house:
        drop, faults = house.disk.scratch.drop, ["EIO"] * 3

        async def failing(name: str) -> None:
            if faults:
                raise TheoryError("ERR_STORAGE", f"storage unavailable: {faults.pop()}", {})
            await drop(name)

        monkeypatch.setattr(house.disk.scratch, "drop", failing)
        plan = await house.apply({"a": step(), "b": step(depends_on=["a"])})
        assert await house.ended(plan) == "completed"
        assert house.engine.idle
        await until(house.clock, house.clock.sleep(60))
        assert house.disk.scratch.notes == {}
        assert house.engine.fault is None
