from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, cast

import pytest
import uvicorn
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from theory_api.domain.commands import Command
from theory_api.ports.truth import IdempotencyRow, PlanRow, StoredEvent
from theory_api.scheduler.answer import Answer
from theory_api.web.app import create_app
from theory_api.web.doors import Doors
from theory_api.web.events import Frames
from theory_api.web.gathering import GatheringProtocol
from theory_core import Chain, TheoryError, canonicalize_json, loads_strict, verify

KEY = {"Authorization": "Bearer 0123456789abcdef0123456789abcdef"}
PATH = "/v1/plans/local/p1/events"


class Ledger:
    """A plan's events, made as a test asks for them; stands for the scheduler and the queries."""

    def __init__(self, plan: str = "/world/local/p1") -> None:
        self.plan = plan
        self.chain = Chain()
        self.stored: list[StoredEvent] = []
        self.news = asyncio.Event()
        self.fault: TheoryError | None = None
        self.stopped = False

    def add(self, kind: str = "predicate.checked", size: int = 0) -> None:
        seq = len(self.stored) + 1
        at = "2026-11-21T04:25:00.123456Z"
        wire = {
            "v": "theory.event.v1",
            "plan": self.plan,
            "seq": seq,
            "at": at,
            "kind": kind,
            "data": {"text": "x" * size},
        }
        ((body, digest),) = self.chain.append([wire])
        self.stored.append(StoredEvent(self.plan, seq, kind, at, body, digest))
        self.wake()

    def wake(self) -> None:
        self.news.set()
        self.news = asyncio.Event()

    def stop(self, fault: TheoryError | None = None) -> None:
        self.stopped, self.fault = True, fault
        self.wake()

    async def subscribe(self, plan: str, *, after: int = 0) -> AsyncIterator[StoredEvent]:
        assert plan == self.plan
        seq = after
        while True:
            news = self.news
            while seq < len(self.stored):
                event = self.stored[seq]
                yield event
                seq = event.seq
                if event.kind == "plan.completed":
                    return
            if self.fault is not None:
                raise self.fault
            if self.stopped:
                return
            await news.wait()

    async def submit(
        self, command: Command, *, idempotency: IdempotencyRow | None = None
    ) -> Answer:
        raise NotImplementedError((command, idempotency))

    async def row(self, plan: str) -> PlanRow:
        if plan != self.plan:
            raise TheoryError("ERR_NOT_FOUND", "no such plan", {})
        last = self.stored[-1]
        status = "completed" if last.kind == "plan.completed" else "active"
        return PlanRow(
            plan=plan,
            tenant="local",
            status=status,
            lane="build",
            created_at=last.at,
            updated_at=last.at,
            head_seq=last.seq,
            head_hash=last.hash,
            registry_snapshot="",
            document="",
            transitions=0,
            error_code=None,
        )


