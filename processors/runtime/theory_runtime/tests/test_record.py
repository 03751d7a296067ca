"""Numbered frames: none invented, none lost without notice."""

from __future__ import annotations

import asyncio
import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from theory_core import encode_frame, error_envelope, loads_strict
from theory_runtime.record import Record
from theory_runtime.spill import Spill
from theory_runtime.tests.conftest import fingerprint


def envelope() -> dict[str, Any]:
    text = error_envelope("x1", "ERR_CANCELLED", env_fingerprint=fingerprint())
    result: dict[str, Any] = loads_strict(text)
    return result


@given(count=st.integers(0, 60), kept=st.integers(1, 20), seen=st.integers(0, 70))
def test_a_reader_gets_the_first_kept_frame_after_what_it_saw(
    count: int, kept: int, seen: int
) -> None:
    async def check() -> None:
        record = Record(frames=kept)
        for number in range(count):
            record.add("Token", {"text": str(number)})
        first = record.after(seen)
        if seen >= count:
            assert first is None
        else:
            assert first is not None
            assert first.seq == max(seen + 1, count - kept + 1)
            assert json.loads(first.text)["content"] == {"text": str(first.seq - 1)}

    asyncio.run(check())


async def test_bytes_are_bounded_and_the_result_is_never_dropped() -> None:
    record = Record(size_bytes=1000)
    for _ in range(100):
        record.add("Token", {"text": "x" * 100})
    record.add("Token", {"text": "x" * 5000})
    record.finish(envelope())
    kept = record.after(0)
    assert kept is not None
    assert (kept.seq, kept.final) == (102, True)


@given(
    sizes=st.lists(st.integers(0, 300), min_size=1, max_size=80),
    kept=st.integers(1, 10),
    on_disk=st.integers(0, 9000),
    seen=st.integers(0, 90),
)
def test_what_left_memory_is_read_from_disk_or_is_before_all_that_can_be(
    sizes: list[int], kept: int, on_disk: int, seen: int
) -> None:
    async def check(folder: Path) -> None:
        spill = Spill(folder, size_bytes=on_disk, frames=64)
        record = Record(spill, frames=kept)
        for size in sizes:
            record.add("Token", {"text": "x" * size})
        missing: list[int] = []
        at = seen
        while (frame := record.after(at)) is not None:
            missing += range(at + 1, frame.seq)
            assert json.loads(frame.text)["content"] == {"text": "x" * sizes[frame.seq - 1]}
            assert json.loads(frame.text)["seq"] == frame.seq
            at = frame.seq
        assert at == max(seen, len(sizes))
        # Only the oldest are gone, never one in the middle.
        assert missing == list(range(seen + 1, seen + 1 + len(missing)))
        texts = [len(encode_frame("Token", {"text": "x" * size}, seq=1)) + 2 for size in sizes]
        if sum(texts[:-kept]) <= on_disk // 2:
            assert missing == []
        record.close()

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(check(Path(folder)))
        assert list(Path(folder).iterdir()) == []


async def test_a_disk_that_cannot_be_written_loses_frames_and_says_so(tmp_path: Path) -> None:
    record = Record(Spill(tmp_path / "missing"), frames=5)
    for number in range(20):
        record.add("Token", {"text": str(number)})
    first = record.after(0)
    assert first is not None
    assert first.seq == 16


async def test_a_record_that_was_closed_still_has_what_is_in_memory(tmp_path: Path) -> None:
    record = Record(Spill(tmp_path), frames=5)
    for number in range(20):
        record.add("Token", {"text": str(number)})
    assert getattr(record.after(0), "seq", None) == 1
    record.close()
    assert getattr(record.after(0), "seq", None) == 16


@pytest.mark.scenario(20)
async def test_nothing_follows_the_result() -> None:
    record = Record()
    record.finish(envelope())
    record.finish(envelope())
    record.add("Token", {"text": "late"})
    assert record.last == 1


async def test_whoever_waits_is_woken() -> None:
    record = Record()
    waiting = [asyncio.create_task(record.news(0)) for _ in range(3)]
    await asyncio.sleep(0)
    record.add("Token", {"text": "now"})
    assert {(await one).seq for one in waiting} == {1}
