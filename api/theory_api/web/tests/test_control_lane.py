"""Who controls a run says so over the socket on which it is watched, and is heard at once."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import dataclasses
from collections.abc import AsyncGenerator, Mapping
from pathlib import Path
from typing import Any, cast

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from theory_api.scheduler.answer import Answer
from theory_api.web.doors import Doors
from theory_api.web.tests.test_live import KEY, Address, Ledger, Serving, doors, serving
from theory_api.web.tests.test_watch import NAME, PATH, SPOKEN, Runs, heard, opening
from theory_core import TheoryError, encode_frame, loads_strict

__all__ = ["serving"]

FRAMES = 40
REASON = "over the control lane"


class Owner:
    """Stands for the owner of the plan: notes what it is asked, and refuses what it is told to."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, ...]] = []
        self.refusals: list[TheoryError] = []
        self.door = asyncio.Event()
        self.door.set()
        self.done = asyncio.Event()

    async def control(
        self,
        plan: str,
        execution_id: str,
        op: str,
        *,
        by: str,
        reason: str,
        budget: Mapping[str, int] | None = None,
    ) -> Answer:
        assert (plan, execution_id, by, reason) == ("/world/local/p1", NAME, "local", REASON)
        await self.door.wait()
        if self.refusals:
            raise self.refusals.pop(0)
        self.asked.append((op, budget))
        self.done.set()
        return Answer(plan, 7, ("execution.controlled",))


class Counted(Runs):
    """Counts the frames that watchers were given."""

    given = 0

    async def frames(
        self, plan: str, execution_id: str, *, after: int = 0
    ) -> AsyncGenerator[bytes]:
        async with contextlib.aclosing(super().frames(plan, execution_id, after=after)) as frames:
            async for text in frames:
                self.given += 1
                yield text


@pytest.fixture
def runs(tmp_path: Path) -> Counted:
    return Counted(tmp_path)


@pytest.fixture
def owner() -> Owner:
    return Owner()


def behind(runs: Runs, owner: Owner, *, send_timeout_s: float = 10.0) -> Doors:
    made = doors(Ledger(), watching=runs, send_timeout_s=send_timeout_s)
    return dataclasses.replace(made, plans=cast("Any", owner))


def control(op: str, **more: Any) -> str:  # noqa: ANN401 - a frame's members
    return encode_frame("Control", {"op": op, **more}).decode()


def dialled(at: Address, **options: Any) -> connect:  # noqa: ANN401 - of the library
    return connect(at.ws + PATH, additional_headers=KEY, subprotocols=[SPOKEN], **options)


async def attached(ws: ClientConnection, role: str = "controller", **more: int) -> None:
    await ws.send(opening(role, NAME, **more))
    assert loads_strict(await ws.recv())["kind"] == "Ack"


async def test_a_controller_watches_as_an_observer_does_and_every_operation_reaches_the_owner(
    serving: Serving, runs: Runs, owner: Owner
) -> None:
    async with serving(behind(runs, owner)) as at, dialled(at) as ws:
        await attached(ws)
        reading = asyncio.create_task(heard(ws))
        runs.tokens(1, 2)
        for frame in (
            control("pause"),
            control("resume"),
            control("set_budget", budget={"usd_micro": 3}),
            control("cancel"),
        ):
            await ws.send(frame)
        async with asyncio.timeout(5):
            while len(owner.asked) < 4:
                owner.done.clear()
                await owner.done.wait()
        runs.end()
        frames, code = await reading
    assert owner.asked == [
        ("pause", None),
        ("resume", None),
        ("set_budget", {"usd_micro": 3}),
        ("cancel", None),
    ]
    assert ([frame["seq"] for frame in frames], code) == ([1, 2, 3], 1000)


