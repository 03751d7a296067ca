"""A frame belongs to a stream of its run's plan, or its run is stopped and nobody is handed it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from theory_api.domain.tests.shelf import snapshot
from theory_api.scheduler.streaming import MOST, Streaming
from theory_api.scheduler.tests.bench import House, data_of, step
from theory_api.scheduler.tests.processors import Run
from theory_core import digest


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


async def test_what_streamed_is_sealed_with_the_run_and_each_attempt_by_itself() -> None:
    tries: list[str] = []

    async def show(run: Run) -> dict[str, Any]:
        await run.frame("Frame", stream="/streams/a", index=0, mime="text/plain", data="eA==")
        await run.frame("Token", text="x")
        await run.frame("Frame", stream="/streams/a", index=1, mime="text/plain", data="eXo=")
        tries.append(run.execution_id)
        return run.fail("ERR_PROVIDER") if len(tries) == 1 else await run.succeed({"x": b"1"})

    again = {"max_attempts": 2, "backoff_ms": [1], "jitter_permille": 0}
    registry = snapshot(retry=again | {"retry_on": ["ERR_PROVIDER"]})
    async with House(registry=registry) as house:
        house.processors.behaviours["show"] = [show]
        plan = await house.apply({"a": step("show")})
        assert await house.ended(plan) == "completed"
        sealed = await data_of(house, plan, "stream.sealed")
        assert [(one["attempt"], one["transition"]) for one in sealed] == [(1, "a"), (2, "a")]
        for one in sealed:
            assert (one["path"], one["count"], one["bytes"]) == ("/streams/a", 2, 3)
            assert one["digest"] == digest(b"xyz")
        kinds = await house.kinds(plan)
        assert kinds.index("stream.sealed") < kinds.index("execution.failed")


async def test_a_run_with_one_stream_too_many_is_stopped_and_seals_those_that_it_had() -> None:
    async def show(run: Run) -> dict[str, Any]:
        for number in range(MOST + 1):
            name = f"/streams/{number}"
            await run.frame("Frame", stream=name, index=0, mime="text/plain", data="eA==")
        await run.stopped.wait()
        return run.fail("ERR_CANCELLED")

    async with House() as house:
        house.processors.behaviours["show"] = [show]
        plan = await house.apply({"a": step("show")})
        assert await house.ended(plan) == "failed"
        (failed,) = await data_of(house, plan, "execution.failed")
        assert failed["error"]["code"] == "ERR_TOO_LARGE"
        assert len(await data_of(house, plan, "stream.sealed")) == MOST


async def test_of_a_stream_with_a_hole_nothing_is_sealed_and_the_trace_says_so() -> None:
    async def show(run: Run) -> dict[str, Any]:
        await run.frame("Frame", stream="/streams/a", index=0, mime="text/plain", data="eA==")
        await run.frame("Frame", stream="/streams/a", index=2, mime="text/plain", data="eA==")
        return await run.succeed({"x": b"1"})

    async with House() as house:
        house.processors.behaviours["show"] = [show]
        plan = await house.apply({"a": step("show")})
        assert await house.ended(plan) == "completed"
        assert await data_of(house, plan, "stream.sealed") == []
        (done,) = await data_of(house, plan, "execution.succeeded")
        trace = await house.disk.artifacts.get(done["trace"])
        assert b'{"event":"unsealed","streams":1}' in trace


PLAN = "/world/acme/p1"


def sound(index: int, data: str = "eA==", stream: str = "/streams/a") -> dict[str, Any]:
    return {"stream": stream, "index": index, "mime": "audio/L16", "data": data}


@pytest.mark.parametrize("indices", [[1], [0, 2], [0, 0], [0, 1, 0], [0, 2, 1]], ids=str)
def test_frames_that_are_not_numbered_from_0_in_their_order_make_no_stream(
    indices: list[int],
) -> None:
    streaming = Streaming()
    for index in indices:
        streaming.frame(sound(index), PLAN)
    assert (streaming.sealed(), streaming.unsealed()) == ((), 1)


def test_after_a_gap_the_next_frame_says_whether_any_was_missed() -> None:
    streaming = Streaming()
    for name in ("/streams/a", "/streams/b", "/streams/c"):
        streaming.frame(sound(0, stream=name), PLAN)
    streaming.gap()
    assert streaming.sealed() == ()
    streaming.frame(sound(1, stream="/streams/b"), PLAN)
    streaming.frame(sound(2, stream="/streams/c"), PLAN)
    assert [(one.path, one.count) for one in streaming.sealed()] == [("/streams/b", 2)]
    assert streaming.unsealed() == 2


def test_data_that_was_masked_is_not_claimed_to_be_the_stream() -> None:
    streaming = Streaming()
    streaming.frame(sound(0), PLAN)
    streaming.frame(sound(1, data="[redacted]"), PLAN)
    assert streaming.sealed() == ()


def test_an_empty_frame_counts_and_streams_are_ordered_by_their_path() -> None:
    streaming = Streaming()
    for name in ("/streams/b", "/streams/a"):
        streaming.frame(sound(0, data="", stream=name), PLAN)
    one, other = streaming.sealed()
    assert (one.path, one.count, one.bytes, one.digest) == ("/streams/a", 1, 0, digest(b""))
    assert other.path == "/streams/b"
