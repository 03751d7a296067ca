"""The client against servers that keep the rules or break them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from structlog.testing import capture_logs
from websockets.asyncio.server import ServerConnection

from theory_api.adapters.run_v1.client import dial_socket, send_control
from theory_api.adapters.run_v1.inflow import FRAMES_PER_S, TURN_S
from theory_api.adapters.run_v1.tests.conftest import (
    Serve,
    ack,
    result,
    run,
    saying,
    token,
)
from theory_core import TheoryError, encode_frame, loads_strict

TURN_FRAMES = round(TURN_S * FRAMES_PER_S)


async def test_frames_are_handed_on_in_order_and_the_envelope_returned(
    path: str, serve: Serve
) -> None:
    await serve(saying(ack(), token(1), token(2), result(3)))
    heard: list[Mapping[str, Any]] = []
    envelope = await run(path, heard)
    assert envelope["status"] == "success"
    assert [one["seq"] for one in heard] == [0, 1, 2, 3]


@pytest.mark.scenario(20)
async def test_of_two_results_the_first_counts_and_is_told_once(path: str, serve: Serve) -> None:
    twice = [ack(), result(1), result(2)]
    closed = asyncio.get_running_loop().create_future()
    inner = saying(*twice)

    async def handler(connection: ServerConnection) -> None:
        await inner(connection)
        closed.set_result(connection.close_code)

    await serve(handler)
    heard: list[Mapping[str, Any]] = []
    with capture_logs() as lines:
        envelope = await run(path, heard)
    assert envelope["status"] == "success"
    assert [one["seq"] for one in heard] == [0, 1]
    assert [line["event"] for line in lines].count("ws.run.settle") == 1
    assert [line["close"] for line in lines if line["event"] == "ws.run.beyond"] == [1002]
    assert await asyncio.wait_for(closed, 5) == 1002


async def test_a_server_that_does_not_close_after_its_result_is_left(
    path: str, serve: Serve
) -> None:
    closed = asyncio.get_running_loop().create_future()
    inner = saying(ack(), result(1))

    async def handler(connection: ServerConnection) -> None:
        await inner(connection)
        closed.set_result(connection.close_code)

    await serve(handler)
    assert (await run(path))["status"] == "success"
    assert await asyncio.wait_for(closed, 5) == 1000


async def test_others_have_their_turn_while_a_server_floods(path: str, serve: Serve) -> None:
    many = 5_000
    await serve(saying(ack(), *map(token, range(1, many + 1)), result(many + 1)))
    heard: list[Mapping[str, Any]] = []
    longest = 0

    async def other() -> None:
        nonlocal longest
        while True:
            before = len(heard)
            await asyncio.sleep(0)
            longest = max(longest, len(heard) - before)

    beside = asyncio.create_task(other())
    envelope = await run(replace(dial_socket(path), unread=None), heard)
    beside.cancel()
    assert envelope["status"] == "success"
    assert len(heard) == many + 2
    assert 0 < longest <= TURN_FRAMES


async def test_a_gap_is_handed_on(path: str, serve: Serve) -> None:
    gap = encode_frame("Gap", {"from": 1, "to": 9}, seq=0).decode()
    await serve(saying(ack(), gap, token(10), result(11)))
    heard: list[Mapping[str, Any]] = []
    await run(path, heard)
    assert [one["kind"] for one in heard] == ["Ack", "Gap", "Token", "RunResult"]


async def test_a_frame_over_the_limit_is_a_violation_and_not_asked_for_again(
    path: str, serve: Serve
) -> None:
    count = 0

    async def handler(connection: ServerConnection) -> None:
        nonlocal count
        count += 1
        await connection.recv()
        await connection.send("x" * (8 * 1024 * 1024 + 1))

    await serve(handler)
    with pytest.raises(TheoryError) as caught:
        await run(path)
    assert (caught.value.code, count) == ("ERR_WS_PROTOCOL", 1)
    assert caught.value.detail["close"] == 1009


@pytest.mark.parametrize(
    ("messages", "close"),
    [
        ((token(1),), 1002),
        ((ack(), ack()), 1002),
        ((ack("x2"),), 1008),
        ((ack(), token(2)), 1002),
        ((ack(), token(1), token(1)), 1002),
        ((ack(), result(1, "x2")), 1008),
        ((ack(), '{"kind":"RunResult","seq":1,"content":{}}'), 1008),
        ((ack(), "no json"), 1008),
        ((ack(), b"binary"), 1003),
    ],
)
async def test_a_server_that_breaks_the_rules_is_left_with_the_close_code(
    path: str, serve: Serve, messages: tuple[str | bytes, ...], close: int
) -> None:
    closed: list[int | None] = []
    inner = saying(*messages)

    async def handler(connection: ServerConnection) -> None:
        await inner(connection)
        closed.append(connection.close_code)

    await serve(handler)
    with pytest.raises(TheoryError) as caught:
        await run(path)
    assert caught.value.code in {"ERR_WS_PROTOCOL", "ERR_ADAPTER_INVOCATION"}
    await asyncio.sleep(0.05)
    assert closed == [close]


@pytest.mark.parametrize("code", [1002, 1003, 1008, 1009])
async def test_a_server_that_refuses_us_is_not_asked_again(
    path: str, serve: Serve, code: int
) -> None:
    count = 0

    async def handler(connection: ServerConnection) -> None:
        nonlocal count
        count += 1
        await connection.close(code)

    await serve(handler)
    with pytest.raises(TheoryError) as caught:
        await run(path)
    assert (caught.value.code, count) == ("ERR_WS_PROTOCOL", 1)
    assert caught.value.detail["close"] == code


async def test_another_subprotocol_is_a_violation(path: str, serve: Serve) -> None:
    await serve(saying(ack()), subprotocol="chat")
    with pytest.raises(TheoryError) as caught:
        await run(path)
    assert caught.value.code == "ERR_WS_PROTOCOL"


@pytest.mark.scenario(55)
async def test_an_envelope_for_another_prefix_is_refused(path: str, serve: Serve) -> None:
    await serve(saying(ack(), result(1, prefix="/artifacts/outputs/test-deeds-v1/x10/")))
    with pytest.raises(TheoryError) as caught:
        await run(path)
    assert caught.value.code == "ERR_ADAPTER_INVOCATION"
    assert caught.value.message == "adapter invocation failed: invalid index_path root"


async def test_control_has_a_connection_of_its_own(path: str, serve: Serve) -> None:
    said: list[dict[str, Any]] = []

    async def handler(connection: ServerConnection) -> None:
        said.append(json.loads(await connection.recv()))
        await connection.send(ack())
        said.append(json.loads(await connection.recv()))

    await serve(handler)
    await send_control(path, "x1", "set_budget", {"tokens": 5})
    await asyncio.sleep(0.05)
    assert said == [
        {"kind": "RunOpen", "content": {"role": "controller", "execution_id": "x1"}},
        {"kind": "Control", "content": {"op": "set_budget", "budget": {"tokens": 5}}},
    ]


async def test_a_server_without_a_place_is_asked_again_and_the_run_begins_once(
    path: str, serve: Serve
) -> None:
    asked: list[Any] = []

    async def handler(connection: ServerConnection) -> None:
        asked.append(loads_strict(str(await connection.recv()))["content"])
        if len(asked) == 1:
            await connection.close(1013, "ERR_RATE_LIMITED: rate limited: concurrency")
            return
        await connection.send(ack())
        await connection.send(result(1))
        await connection.close()

    await serve(handler)
    many = replace(dial_socket(path), one_server=False)
    assert (await run(many))["status"] == "success"
    assert ["payload" in opening for opening in asked] == [True, True]


async def test_a_server_that_stays_without_a_place_is_given_up_and_nothing_was_begun(
    path: str, serve: Serve
) -> None:
    async def handler(connection: ServerConnection) -> None:
        await connection.recv()
        await connection.close(1013)

    await serve(handler)
    with pytest.raises(TheoryError) as caught:
        await run(path)
    assert caught.value.code == "ERR_RATE_LIMITED"