@dataclass(frozen=True, slots=True)
class Address:
    """Where a test's server listens."""

    port: int

    @property
    def http(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def ws(self) -> str:
        return f"ws://127.0.0.1:{self.port}"


Serving = Callable[[Doors], AbstractAsyncContextManager[Address]]


@pytest.fixture
def serving() -> Serving:
    """A real server on loopback for the length of a `with`."""

    @contextlib.asynccontextmanager
    async def run(doors: Doors) -> AsyncIterator[Address]:
        listener = socket.create_server(("127.0.0.1", 0))
        config = uvicorn.Config(
            create_app(doors),
            http="h11",
            ws=GatheringProtocol,
            lifespan="off",
            log_config=None,
            access_log=False,
            ws_per_message_deflate=False,
            timeout_graceful_shutdown=5,
        )
        server = uvicorn.Server(config)
        task = asyncio.create_task(server._serve([listener]))
        try:
            while not server.started:  # noqa: ASYNC110 - uvicorn has no event for it
                await asyncio.sleep(0.01)
            yield Address(listener.getsockname()[1])
        finally:
            server.should_exit = True
            await task
            listener.close()

    return run


@pytest.fixture
def ledger() -> Ledger:
    """A plan without events yet."""
    return Ledger()


def doors(ledger: Ledger, *, send_timeout_s: float = 10.0, watching: object = None) -> Doors:
    """Only what the live streams need."""
    absent: Any = None
    return Doors(
        plans=absent,
        queries=cast("Any", ledger),
        ledgers=absent,
        worlds=absent,
        engine=ledger,
        watching=cast("Any", watching),
        key="0123456789abcdef0123456789abcdef",
        tenant="local",
        principal="local",
        unready=lambda: None,
        version="0.1.0",
        send_timeout_s=send_timeout_s,
    )


async def read_all(socket: ClientConnection) -> tuple[list[str], int]:
    frames: list[str] = []
    try:
        while True:
            frames.append(str(await socket.recv()))
    except ConnectionClosed as closed:
        return frames, closed.rcvd.code if closed.rcvd else 1006


def seqs(frames: list[str]) -> list[int]:
    return [cast("Any", loads_strict(frame))["event"]["seq"] for frame in frames]


async def test_events_come_from_the_store_and_live_once_in_order_until_the_plan_ends(
    serving: Serving, ledger: Ledger
) -> None:
    ledger.add()
    ledger.add()
    async with serving(doors(ledger)) as at, connect(at.ws + PATH, additional_headers=KEY) as ws:
        reading = asyncio.create_task(read_all(ws))
        for _ in range(50):
            ledger.add()
            await asyncio.sleep(0)
        ledger.add("plan.completed")
        frames, code = await reading
    assert (seqs(frames), code) == (list(range(1, 54)), 1000)


async def test_the_frames_are_the_export_and_verify(serving: Serving, ledger: Ledger) -> None:
    ledger.add()
    ledger.add("plan.completed")
    async with serving(doors(ledger)) as at, connect(at.ws + PATH, additional_headers=KEY) as ws:
        frames, _ = await read_all(ws)
    assert all(canonicalize_json(frame).decode() == frame for frame in frames)
    report = verify([frame.encode() for frame in frames])
    assert (report.count, report.fault) == (2, None)


@pytest.mark.scenario(92)
async def test_a_reader_resumes_behind_the_seq_that_it_saw_last(
    serving: Serving, ledger: Ledger
) -> None:
    for _ in range(5):
        ledger.add()
    ledger.add("plan.completed")
    async with serving(doors(ledger)) as at:
        async with connect(f"{at.ws}{PATH}?after=4", additional_headers=KEY) as ws:
            frames, code = await read_all(ws)
        assert (seqs(frames), code) == ([5, 6], 1000)
        async with connect(f"{at.ws}{PATH}?after=6", additional_headers=KEY) as ws:
            assert await read_all(ws) == ([], 1000)


async def test_a_hundred_readers_share_one_encoding_of_each_event(
    serving: Serving, ledger: Ledger
) -> None:
    ledger.add()
    async with serving(doors(ledger)) as at:
        sockets = [await connect(at.ws + PATH, additional_headers=KEY) for _ in range(100)]
        readings = [asyncio.create_task(read_all(ws)) for ws in sockets]
        for _ in range(20):
            ledger.add(size=300)
        ledger.add("plan.completed")
        results = await asyncio.gather(*readings)
    assert all(result == results[0] for result in results)
    frames = Frames(kept=2)
    first = frames.of(ledger.stored[0])
    assert frames.of(ledger.stored[0]) is first
    for event in ledger.stored[1:4]:
        frames.of(event)
    assert frames.of(ledger.stored[0]) == first
    assert frames.of(ledger.stored[0]) is not first


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/v1/plans/local/absent/events", 404, "ERR_NOT_FOUND"),
        ("/v1/plans/acme/p1/events", 404, "ERR_NOT_FOUND"),
        ("/v1/plans/local/p1/events?after=-1", 400, "ERR_INPUTS"),
        ("/v1/plans/local/p1/events?after=x", 400, "ERR_INPUTS"),
        ("/v1/plans/local/p1/events?after=1&after=2", 400, "ERR_INPUTS"),
    ],
)
async def test_a_refused_stream_is_a_problem_before_the_handshake(
    serving: Serving,
    ledger: Ledger,
    caplog: pytest.LogCaptureFixture,
    path: str,
    status: int,
    code: str,
) -> None:
    ledger.add()
    async with serving(doors(ledger)) as at:
        with pytest.raises(InvalidStatus) as caught:
            await connect(at.ws + path, additional_headers=KEY)
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []
    response = caught.value.response
    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"
    assert cast("Any", loads_strict(bytes(response.body or b"")))["code"] == code


