"""Streams: in order, whole or with the holes told, and a last frame that nobody misses."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from theory_api.adapters.memory import streams as module
from theory_api.adapters.memory.spill import Spill
from theory_api.adapters.memory.streams import MemoryStreams
from theory_core import RunProtocol, TheoryError, encode_frame, error_envelope

ENVELOPE = error_envelope(
    "x1", "ERR_CANCELLED", env_fingerprint="cpu:1;memory:1Gi;platform:amd64;runtime:python3"
)


def left(folder: Path) -> list[Path]:
    return list(folder.iterdir())


@pytest.fixture
async def bus(tmp_path: Path) -> AsyncIterator[MemoryStreams]:
    made = MemoryStreams(tmp_path)
    made.open("x1")
    yield made
    await made.close()
    assert left(tmp_path) == []


def token(number: int, text: str = "") -> dict[str, Any]:
    return {"kind": "Token", "seq": number, "content": {"text": text or str(number)}}


async def watched(bus: MemoryStreams, after: int = 0) -> list[bytes]:
    return [text async for text in bus.watch("x1", after=after)]


def judged(texts: list[bytes], after: int = 0) -> list[Mapping[str, Any]]:
    """The frames, once a client of the protocol took them all."""
    client = RunProtocol("client")
    opening: dict[str, Any] = {"role": "observer", "execution_id": "x1", "resume_from": after}
    client.send("RunOpen", opening)
    client.receive(encode_frame("Ack", {"execution_id": "x1", "state": "running"}, seq=0))
    frames: list[Mapping[str, Any]] = [client.receive(text) for text in texts]
    assert client.phase == "done"
    return frames


def missing(frames: list[Mapping[str, Any]]) -> list[int]:
    gaps = [one["content"] for one in frames if one["kind"] == "Gap"]
    return [number for gap in gaps for number in range(gap["from"], gap["to"] + 1)]


async def test_whoever_watches_hears_all_and_at_last_the_stored_envelope(
    bus: MemoryStreams,
) -> None:
    watching = [asyncio.create_task(watched(bus)) for _ in range(3)]
    bus.publish("x1", {"kind": "Ack", "seq": 0, "content": {}})
    for number in range(1, 200):
        bus.publish("x1", token(number))
        if number % 50 == 0:
            await asyncio.sleep(0)
    bus.publish("x1", {"kind": "RunResult", "seq": 200, "content": {}})
    bus.finish("x1", ENVELOPE)
    bus.finish("x1", b"{}")
    bus.publish("x1", token(300))
    heard = await asyncio.gather(*watching)
    assert heard[0] == heard[1] == heard[2] == await watched(bus)
    frames = judged(heard[0])
    assert [frame["seq"] for frame in frames] == list(range(1, 201))
    assert heard[0][-1] == encode_frame("RunResult", json.loads(ENVELOPE), seq=200)
    assert ENVELOPE in heard[0][-1]
    assert await watched(bus, 199) == heard[0][199:]
    assert await watched(bus, 200) == []


async def test_a_hole_of_the_source_is_told_and_a_number_comes_once(bus: MemoryStreams) -> None:
    for number in (1, 2, 2, 1, 7):
        bus.publish("x1", token(number))
    bus.finish("x1", ENVELOPE)
    frames = judged(await watched(bus))
    assert missing(frames) == [3, 4, 5, 6]
    assert [frame["seq"] for frame in frames if frame["seq"]] == [1, 2, 7, 8]
    assert missing(judged(await watched(bus, 4), 4)) == [5, 6]


async def test_what_left_memory_comes_from_disk(bus: MemoryStreams) -> None:
    count = 4 * module.KEPT_FRAMES
    for number in range(1, count + 1):
        bus.publish("x1", token(number))
        if (spilling := bus._streams["x1"].spilling) is not None:
            await spilling
    bus.finish("x1", ENVELOPE)
    assert bus._streams["x1"].first > module.KEPT_FRAMES
    frames = judged(await watched(bus))
    assert missing(frames) == []
    assert len(frames) == count + 1


async def test_a_disk_that_is_too_slow_loses_frames_and_says_so(bus: MemoryStreams) -> None:
    count = 5 * module.KEPT_FRAMES
    for number in range(1, count + 1):
        bus.publish("x1", token(number))
    bus.finish("x1", ENVELOPE)
    frames = judged(await watched(bus))
    assert 0 < len(missing(frames)) < count
    assert frames[-1]["kind"] == "RunResult"


async def test_a_watcher_that_caught_up_and_is_hopelessly_behind_goes_on_with_the_newest(
    bus: MemoryStreams, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BEHIND_FRAMES", 5000)
    watching = bus.watch("x1")
    bus.publish("x1", token(1))
    assert await anext(watching) == encode_frame("Token", {"text": "1"}, seq=1)
    waiting = asyncio.ensure_future(anext(watching))
    await asyncio.sleep(0)
    for number in range(2, 8001):
        bus.publish("x1", token(number))
        if number % 100 == 0:
            await asyncio.sleep(0.001)
        if number == 100:
            await waiting
    bus.finish("x1", ENVELOPE)
    rest = [text async for text in watching]
    # The few that it had taken before are still its own.
    numbers = [json.loads(text)["seq"] for text in rest]
    assert 0 in numbers
    assert numbers[-1] == 8001
    assert len(numbers) < 5000


@settings(max_examples=40, deadline=None)
@given(
    sizes=st.lists(st.integers(0, 200), min_size=1, max_size=60),
    memory=st.integers(100, 3000),
    disk=st.integers(0, 8000),
    after=st.integers(0, 60),
)
def test_no_bound_breaks_the_order_or_loses_the_result(
    sizes: list[int], memory: int, disk: int, after: int
) -> None:
    async def check(folder: Path) -> None:
        bus = MemoryStreams(folder, spill_bytes=disk)
        bus.open("x1")
        early = asyncio.create_task(watched(bus))
        for number, size in enumerate(sizes, 1):
            bus.publish("x1", token(number, "x" * size + "."))
            if number % 7 == 0:
                await asyncio.sleep(0.001)
        bus.finish("x1", ENVELOPE)
        frames = judged(await early)
        assert frames[-1]["seq"] == len(sizes) + 1
        after_ = min(after, len(sizes))
        late = judged(await watched(bus, after_), after_)
        assert late[-1] == frames[-1]
        await bus.close()

    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as folder:
        patch.setattr(module, "KEPT_BYTES", memory)
        asyncio.run(check(Path(folder)))


async def test_a_disk_that_fails_costs_frames_alone(tmp_path: Path) -> None:
    bus = MemoryStreams(tmp_path / "missing")
    bus.open("x1")
    for number in range(1, 3 * module.KEPT_FRAMES):
        bus.publish("x1", token(number))
        if number % 100 == 0:
            await asyncio.sleep(0.001)
    bus.finish("x1", ENVELOPE)
    assert judged(await watched(bus))[-1]["kind"] == "RunResult"
    await bus.close()


async def refusal(bus: MemoryStreams, name: str, after: int = 0) -> str:
    with pytest.raises(TheoryError) as caught:
        await anext(bus.watch(name, after=after))
    return str(caught.value.code)


async def test_what_cannot_be_watched_has_a_code(bus: MemoryStreams) -> None:
    assert await refusal(bus, "x2") == "ERR_NOT_FOUND"
    assert await refusal(bus, "x1", 1) == "ERR_INPUTS"
    bus.publish("x2", token(1))
    assert await refusal(bus, "x2") == "ERR_NOT_FOUND"
    waiting = asyncio.create_task(refusal(bus, "x1"))
    await asyncio.sleep(0)
    bus.open("x1")
    assert await waiting == "ERR_UNAVAILABLE"
    waiting = asyncio.create_task(refusal(bus, "x1"))
    await asyncio.sleep(0)
    bus.drop("x1")
    bus.drop("x1")
    assert await waiting == "ERR_UNAVAILABLE"


async def test_an_execution_that_was_never_watched_here_still_has_its_result(
    bus: MemoryStreams,
) -> None:
    bus.finish("x9", ENVELOPE)
    assert [text async for text in bus.watch("x9")] == [
        encode_frame("RunResult", json.loads(ENVELOPE), seq=1)
    ]


async def test_ended_streams_are_forgotten_the_oldest_first(bus: MemoryStreams) -> None:
    for number in range(module.KEPT_STREAMS + 1):
        bus.open(f"y{number}")
        bus.finish(f"y{number}", ENVELOPE)
    assert await refusal(bus, "y0") == "ERR_NOT_FOUND"
    assert len([text async for text in bus.watch("y1")]) == 1


def test_a_spill_keeps_the_newest_half_at_least(tmp_path: Path) -> None:
    spill = Spill(tmp_path, size_bytes=1000)
    for number in range(1, 101):
        spill.write([(number, b"x" * 20)])
    found, seen = [], 0
    while page := spill.read(seen):
        found += [number for number, _ in page]
        seen = found[-1]
    assert found == list(range(found[0], 101))
    assert 25 <= len(found) <= 50
    spill.close()
    spill.write([(101, b"x")])
    assert spill.read(0) == []
