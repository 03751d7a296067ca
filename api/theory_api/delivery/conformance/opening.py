"""Cases: health, handshake, and how a connection may begin."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Awaitable, Callable, Iterator
from copy import deepcopy
from typing import Any, Final

from theory_api.delivery.conformance.bench import Bench, frame
from theory_api.delivery.conformance.report import Case, Finding, failed, passed, verdict
from theory_api.delivery.conformance.talk import talk
from theory_core import LIMITS

_PROTOCOL: Final = 1002
_BINARY: Final = 1003
_INVALID: Final = 1008
_TOO_LARGE: Final = 1009
_HALF: Final = 0.5
_OK: Final = 200
HEALTHY: Final = b'{"ok":true}'

Messages = Callable[[Bench], Iterator[tuple[str, str | bytes]]]
"""What is tried: a few words, and the message."""


async def _health(bench: Bench) -> Finding:
    answer = await bench.target.health()
    seen = f"{answer.status_code} {answer.content[:80]!r}"
    return verdict(None if (answer.status_code, answer.content) == (_OK, HEALTHY) else seen, seen)


async def _subprotocol(bench: Bench) -> Finding:
    for offered in (None, "chat"):
        code = await bench.close_after(subprotocol=offered)
        if code != _PROTOCOL:
            return failed(f"offered {offered or 'none'}: {_closed(code)}")
    return passed("none offered, another offered: 1002")


async def _agreed(bench: Bench) -> Finding:
    async with talk(bench.target) as client:
        agreed = client.connection.subprotocol
    return verdict(None if agreed == "theory.run.v1" else f"answered {agreed}", f"{agreed}")


async def _silence(bench: Bench) -> Finding:
    loop, most = asyncio.get_running_loop(), bench.pace.silence_s
    began = loop.time()
    async with talk(bench.target) as client:
        try:
            async with asyncio.timeout(most + bench.pace.answer_s):
                await client.next()
        except TimeoutError:
            return failed(f"still open after {most + bench.pace.answer_s:.0f} s")
    spent = loop.time() - began
    told = f"{_closed(client.heard.close)} after {spent:.1f} s"
    kept = client.heard.close == _INVALID and spent > most * _HALF
    return passed(told) if kept else failed(told)


async def _pong(bench: Bench) -> Finding:
    async with talk(bench.target) as client, asyncio.timeout(bench.pace.answer_s):
        await (await client.connection.ping())
    return passed("a ping was answered")


async def _fragments(bench: Bench) -> Finding:
    order = bench.order()
    text = order.opening()
    third = len(text) // 3
    async with asyncio.timeout(bench.pace.run_s), talk(bench.target) as client:
        await client.connection.send([text[:third], text[third : 2 * third], text[2 * third :]])
        frame_of_result = await client.until("RunResult")
    return verdict(None if frame_of_result else client.heard.told, "a RunOpen in three fragments")


def _refusal(code: int, messages: Messages) -> Callable[[Bench], Awaitable[Finding]]:
    """A judge: each of these messages, said first, closes the connection with this code."""

    async def judge(bench: Bench) -> Finding:
        tried = []
        for words, message in messages(bench):
            seen = await bench.close_after(message)
            if seen != code:
                return failed(f"{words}: {_closed(seen)}, where {code} is due")
            tried.append(words)
        return passed(f"{', '.join(tried)}: {code}")

    return judge


def _closed(code: int | None) -> str:
    return "stayed open" if code is None else f"closed with {code}"


# -- what is said


def _binary(bench: Bench) -> Iterator[tuple[str, bytes]]:
    yield "a binary frame", bench.order().opening().encode()


def _syntax(_bench: Bench) -> Iterator[tuple[str, str]]:
    yield "no JSON", "hello"
    yield "an array", "[]"


def _twice_named(bench: Bench) -> Iterator[tuple[str, str]]:
    opening = bench.order().opening()
    yield "a name twice", opening.replace('"kind"', '"kind": "Control", "kind"', 1)


def _kind(_bench: Bench) -> Iterator[tuple[str, str]]:
    yield "Control first", frame("Control", op="cancel")
    yield "an unknown kind", frame("Hello")


def _role(bench: Bench) -> Iterator[tuple[str, str]]:
    order = bench.order()
    yield "an unknown role", frame("RunOpen", role="king", execution_id=order.execution_id)


def _role_payload(bench: Bench) -> Iterator[tuple[str, str]]:
    order = bench.order()
    yield "an observer with a payload", order.attaching("observer", payload=dict(order.payload))


def _no_run(bench: Bench) -> Iterator[tuple[str, str]]:
    yield "a client without a payload", bench.order().attaching("client")
    yield "an observer of no run", bench.order().attaching("observer")


def _mode(bench: Bench) -> Iterator[tuple[str, str]]:
    yield "mode dry", bench.order(mode="dry").opening()


def _payload(bench: Bench) -> Iterator[tuple[str, str]]:
    order = bench.order()
    missing = {name: item for name, item in order.payload.items() if name != "upload"}
    yield "no upload", order.opening(payload=missing)
    yield "a prefix outside the facets", bench.order(write_prefix="/tmp/x/").opening()  # noqa: S108
    yield "a time limit of 0", bench.order(timeout_s=0).opening()
    yield "a secret named twice", bench.order(secrets=["A", "A"]).opening()
    yield "inputs without a schema", bench.order(inputs={"params": {}}).opening()


def _unknown(bench: Bench) -> Iterator[tuple[str, str]]:
    name = f"x{secrets.token_hex(2)}"
    for place, path in (("the frame", ()), ("RunOpen", ("content",)), ("the payload", _DEEP)):
        document: dict[str, Any] = json.loads(bench.order().opening())
        inner = document = deepcopy(document)
        for step in path:
            inner = inner[step]
        inner[name] = 1
        yield f"an unknown member of {place}", json.dumps(document)


_DEEP: Final = ("content", "payload")


def _large(bench: Bench) -> Iterator[tuple[str, str]]:
    padding = "x" * LIMITS["frame_bytes"]
    yield "a frame over 8 MiB", bench.order().opening(padding=padding)


CASES: Final = (
    Case("health.exact", "§9", 'GET /healthz answers exactly {"ok":true}', _health),
    Case("handshake.agreed", "§9", "the subprotocol theory.run.v1 is agreed", _agreed),
    Case("handshake.required", "§9.3", "without the subprotocol: 1002", _subprotocol),
    Case("handshake.pong", "§9.3", "a ping is answered", _pong),
    Case("open.fragments", "§9", "a frame may come in fragments", _fragments),
    Case("open.silence", "§9.3", "no RunOpen within 10 s: 1008", _silence),
    Case("open.binary", "§9.3", "a binary frame: 1003", _refusal(_BINARY, _binary)),
    Case("open.syntax", "RV-1", "what is no JSON object: 1008", _refusal(_INVALID, _syntax)),
    Case("open.duplicate", "RV-1", "a member named twice: 1008", _refusal(_INVALID, _twice_named)),
    Case("open.kind", "RV-14", "another first frame: 1002", _refusal(_PROTOCOL, _kind)),
    Case("open.role", "RV-6", "an unknown role: 1008", _refusal(_INVALID, _role)),
    Case(
        "open.starter", "§9.1", "only a client brings a payload", _refusal(_INVALID, _role_payload)
    ),
    Case("open.no-run", "§9.1", "nothing to attach to: 1008", _refusal(_INVALID, _no_run)),
    Case("open.mode", "§11.2", "another mode: 1008", _refusal(_INVALID, _mode)),
    Case("open.payload", "RV-7", "an invalid payload: 1008", _refusal(_INVALID, _payload)),
    Case("open.unknown", "RV-4", "an unknown member: 1008", _refusal(_INVALID, _unknown)),
    Case("open.large", "RV-5", "a frame over 8 MiB: 1009", _refusal(_TOO_LARGE, _large)),
)
