from __future__ import annotations

from typing import Any

import pytest

from theory_api.web.connection import Message, Receive, Scope, Send
from theory_api.web.gate import STATE_KEY, Gate, depth_exceeds
from theory_core import canonicalize, loads_strict


class Inner:
    """Stands for the framework: keeps what the gate let through."""

    def __init__(self) -> None:
        self.body: bytes | None = None
        self.scope: Scope = {}

    async def __call__(self, scope: Scope, receive: Receive, _send: Send) -> None:
        self.scope = scope
        if scope["type"] == "http":
            self.body = (await receive())["body"]


async def passes(
    *pieces: bytes,
    headers: tuple[tuple[bytes, bytes], ...] = ((b"content-type", b"application/json"),),
    method: str = "POST",
    path: str = "/v1/plans",
    query: bytes = b"",
) -> tuple[Inner, list[Message]]:
    inner, sent = Inner(), []
    queue: list[Message] = [
        {"type": "http.request", "body": piece, "more_body": index < len(pieces) - 1}
        for index, piece in enumerate(pieces or (b"",))
    ]

    async def receive() -> Message:
        return queue.pop(0) if queue else {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        sent.append(message)

    scope: dict[str, Any] = {
        "type": "http",
        "method": method,
        "path": path,
        "query_string": query,
        "headers": list(headers),
        "state": {},
    }
    await Gate(inner)(scope, receive, send)
    return inner, sent


def refusal(sent: list[Message]) -> tuple[int, str, dict[str, Any]]:
    problem = loads_strict(sent[1]["body"])
    assert dict(sent[0]["headers"])[b"content-type"] == b"application/problem+json"
    assert problem["status"] == sent[0]["status"]
    return sent[0]["status"], problem["code"], problem["facts"]


async def test_a_document_is_handed_on_as_it_came_with_its_canonical_form_beside_it() -> None:
    inner, sent = await passes(b'{ "b": 1.0,', b' "a": "\\u00e9" }')
    assert sent == []
    assert inner.body == b'{ "b": 1.0, "a": "\\u00e9" }'
    assert inner.scope["state"][STATE_KEY] == '{"a":"é","b":1}'.encode()
    assert (b"content-length", str(len(inner.body)).encode()) in inner.scope["headers"]


async def test_an_empty_body_counts_as_an_empty_object() -> None:
    inner, _ = await passes(headers=())
    assert inner.body == b"{}"


@pytest.mark.scenario(37, 38, 39)
@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b'{"a":1,"a":2}', "ERR_JSON_DUPLICATE"),
        (b'{"a":1,"\\u0061":2}', "ERR_JSON_DUPLICATE"),
        (b'{"a":"\xff"}', "ERR_JSON_UTF8"),
        (b'\xef\xbb\xbf{"a":1}', "ERR_JSON_SYNTAX"),
        (b'{"a":NaN}', "ERR_JSON_SYNTAX"),
        (b'{"a":9007199254740993}', "ERR_JSON_NUMBER"),
        (b'{"a":"\\ud800"}', "ERR_JSON_UNICODE"),
        (b'{"a":1} x', "ERR_JSON_SYNTAX"),
        (b'{"a":', "ERR_JSON_SYNTAX"),
        (b"[" * 5000 + b"]" * 5000, "ERR_JSON_DEPTH"),
        (b"[" * 65 + b"]" * 65, "ERR_JSON_DEPTH"),
    ],
)
async def test_what_is_not_strict_json_is_400_with_the_reason(body: bytes, reason: str) -> None:
    inner, sent = await passes(body)
    assert inner.body is None
    status, code, facts = refusal(sent)
    assert (status, code, facts["reason"]) == (400, "ERR_INPUTS", reason)


async def test_a_document_of_exactly_the_allowed_depth_passes() -> None:
    inner, sent = await passes(b"[" * 64 + b"]" * 64)
    assert sent == []
    assert inner.body == b"[" * 64 + b"]" * 64


@pytest.mark.scenario(46, 47)
@pytest.mark.parametrize(
    "headers",
    [
        ((b"content-type", b"text/plain"),),
        ((b"content-type", b"application/json; charset=latin-1"),),
        ((b"content-type", b"multipart/form-data; boundary=x"),),
        ((b"content-type", b"application/json"), (b"content-encoding", b"gzip")),
        (),
    ],
)
async def test_another_media_type_or_encoding_is_415(
    headers: tuple[tuple[bytes, bytes], ...],
) -> None:
    inner, sent = await passes(b"{}", headers=headers)
    assert inner.body is None
    assert refusal(sent)[:2] == (415, "ERR_INPUTS")


