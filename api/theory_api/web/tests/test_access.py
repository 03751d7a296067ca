from __future__ import annotations

from typing import Any

import pytest

from theory_api.web.access import Access, is_loopback
from theory_api.web.connection import Message, Receive, Scope, Send
from theory_core import loads_strict

KEY = (b"authorization", b"Bearer abcdefghijklmnop")
HOST = (b"host", b"127.0.0.1:8000")


async def enter(
    *headers: tuple[bytes, bytes],
    path: str = "/v1/plans",
    kind: str = "http",
    extensions: dict[str, Any] | None = None,
) -> tuple[bool, list[Message]]:
    entered, sent = False, []

    async def app(_scope: Scope, _receive: Receive, _send: Send) -> None:
        nonlocal entered
        entered = True

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {"type": kind, "path": path, "headers": list(headers), "extensions": extensions}
    await Access(app, key="abcdefghijklmnop")(scope, receive, send)
    return entered, sent


async def test_the_key_opens_the_door() -> None:
    assert await enter(HOST, KEY) == (True, [])
    assert await enter(HOST, (b"authorization", b"bearer  abcdefghijklmnop ")) == (True, [])


@pytest.mark.parametrize(
    "headers",
    [
        (),
        ((b"authorization", b"Bearer wrong"),),
        ((b"authorization", b"Basic abcdefghijklmnop"),),
        ((b"authorization", b"abcdefghijklmnop"),),
        ((b"authorization", "Bearer é".encode("latin-1")),),
        ((b"cookie", b"key=abcdefghijklmnop"),),
    ],
)
async def test_without_the_key_it_is_401_with_a_challenge(
    headers: tuple[tuple[bytes, bytes], ...],
) -> None:
    entered, sent = await enter(HOST, *headers)
    assert not entered
    assert sent[0]["status"] == 401
    assert dict(sent[0]["headers"])[b"www-authenticate"].startswith(b"Bearer")
    assert loads_strict(sent[1]["body"])["code"] == "ERR_UNAUTHENTICATED"


@pytest.mark.scenario(48)
async def test_two_authorization_headers_are_400() -> None:
    entered, sent = await enter(HOST, KEY, KEY)
    assert (entered, sent[0]["status"]) == (False, 400)


async def test_health_needs_no_key_but_a_host_of_this_machine() -> None:
    assert (await enter(HOST, path="/healthz"))[0]
    assert not (await enter((b"host", b"evil.example"), path="/healthz"))[0]


@pytest.mark.parametrize(
    "host",
    [
        b"evil.example",
        b"127.0.0.1.evil.example:8000",
        b"localhost.evil.example",
        b"user@localhost",
        b"localhost/x",
        b"10.0.0.1",
        b"0.0.0.0:8000",
        b"localhost:99999",
        b"",
    ],
)
async def test_a_foreign_host_is_403_even_with_the_key(host: bytes) -> None:
    entered, sent = await enter((b"host", host), KEY)
    assert (entered, sent[0]["status"]) == (False, 403)


async def test_two_host_headers_or_none_are_403() -> None:
    assert (await enter(HOST, HOST, KEY))[1][0]["status"] == 403
    assert (await enter(KEY))[1][0]["status"] == 403


@pytest.mark.scenario(91)
@pytest.mark.parametrize(
    "origin", [b"http://evil.example", b"null", b"http://127.0.0.1:9999", b"x"]
)
async def test_another_origin_is_403_for_http_and_websocket(origin: bytes) -> None:
    entered, sent = await enter(HOST, KEY, (b"origin", origin))
    assert (entered, sent[0]["status"]) == (False, 403)
    extensions: dict[str, Any] = {"websocket.http.response": {}}
    headers = (HOST, KEY, (b"origin", origin))
    entered, sent = await enter(*headers, kind="websocket", extensions=extensions)
    assert not entered
    assert (sent[0]["type"], sent[0]["status"]) == ("websocket.http.response.start", 403)


async def test_the_own_origin_passes() -> None:
    assert (await enter(HOST, KEY, (b"origin", b"http://127.0.0.1:8000"), kind="websocket"))[0]


async def test_a_server_that_cannot_answer_a_handshake_closes_it() -> None:
    entered, sent = await enter(HOST, kind="websocket")
    assert not entered
    assert sent == [{"type": "websocket.close", "code": 1008, "reason": "ERR_UNAUTHENTICATED"}]


async def test_a_key_in_the_address_opens_nothing() -> None:
    entered, _ = await enter(HOST, path="/v1/plans?key=abcdefghijklmnop")
    assert not entered


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("[::1]", True),
        ("localhost", True),
        ("LOCALHOST", True),
        ("0.0.0.0", False),  # noqa: S104 - the address under test
        ("::", False),
        ("192.168.1.1", False),
        ("example.test", False),
    ],
)
def test_loopback_is_what_can_only_mean_this_machine(host: str, loopback: bool) -> None:  # noqa: FBT001
    assert is_loopback(host) is loopback