@pytest.mark.scenario(91)
async def test_no_key_or_a_foreign_origin_opens_no_stream(serving: Serving, ledger: Ledger) -> None:
    ledger.add()
    async with serving(doors(ledger)) as at:
        with pytest.raises(InvalidStatus) as caught:
            await connect(at.ws + PATH)
        assert caught.value.response.status_code == 401
        with pytest.raises(InvalidStatus) as caught:
            await connect(
                at.ws + PATH, additional_headers=KEY, origin=cast("Any", "http://evil.example")
            )
        assert caught.value.response.status_code == 403


async def test_a_client_that_sends_anything_is_closed_with_1008(
    serving: Serving, ledger: Ledger
) -> None:
    ledger.add()
    async with serving(doors(ledger)) as at, connect(at.ws + PATH, additional_headers=KEY) as ws:
        await ws.recv()
        await ws.send("hello")
        assert (await read_all(ws))[1] == 1008


async def test_a_reader_is_told_to_come_again_when_the_scheduler_stops(
    serving: Serving, ledger: Ledger
) -> None:
    ledger.add()
    async with serving(doors(ledger)) as at:
        async with connect(at.ws + PATH, additional_headers=KEY) as ws:
            await ws.recv()
            ledger.stop()
            assert (await read_all(ws))[1] == 1012
        ledger.stop(TheoryError("ERR_CHAIN_BROKEN", "event 2 of it does not match its hash", {}))
        async with connect(at.ws + PATH, additional_headers=KEY) as ws:
            assert (await read_all(ws))[1] == 1011
        ledger.stop(TheoryError("ERR_NOT_WRITER", "another process writes here", {}))
        async with connect(at.ws + PATH, additional_headers=KEY) as ws:
            assert (await read_all(ws))[1] == 1012


@pytest.mark.scenario(93)
async def test_a_reader_that_does_not_keep_up_is_cut_and_others_are_not(
    serving: Serving, ledger: Ledger
) -> None:
    ledger.add()
    async with serving(doors(ledger, send_timeout_s=0.3)) as at:
        with socket.create_connection(("127.0.0.1", at.port)) as stuck:
            head = (
                f"GET {PATH} HTTP/1.1\r\nHost: 127.0.0.1:{at.port}\r\nUpgrade: websocket\r\n"
                "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
                f"Authorization: {KEY['Authorization']}\r\n\r\n"
            )
            stuck.sendall(head.encode())
            async with connect(at.ws + PATH, additional_headers=KEY, max_size=None) as ws:
                reading = asyncio.create_task(read_all(ws))
                for _ in range(200):
                    ledger.add(size=100_000)
                    await asyncio.sleep(0.002)
                await asyncio.sleep(0.5)
                ledger.add("plan.completed")
                frames, code = await reading
            assert (seqs(frames), code) == (list(range(1, 203)), 1000)
            received = await asyncio.to_thread(drain, stuck)
    assert received < 200 * 100_000


def drain(stuck: socket.socket) -> int:
    """Bytes up to the close frame with code 1013."""
    stuck.settimeout(30)
    total, tail = 0, b""
    while not tail.endswith(b"\x88\x02\x03\xf5"):
        piece = stuck.recv(1 << 20)
        assert piece, "the connection ended without the close frame"
        total += len(piece)
        tail = (tail + piece)[-4:]
    return total