async def test_yaml_is_taken_where_plans_are_created_and_nowhere_else() -> None:
    yaml = ((b"content-type", b"application/yaml"),)
    inner, _ = await passes(b"schema: theory.plan.v1\nplan: p1\n", headers=yaml)
    assert inner.body == b'{"document":{"schema":"theory.plan.v1","plan":"p1"}}'
    _, sent = await passes(b"a: 1\n", headers=yaml, path="/v1/plans/local/p1/cancel")
    assert refusal(sent)[0] == 415


async def test_malformed_yaml_names_its_line() -> None:
    headers = ((b"content-type", b"application/yaml"),)
    _, sent = await passes(b"a: 1\na: 2\n", headers=headers)
    status, code, facts = refusal(sent)
    assert (status, code, facts["line"]) == (400, "ERR_PLAN_INVALID", 2)


@pytest.mark.scenario(46)
@pytest.mark.parametrize("claimed", [b"8388609", b"99999999999999999999999", b"-1", b"1e3", b""])
async def test_a_claimed_length_above_the_cap_is_413_before_anything_is_read(
    claimed: bytes,
) -> None:
    headers = ((b"content-type", b"application/json"), (b"content-length", claimed))
    _, sent = await passes(b"{}", headers=headers)
    assert refusal(sent)[:2] == (413, "ERR_TOO_LARGE")


@pytest.mark.scenario(46)
async def test_a_chunked_body_is_cut_at_the_cap() -> None:
    mebibyte = b" " * (1 << 20)
    inner, _ = await passes(b'"', *[mebibyte] * 7, b" " * ((1 << 20) - 2), b'"')
    assert inner.body is not None
    inner, sent = await passes(b'"', *[mebibyte] * 8, b'"')
    assert inner.body is None
    assert refusal(sent)[:2] == (413, "ERR_TOO_LARGE")


@pytest.mark.scenario(48)
@pytest.mark.parametrize("name", [b"idempotency-key", b"content-type", b"content-length"])
async def test_a_header_that_is_there_twice_is_400(name: bytes) -> None:
    value = b"application/json" if name == b"content-type" else b"2"
    headers = ((b"content-type", b"application/json"), (name, value), (name, value))
    _, sent = await passes(b"{}", headers=headers)
    status, code, facts = refusal(sent)
    assert (status, code, facts["reason"]) == (400, "ERR_INPUTS", "header")


@pytest.mark.scenario(48)
async def test_a_query_parameter_that_is_there_twice_is_400() -> None:
    _, sent = await passes(method="GET", headers=(), query=b"limit=1&limit=2")
    assert refusal(sent)[2]["reason"] == "query"


async def test_a_body_that_breaks_off_reaches_nobody() -> None:
    inner = Inner()
    sent: list[Message] = []
    queue: list[Message] = [
        {"type": "http.request", "body": b"{", "more_body": True},
        {"type": "http.disconnect"},
    ]

    async def receive() -> Message:
        return queue.pop(0)

    async def send(message: Message) -> None:
        sent.append(message)

    scope: dict[str, Any] = {
        "type": "http",
        "method": "POST",
        "path": "/v1/plans",
        "query_string": b"",
        "headers": [(b"content-type", b"application/json")],
    }
    await Gate(inner)(scope, receive, send)
    assert inner.body is None
    assert refusal(sent)[0] == 400


@pytest.mark.parametrize(
    ("value", "depth"),
    [
        (1, 0),
        ([], 1),
        ({"a": [1, {"b": []}]}, 4),
        ({'}]"': "[[[[", "\\": ["\\"]}, 2),
        ([[], [], [[]]], 3),
    ],
)
def test_depth_counts_nested_containers_outside_of_text(value: object, depth: int) -> None:
    canonical = canonicalize(value)
    padded = canonicalize([value, *[[]] * 50])
    assert not depth_exceeds(padded, depth + 1 if depth else 2)
    assert not depth_exceeds(canonical, depth)
    if depth > 1:
        assert depth_exceeds(padded, depth)
