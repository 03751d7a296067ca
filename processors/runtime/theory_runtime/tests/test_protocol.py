"""`/healthz` and `/run` from outside: who may say what, who hears what, and how it closes."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import InvalidStatus

from theory_runtime.tests.conftest import Service, control, frames


async def close_of(connection: ClientConnection) -> int | None:
    await connection.wait_closed()
    return connection.close_code


async def ask(service: Service, request: bytes) -> tuple[bytes, bytes]:
    reader, writer = await asyncio.open_unix_connection(str(service.folder / "run.sock"))
    writer.write(request)
    head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    return head, body


async def test_health_is_exactly_one_object(service: Service) -> None:
    head, body = await ask(service, b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 ")
    assert b"application/json" in head
    assert body == b'{"ok":true}'
    head, _ = await ask(service, b"GET /elsewhere HTTP/1.1\r\nHost: x\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 404 ")


async def test_another_path_is_no_websocket(service: Service) -> None:
    with pytest.raises(InvalidStatus):
        async with service.connect("/other"):
            pass


@pytest.mark.parametrize("subprotocol", [None, "chat"])
async def test_another_subprotocol_is_1002(service: Service, subprotocol: str | None) -> None:
    async with service.connect(subprotocol=subprotocol) as connection:
        assert await close_of(connection) == 1002


def opening(**changes: object) -> str:
    content = {"role": "client", "execution_id": "x1", **changes}
    return json.dumps({"kind": "RunOpen", "content": content})


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (control("cancel"), 1002),
        ('{"kind":"Ack","content":{"execution_id":"x1","state":"running"},"seq":0}', 1008),
        ('{"kind":"Nothing","content":{}}', 1002),
        ("not json", 1008),
        ('{"kind":"RunOpen","kind":"RunOpen","content":{}}', 1008),
        ("[]", 1008),
        (b"binary", 1003),
        (opening(role="king"), 1008),
        (opening(payload={}), 1008),
        (opening(surprise=1), 1008),
        (opening(), 1008),
        (opening(role="observer"), 1008),
    ],
)
async def test_a_bad_beginning_has_its_close_code(
    service: Service, message: str | bytes, expected: int
) -> None:
    async with service.connect() as connection:
        await connection.send(message)
        assert await close_of(connection) == expected
    head, _ = await ask(service, b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
    assert b"200" in head


async def test_a_frame_over_the_limit_is_1009(service: Service) -> None:
    connection = await service.connect()
    await connection.send("x" * (8 * 1024 * 1024 + 1))
    assert await close_of(connection) == 1009


async def test_silence_at_the_beginning_is_1008(service: Service) -> None:
    async with service.connect() as connection:
        assert await asyncio.wait_for(close_of(connection), 15) == 1008


async def test_a_run_ends_with_one_result_and_1000(service: Service) -> None:
    async with service.connect() as connection:
        await connection.send(service.opening("tokens", count=3))
        heard = await frames(connection)
        assert connection.close_code == 1000
    kinds = [frame["kind"] for frame in heard]
    assert kinds == ["Ack", "Token", "Token", "Token", "Frame", "Log", "Event", "RunResult"]
    assert [frame["seq"] for frame in heard] == list(range(8))
    assert heard[0]["content"] == {"execution_id": "x1", "state": "running"}
    assert heard[-1]["content"]["status"] == "success"
    assert sorted(service.kept.objects) == ["outputs.json", "receipt.json"]


@pytest.mark.scenario(20)
async def test_a_settled_run_answers_again_with_what_was_not_seen(service: Service) -> None:
    message = service.opening("tokens", count=3)
    async with service.connect() as connection:
        await connection.send(message)
        first = await frames(connection)
    for seen, expected in ((0, first[1:]), (5, first[6:]), (6, first[7:])):
        async with service.connect() as connection:
            await connection.send(service.opening("tokens", count=3, resume_from=seen))
            again = await frames(connection)
        assert again[0]["content"]["state"] == "succeeded"
        assert again[1:] == expected
    assert service.kept.requests == 2


async def test_resuming_beyond_the_last_frame_is_1008(service: Service) -> None:
    async with service.connect() as connection:
        await connection.send(service.opening("tokens", count=1))
        last = (await frames(connection))[-1]["seq"]
    async with service.connect() as connection:
        await connection.send(service.opening(role="observer", resume_from=last + 1))
        assert await close_of(connection) == 1008
    async with service.connect() as connection:
        await connection.send(service.opening(role="observer", resume_from=last))
        assert [frame["kind"] for frame in await frames_until_quiet(connection)] == ["Ack"]


async def frames_until_quiet(connection: ClientConnection) -> list[dict[str, Any]]:
    heard = []
    try:
        while True:
            heard.append(json.loads(await asyncio.wait_for(connection.recv(), 0.5)))
    except TimeoutError:
        return heard


async def test_the_same_execution_with_another_payload_is_1008(service: Service) -> None:
    async with service.connect() as connection:
        await connection.send(service.opening("tokens", count=1))
        await frames(connection)
    async with service.connect() as connection:
        await connection.send(service.opening("tokens", count=2))
        assert await close_of(connection) == 1008


async def test_observers_see_the_run_and_only_controllers_end_it(service: Service) -> None:
    async with service.connect() as client, service.connect() as observer:
        await client.send(service.opening("sleep"))
        assert json.loads(await client.recv())["kind"] == "Ack"
        await observer.send(service.opening(role="observer"))
        heard = [json.loads(await observer.recv()) for _ in range(2)]
        assert [frame["kind"] for frame in heard] == ["Ack", "Event"]
        await observer.send(control("cancel"))
        assert await close_of(observer) == 1008
        async with service.connect() as controller:
            await controller.send(service.opening(role="controller"))
            await controller.send(control("pause"))
            await controller.send(control("resume"))
            await controller.send(control("cancel"))
            told = await frames(controller)
        result = (await frames(client))[-1]
        assert result == told[-1]
        assert result["content"]["error"]["code"] == "ERR_CANCELLED"


async def test_a_second_opening_on_one_connection_is_1002_and_the_run_goes_on(
    service: Service,
) -> None:
    async with service.connect() as watcher, service.connect() as connection:
        await watcher.send(service.opening("paced", count=10, pause_s=0.1))
        await watcher.recv()
        await connection.send(service.opening(role="observer"))
        await connection.send(service.opening(role="observer"))
        assert await close_of(connection) == 1002
        assert (await frames(watcher))[-1]["content"]["status"] == "success"


async def both(client: ClientConnection, controller: ClientConnection) -> list[dict[str, Any]]:
    """What the client hears, while the controller listens too."""
    listening = asyncio.create_task(frames(controller))
    heard = await frames(client)
    await listening
    return heard


async def test_a_budget_that_is_set_stops_what_reports_more(service: Service) -> None:
    async with service.connect() as client, service.connect() as controller:
        await client.send(service.opening("spend", count=100, pause_s=0.05))
        await client.recv()
        await controller.send(service.opening(role="controller"))
        await controller.send(control("set_budget", budget={"tokens": 20}))
        told = await both(client, controller)
        error = told[-1]["content"]["error"]
        assert error == {"code": "ERR_BUDGET_EXCEEDED", "message": "budget exceeded: tokens"}


async def test_a_client_that_leaves_changes_nothing(service: Service) -> None:
    async with service.connect() as client:
        await client.send(service.opening("paced", count=10, pause_s=0.05))
        await client.recv()
    async with service.connect() as observer:
        await observer.send(service.opening(role="observer"))
        heard = await frames(observer)
    assert [frame["kind"] for frame in heard].count("Token") == 10
    assert heard[-1]["content"]["status"] == "success"


async def test_a_viewer_that_does_not_read_holds_nobody_up_and_is_told_what_it_missed(
    service: Service,
) -> None:
    async with service.connect() as client:
        await client.send(service.opening("flood", count=40_000))
        await client.recv()
        async with service.connect() as lazy:
            await lazy.send(service.opening(role="observer"))
            transport: Any = lazy.transport
            transport.pause_reading()
            heard = await asyncio.wait_for(frames(client), 30)
            assert heard[-1]["kind"] == "RunResult"
            transport.resume_reading()
            seen = await frames(lazy)
    gaps = [frame["content"] for frame in seen if frame["kind"] == "Gap"]
    assert gaps
    assert seen[-1] == heard[-1]
    next_seq = 1
    for frame in seen[1:]:
        first = frame["content"]["from"] if frame["kind"] == "Gap" else frame["seq"]
        assert first == next_seq
        next_seq = frame["content"]["to"] + 1 if frame["kind"] == "Gap" else frame["seq"] + 1


async def test_cancel_is_not_queued_behind_data(service: Service) -> None:
    async with service.connect() as client, service.connect() as controller:
        await client.send(service.opening("flood", count=100_000_000))
        await client.recv()
        await controller.send(service.opening(role="controller"))
        await asyncio.sleep(0.3)
        began = asyncio.get_running_loop().time()
        await controller.send(control("cancel"))
        told = await both(client, controller)
        assert told[-1]["content"]["error"]["code"] == "ERR_CANCELLED"
        assert asyncio.get_running_loop().time() - began < 5
