"""Who watches a run hears theory.run.v1, and is refused by the same rules as at a processor."""

from __future__ import annotations

import asyncio
import contextlib
import zlib
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Subprotocol

from theory_api.adapters.memory.streams import MemoryStreams
from theory_api.web import watch
from theory_api.web.events import TOO_SLOW
from theory_api.web.tests.test_live import KEY, Ledger, Serving, doors, serving
from theory_core import RUN_SUBPROTOCOL, TheoryError, encode_frame, error_envelope, loads_strict

__all__ = ["serving"]

NAME = "x0123"
PATH = f"/v1/plans/local/p1/executions/{NAME}/run"
ENVELOPE = error_envelope(
    NAME, "ERR_PROVIDER", env_fingerprint="cpu:1;memory:1Gi;platform:amd64;runtime:python3"
)
SPOKEN = Subprotocol(RUN_SUBPROTOCOL)


class Runs:
    """One run whose frames a test makes; stands for the scheduler's side."""

    def __init__(self, folder: Path) -> None:
        self.streams = MemoryStreams(folder)
        self.streams.open(NAME)

    def tokens(self, first: int, last: int, *, pad: str = "") -> None:
        for number in range(first, last + 1):
            frame = {"kind": "Token", "seq": number, "content": {"text": f"{number} {pad}"}}
            self.streams.publish(NAME, frame)

    def end(self) -> None:
        self.streams.finish(NAME, ENVELOPE)

    async def state(self, plan: str, execution_id: str) -> str:
        assert plan == "/world/local/p1"
        if execution_id != NAME:
            raise TheoryError("ERR_NOT_FOUND", "no such execution in this plan", {})
        return "running"

    def frames(self, _plan: str, execution_id: str, *, after: int = 0) -> AsyncGenerator[bytes]:
        return self.streams.watch(execution_id, after=after)


@pytest.fixture
def runs(tmp_path: Path) -> Iterator[Runs]:
    made = Runs(tmp_path)
    yield made
    made.streams.drop(NAME)


def opening(role: str = "observer", name: str = NAME, **more: int) -> str:
    content = {"role": role, "execution_id": name, **more}
    return encode_frame("RunOpen", content).decode()


async def heard(socket: ClientConnection) -> tuple[list[dict[str, Any]], int]:
    """Every frame until the close, and its code."""
    frames = []
    try:
        while True:
            frames.append(loads_strict(await socket.recv()))
    except ConnectionClosed as closed:
        return frames, closed.rcvd.code if closed.rcvd else 1006


def holes(frames: list[dict[str, Any]]) -> list[int]:
    """Numbers that neither came nor were announced as missing."""
    due, missing = 1, list[int]()
    for frame in frames[1:]:
        first = frame["content"]["from"] if frame["kind"] == "Gap" else frame["seq"]
        missing += range(due, first)
        due = (frame["content"]["to"] if frame["kind"] == "Gap" else frame["seq"]) + 1
    return missing


async def test_a_watcher_hears_all_frames_and_the_envelope_as_it_is_stored(
    serving: Serving, runs: Runs
) -> None:
    runs.tokens(1, 3)
    async with (
        serving(doors(Ledger(), watching=runs)) as at,
        connect(at.ws + PATH, additional_headers=KEY, subprotocols=[SPOKEN]) as ws,
    ):
        await ws.send(opening())
        assert loads_strict(await ws.recv()) == {
            "kind": "Ack",
            "seq": 0,
            "content": {"execution_id": NAME, "state": "running"},
        }
        reading = asyncio.create_task(heard(ws))
        runs.tokens(4, 5)
        runs.end()
        frames, code = await reading
        last = encode_frame("RunResult", loads_strict(ENVELOPE), seq=6)
    assert [frame["seq"] for frame in frames] == [1, 2, 3, 4, 5, 6]
    assert ENVELOPE in last
    assert (frames[-1], code) == (loads_strict(last), 1000)


async def test_one_that_comes_back_goes_on_after_what_it_saw(serving: Serving, runs: Runs) -> None:
    runs.tokens(1, 9)
    runs.end()
    async with (
        serving(doors(Ledger(), watching=runs)) as at,
        connect(at.ws + PATH, additional_headers=KEY, subprotocols=[SPOKEN]) as ws,
    ):
        await ws.send(opening(resume_from=7))
        frames, code = await heard(ws)
    assert ([frame["seq"] for frame in frames], code) == ([0, 8, 9, 10], 1000)


@pytest.mark.parametrize(
    ("said", "code"),
    [
        (opening("client"), 1008),
        (opening(name="xother"), 1008),
        (opening(resume_from=99), 1008),
        (b"{}", 1003),
        ("{", 1008),
        (encode_frame("Control", {"op": "cancel"}).decode(), 1002),
    ],
)
async def test_what_is_out_of_order_is_closed_with_its_code(
    serving: Serving, runs: Runs, said: str | bytes, code: int
) -> None:
    async with (
        serving(doors(Ledger(), watching=runs)) as at,
        connect(at.ws + PATH, additional_headers=KEY, subprotocols=[SPOKEN]) as ws,
    ):
        await ws.send(said)
        assert (await heard(ws))[1] == code


async def test_an_observer_that_controls_is_closed_and_the_run_goes_on(
    serving: Serving, runs: Runs
) -> None:
    async with (
        serving(doors(Ledger(), watching=runs)) as at,
        connect(at.ws + PATH, additional_headers=KEY, subprotocols=[SPOKEN]) as ws,
    ):
        await ws.send(opening())
        await ws.send(encode_frame("Control", {"op": "cancel"}).decode())
        assert (await heard(ws))[1] in {1002, 1008}
        runs.tokens(1, 1)
        runs.end()
        async with connect(at.ws + PATH, additional_headers=KEY, subprotocols=[SPOKEN]) as again:
            await again.send(opening())
            assert (await heard(again))[1] == 1000