@pytest.mark.parametrize(
    ("said", "code"),
    [
        (opening("client"), 1008),
        (opening("controller"), 1002),
        ('{"kind":"Control","content":{"op":"restart"}}', 1008),
        ('{"kind":"Control","content":{"op":"cancel","why":"x"}}', 1008),
        ('{"kind":"Control","content":{"op":"cancel"},"seq":1}', 1008),
        ('{"kind":"Control","content":{"op":"pause","budget":{"usd_micro":1}}}', 1008),
        ('{"kind":"Control","content":{"op":"set_budget"}}', 1008),
        ('{"kind":"Control","content":{"op":"set_budget","budget":{"cents":1}}}', 1008),
        ('{"kind":"Token","content":{"text":"x"}}', 1002),
        ("{", 1008),
        (b"{}", 1003),
    ],
)
async def test_what_a_controller_may_not_say_is_closed_with_its_code_and_asks_for_nothing(
    serving: Serving, runs: Runs, owner: Owner, said: str | bytes, code: int
) -> None:
    async with serving(behind(runs, owner)) as at, dialled(at) as ws:
        if said != opening("client"):
            await attached(ws)
        await ws.send(said)
        assert (await heard(ws))[1] == code
    assert owner.asked == []


async def test_an_observer_that_controls_asks_for_nothing(
    serving: Serving, runs: Runs, owner: Owner
) -> None:
    async with serving(behind(runs, owner)) as at, dialled(at) as ws:
        await attached(ws, "observer")
        await ws.send(control("cancel"))
        assert (await heard(ws))[1] == 1008
    assert owner.asked == []


@pytest.mark.parametrize(
    ("refusal", "close"),
    [
        ("ERR_CONFLICT", 1008),
        ("ERR_PLAN_INVALID", 1008),
        ("ERR_UNAVAILABLE", 1012),
        ("ERR_NOT_WRITER", 1012),
        ("ERR_INTERNAL", 1012),
    ],
)
async def test_a_refused_control_closes_with_its_code_in_the_reason_and_the_run_goes_on(
    serving: Serving, runs: Runs, owner: Owner, refusal: str, close: int
) -> None:
    owner.refusals.append(TheoryError(refusal, "it cannot stand still", {}))
    async with serving(behind(runs, owner)) as at:
        async with dialled(at) as ws:
            await attached(ws)
            runs.tokens(1, 1)
            await ws.recv()
            await ws.send(control("pause"))
            with pytest.raises(ConnectionClosed) as closed:
                await ws.recv()
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == close
            assert closed.value.rcvd.reason == f"{refusal}: it cannot stand still"
        async with dialled(at) as again:
            await attached(again, resume_from=1)
            runs.tokens(2, 2)
            runs.end()
            frames, code = await heard(again)
    assert ([frame["seq"] for frame in frames], code) == ([2, 3], 1000)


async def test_a_control_is_not_queued_behind_what_its_sender_does_not_read(
    serving: Serving, runs: Counted, owner: Owner
) -> None:
    data = base64.b64encode(b"x" * (1 << 20)).decode()
    async with serving(behind(runs, owner, send_timeout_s=60)) as at:
        stalled = dialled(at, max_queue=1, max_size=None, close_timeout=0.1, ping_interval=None)
        async with stalled as ws:
            await attached(ws)
            ws.transport.pause_reading()
            for number in range(1, FRAMES + 1):
                content = {"stream": "s", "index": number, "mime": "image/png", "data": data}
                runs.streams.publish(NAME, {"kind": "Frame", "seq": number, "content": content})
                await asyncio.sleep(0)
            await asyncio.sleep(0.5)
            stuck_at = runs.given
            await ws.send(control("cancel"))
            async with asyncio.timeout(5):
                await owner.done.wait()
            assert runs.given == stuck_at < FRAMES
            assert owner.asked == [("cancel", None)]
            ws.transport.abort()


async def test_what_was_said_is_carried_out_though_its_sender_left_at_once(
    serving: Serving, runs: Runs, owner: Owner
) -> None:
    owner.door.clear()
    async with serving(behind(runs, owner)) as at:
        async with dialled(at) as ws:
            await attached(ws)
            await ws.send(control("cancel"))
        owner.door.set()
        async with asyncio.timeout(5):
            await owner.done.wait()
    assert owner.asked == [("cancel", None)]


async def test_a_control_that_the_result_crosses_is_heard_and_changes_nothing_for_the_watcher(
    serving: Serving, runs: Runs, owner: Owner
) -> None:
    owner.door.clear()
    async with serving(behind(runs, owner)) as at, dialled(at) as ws:
        await attached(ws)
        await ws.send(control("cancel"))
        await asyncio.sleep(0.1)
        runs.end()
        await asyncio.sleep(0.1)
        owner.door.set()
        frames, code = await heard(ws)
    assert ([frame["kind"] for frame in frames], code) == (["RunResult"], 1000)
    assert owner.asked == [("cancel", None)]
