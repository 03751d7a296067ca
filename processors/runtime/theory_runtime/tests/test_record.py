"""Numbered frames: none invented, none lost without notice."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from theory_core import error_envelope, loads_strict
from theory_runtime.record import Record
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