async def test_a_silent_connection_is_closed(
    serving: Serving, runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "OPEN_S", 0.05)
    async with (
        serving(doors(Ledger(), watching=runs)) as at,
        connect(at.ws + PATH, additional_headers=KEY, subprotocols=[SPOKEN]) as ws,
    ):
        assert await heard(ws) == ([], 1008)


@pytest.mark.scenario(91)
@pytest.mark.parametrize("offered", [None, "theory.run.v2", "chat"])
async def test_the_subprotocol_is_required(
    serving: Serving, runs: Runs, offered: str | None
) -> None:
    others = None if offered is None else [Subprotocol(offered)]
    async with (
        serving(doors(Ledger(), watching=runs)) as at,
        connect(at.ws + PATH, additional_headers=KEY, subprotocols=others) as ws,
    ):
        assert await heard(ws) == ([], 1002)


@pytest.mark.scenario(91)
async def test_a_page_of_another_origin_watches_nothing_even_with_the_key(
    serving: Serving, runs: Runs
) -> None:
    async with serving(doors(Ledger(), watching=runs)) as at:
        foreign = cast("Any", "http://evil.example")
        with pytest.raises(InvalidStatus) as refused:
            await connect(
                at.ws + PATH, additional_headers=KEY, subprotocols=[SPOKEN], origin=foreign
            )
        assert refused.value.response.status_code == 403


@pytest.mark.scenario(91)
@pytest.mark.parametrize("name", ["key", "token", "access_token", "authorization"])
async def test_a_key_in_the_address_opens_nothing(serving: Serving, runs: Runs, name: str) -> None:
    key = KEY["Authorization"].removeprefix("Bearer ")
    async with serving(doors(Ledger(), watching=runs)) as at:
        with pytest.raises(InvalidStatus) as refused:
            await connect(f"{at.ws}{PATH}?{name}={key}", subprotocols=[SPOKEN])
        assert refused.value.response.status_code == 401
        assert key.encode() not in bytes(refused.value.response.body or b"")


@pytest.mark.scenario(91)
async def test_a_watcher_that_never_reads_is_cut_and_others_hear_all(
    serving: Serving, runs: Runs
) -> None:
    many = 4000
    async with serving(doors(Ledger(), watching=runs, send_timeout_s=0.5)) as at:
        way = at.ws + PATH
        async with (
            connect(way, additional_headers=KEY, subprotocols=[SPOKEN], max_queue=1) as lazy,
            connect(way, additional_headers=KEY, subprotocols=[SPOKEN]) as ws,
        ):
            await lazy.send(opening())
            transport: Any = lazy.transport
            transport.pause_reading()
            await ws.send(opening())
            reading = asyncio.create_task(heard(ws))
            for first in range(1, many, 100):
                runs.tokens(first, first + 99, pad="x" * 4000)
                await asyncio.sleep(0)
            runs.end()
            frames, code = await asyncio.wait_for(reading, 30)
            assert (frames[-1]["kind"], code) == ("RunResult", 1000)
            assert holes(frames) == []
            await asyncio.sleep(1)
            transport.resume_reading()
            seen, cut = await heard(lazy)
    assert cut == TOO_SLOW
    assert len(seen) < many


@pytest.mark.scenario(91)
async def test_a_frame_in_pieces_of_one_byte_is_heard_and_one_without_end_is_cut(
    serving: Serving, runs: Runs
) -> None:
    runs.end()
    async with serving(doors(Ledger(), watching=runs)) as at:
        way = at.ws + PATH
        async with connect(way, additional_headers=KEY, subprotocols=[SPOKEN]) as ws:
            await ws.send(iter(opening()))
            assert (await heard(ws))[1] == 1000
        async with connect(way, additional_headers=KEY, subprotocols=[SPOKEN]) as ws:
            with contextlib.suppress(ConnectionClosed):
                await ws.send("x" * 4096 for _ in range(4096 * 8))
            assert (await heard(ws))[1] in {1009, 1006}


@pytest.mark.scenario(91)
async def test_nothing_is_inflated_for_a_stranger(serving: Serving, runs: Runs) -> None:
    async with (
        serving(doors(Ledger(), watching=runs)) as at,
        connect(
            at.ws + PATH, additional_headers=KEY, subprotocols=[SPOKEN], compression="deflate"
        ) as ws,
    ):
        assert ws.response is not None
        assert "Sec-WebSocket-Extensions" not in ws.response.headers
        deflated = zlib.compress(b"x" * (1 << 24))[2:-4]
        # Compressed though nobody agreed to that: FIN, RSV1, text; the mask is of zeros.
        head = bytes([0xC1, 0xFE]) + len(deflated).to_bytes(2, "big") + bytes(4)
        ws.transport.write(head + deflated)
        assert (await heard(ws))[1] == 1002


async def test_an_unknown_execution_is_a_404_before_any_socket(
    serving: Serving, runs: Runs
) -> None:
    async with serving(doors(Ledger(), watching=runs)) as at:
        for path in (PATH.replace(NAME, "xother"), PATH.replace("local", "other")):
            with pytest.raises(InvalidStatus) as refused:
                await connect(at.ws + path, additional_headers=KEY, subprotocols=[SPOKEN])
            assert refused.value.response.status_code == 404
