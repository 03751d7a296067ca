"""Event streams in pieces: what is whole is given, what is too much is refused."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator

import pytest

from theory_api.adapters.http.events import EventReader, Told, events
from theory_core import LIMITS, TheoryError

STREAM = (
    b": a comment\n\n"
    b'id: 1\nevent: progress\ndata: {"a":1}\n\n'
    b"id: 2\r\nevent: progress\r\ndata: one\r\ndata: two\r\n\r\n"
    b"retry: 5\nunknown\nevent: done\rdata:last\r\r"
)
TOLD = [
    Told("progress", "1", b'{"a":1}'),
    Told("progress", "2", b"one\ntwo"),
    Told("done", "", b"last"),
]


async def given(pieces: list[bytes]) -> list[Told]:
    async def source() -> AsyncIterator[bytes]:
        for piece in pieces:
            yield piece

    return [told async for told in events(source())]


async def test_events_are_the_same_however_they_are_cut(draw: random.Random) -> None:
    assert await given([STREAM]) == TOLD
    assert await given([STREAM[at : at + 1] for at in range(len(STREAM))]) == TOLD
    for _ in range(200):
        cuts = sorted(draw.sample(range(len(STREAM)), 5))
        pieces = [STREAM[a:b] for a, b in zip([0, *cuts], [*cuts, len(STREAM)], strict=True)]
        assert await given(pieces) == TOLD


async def test_an_event_that_is_cut_off_is_none() -> None:
    assert await given([b"event: done\ndata: half\n"]) == []


def test_an_event_has_at_most_the_size_of_a_frame() -> None:
    most = LIMITS["frame_bytes"]
    (told,) = EventReader().feed(b"data: " + b"x" * most + b"\n\n")
    assert len(told.data) == most
    for flood in (b"data: " + b"x" * (most + 2048), b"x" * (most + 2048)):
        with pytest.raises(TheoryError) as refused:
            EventReader().feed(flood)
        assert refused.value.code == "ERR_TOO_LARGE"
    with pytest.raises(TheoryError) as refused:
        EventReader(size_bytes=1000).feed(b"data: 0123456789012345\n" * 100)
    assert refused.value.code == "ERR_TOO_LARGE"


def test_a_name_that_is_no_ascii_is_refused() -> None:
    with pytest.raises(TheoryError) as refused:
        EventReader().feed("event: ü\n".encode())
    assert refused.value.code == "ERR_ADAPTER_INVOCATION"
