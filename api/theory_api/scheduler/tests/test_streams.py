"""A frame belongs to a stream of its run's plan, or its run is stopped and nobody is handed it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from theory_api.scheduler.tests.bench import House, data_of, step
from theory_api.scheduler.tests.processors import Run


class Watcher:
    """Keeps what those who watch are given."""

    def __init__(self) -> None:
        self.heard: list[Mapping[str, Any]] = []

    def open(self, execution_id: str) -> None:
        del execution_id

    def publish(self, execution_id: str, frame: Mapping[str, Any]) -> None:
        del execution_id
        self.heard.append(frame)

    def finish(self, execution_id: str, envelope: bytes) -> None:
        del execution_id, envelope

    def drop(self, execution_id: str) -> None:
        del execution_id


@pytest.mark.parametrize(
    ("stream", "status"),
    [("/streams/a", "completed"), ("../a", "failed"), ("a", "failed"), ("/streams/A", "failed")],
)
async def test_a_frame_of_no_stream_ends_its_run_and_reaches_nobody(
    stream: str, status: str
) -> None:
    async def show(run: Run) -> dict[str, Any]:
        await run.frame("Frame", stream=stream, index=0, mime="text/plain", data="eA==")
        return await run.succeed({"x": b"1"})

    watcher = Watcher()
    async with House(streams=watcher) as house:  # type: ignore[arg-type]
        house.processors.behaviours["show"] = [show]
        plan = await house.apply({"a": step("show")})
        assert await house.ended(plan) == status
        assert len(watcher.heard) == (1 if status == "completed" else 0)
        failures = await data_of(house, plan, "execution.failed")
        assert [one["error"]["code"] for one in failures] == (
            [] if status == "completed" else ["ERR_WS_PROTOCOL"]
        )


async def test_a_run_that_goes_on_after_such_a_frame_is_stopped() -> None:
    async def show(run: Run) -> dict[str, Any]:
        await run.frame("Frame", stream="../a", index=0, mime="text/plain", data="eA==")
        await run.stopped.wait()
        return run.fail("ERR_CANCELLED")

    async with House() as house:
        house.processors.behaviours["show"] = [show]
        plan = await house.apply({"a": step("show")})
        assert await house.ended(plan) == "failed"
        (failed,) = await data_of(house, plan, "execution.failed")
        assert failed["error"]["code"] == "ERR_WS_PROTOCOL"
