"""The strict JSON gate: what reaches a controller is a document with one meaning, or nothing."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable
from typing import Final, NamedTuple
from urllib.parse import parse_qsl

import msgspec

from theory_api.domain.documents import parse_document
from theory_api.web.connection import App, Message, Receive, Scope, Send, values
from theory_api.web.problem import refuse
from theory_core import LIMITS, TheoryError, canonicalize_json

_BODYLESS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_ONCE: Final = (
    b"content-type",
    b"content-length",
    b"content-encoding",
    b"idempotency-key",
    b"if-none-match",
    b"last-event-id",
)
_JSON: Final = "application/json"
_YAML: Final = frozenset({"application/yaml", "application/x-yaml", "text/yaml"})
_YAML_PATHS: Final = frozenset({"/v1/plans", "/v1/plans/"})
_UNSUPPORTED: Final = 415
_OFF_LOOP: Final = 256 * 1024
"""Bodies larger than this are parsed in a thread, so that others go on."""

_STRINGS: Final = re.compile(rb'"(?:[^"\\]|\\.)*"')
_BRACKETS: Final = bytes.maketrans(b"{}", b"[]")
_REST: Final = bytes(byte for byte in range(256) if byte not in b"[]{}")

STATE_KEY: Final = "theory.canonical_body"
"""Where a request's scope state holds the canonical bytes of its body."""


class _Refusal(Exception):  # noqa: N818
    """A request that goes no further; `status` is 415 where its media type is the reason."""

    def __init__(self, error: TheoryError, status: int | None = None) -> None:
        super().__init__(error.code)
        self.error = error
        self.status = status


class _Read(NamedTuple):
    """A body that was read strictly."""

    body: bytes
    """JSON; its members stand in the order in which they were sent."""
    canonical: bytes


class Gate:
    """Reads, caps and parses request bodies, and hands on what is strict JSON.

    Law: a document that a controller sees has one meaning: no duplicate names, no invalid UTF-8,
    no number that a parser could change, depth and size within the limits.
    """

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on with its body replayed, or refuse it with a problem."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        try:
            _check_query(scope["query_string"])
            if scope["type"] == "http":
                _check_headers(scope)
                if scope["method"] not in _BODYLESS:
                    receive = await self._document(scope, receive)
        except _Refusal as refusal:
            await refuse(scope, send, refusal.error, status=refusal.status, headers=_CLOSE)
            return
        await self._app(scope, receive, send)

    async def _document(self, scope: Scope, receive: Receive) -> Receive:
        media = _media_type(scope)
        body = await _read(scope, receive)
        if media is None and body:
            raise _Refusal(_inputs("send application/json", "media_type"), _UNSUPPORTED)
        if len(body) > _OFF_LOOP:
            read = await asyncio.to_thread(_strict, body, media)
        else:
            read = _strict(body, media)
        scope["headers"] = [
            *_without(scope["headers"], (b"content-type", b"content-length")),
            (b"content-type", _JSON.encode()),
            (b"content-length", str(len(read.body)).encode()),
        ]
        scope.setdefault("state", {})[STATE_KEY] = read.canonical
        return _replay(read.body, receive)


_CLOSE: Final = [(b"connection", b"close")]
"""The rest of a refused body is not read, so its connection cannot be used again."""


def _check_query(query: bytes) -> None:
    names = [name for name, _ in parse_qsl(query.decode("latin-1"), keep_blank_values=True)]
    if len(names) != len(set(names)):
        raise _Refusal(_inputs("a query parameter is there twice", "query"))


def _check_headers(scope: Scope) -> None:
    for name in _ONCE:
        if len(values(scope, name)) > 1:
            text = f"the {name.decode().title()} header is there twice"
            raise _Refusal(_inputs(text, "header"))


def _media_type(scope: Scope) -> str | None:
    """The media type, or None where none is given; 415 for one that this address does not take."""
    if any(value.lower() != "identity" for value in values(scope, b"content-encoding")):
        raise _Refusal(_inputs("send the body without content encoding", "encoding"), _UNSUPPORTED)
    given = values(scope, b"content-type")
    if not given:
        return None
    media, _, parameters = given[0].partition(";")
    media = media.strip().lower()
    charset = parameters.replace(" ", "").replace('"', "").lower()
    takes_yaml = scope["path"] in _YAML_PATHS
    if media != _JSON and not (takes_yaml and media in _YAML):
        takes = "application/json or application/yaml" if takes_yaml else _JSON
        raise _Refusal(_inputs(f"send {takes}", "media_type"), _UNSUPPORTED)
    if charset not in {"", "charset=utf-8"}:
        raise _Refusal(_inputs("send UTF-8", "media_type"), _UNSUPPORTED)
    return media


async def _read(scope: Scope, receive: Receive) -> bytes:
    """The whole body, never more than the cap in memory, whatever its length claims."""
    cap = LIMITS["request_body_bytes"]
    for length in values(scope, b"content-length"):
        if not (length.isascii() and length.isdigit()) or int(length[:20]) > cap:
            raise _Refusal(_too_large(cap))
    pieces: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] != "http.request":
            raise _Refusal(_inputs("the body was not sent to its end", "body"))
        piece = message.get("body", b"")
        size += len(piece)
        if size > cap:
            raise _Refusal(_too_large(cap))
        pieces.append(piece)
        if not message.get("more_body", False):
            return b"".join(pieces)


def _strict(body: bytes, media: str | None) -> _Read:
    """A body that has one meaning, as JSON; an empty one counts as `{}`."""
    if not body:
        return _Read(b"{}", b"{}")
    try:
        if media in _YAML:
            body = msgspec.json.encode({"document": parse_document(body, name="request.yaml")})
        canonical = canonicalize_json(body)
    except TheoryError as error:
        if not error.code.startswith("ERR_JSON_"):
            raise _Refusal(error) from error
        facts = {"reason": error.code, **error.detail}
        message = f"invalid inputs payload: {error.message}"
        raise _Refusal(TheoryError("ERR_INPUTS", message, facts)) from error
    if depth_exceeds(canonical, LIMITS["document_depth"]):
        cap = LIMITS["document_depth"]
        facts = {"reason": "ERR_JSON_DEPTH", "limit": cap}
        message = f"invalid inputs payload: the document is nested deeper than {cap}"
        raise _Refusal(TheoryError("ERR_INPUTS", message, facts))
    return _Read(body, canonical)


def depth_exceeds(canonical: bytes, limit: int) -> bool:
    """Whether canonical JSON nests deeper than `limit`; a scalar has depth 0, `[]` 1."""
    if canonical.count(b"[") + canonical.count(b"{") <= limit:
        return False
    nested = _STRINGS.sub(b"", canonical).translate(_BRACKETS, _REST)
    for _ in range(limit):
        nested = nested.replace(b"[]", b"")
    return bool(nested)


def _replay(body: bytes, receive: Receive) -> Receive:
    """A `receive` that hands out `body` once, then whatever the connection says."""
    sent = False

    async def replayed() -> Message:
        nonlocal sent
        if sent:
            return await receive()
        sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replayed


def _without(
    headers: Iterable[tuple[bytes, bytes]], names: tuple[bytes, ...]
) -> list[tuple[bytes, bytes]]:
    return [(name, value) for name, value in headers if name.lower() not in names]


def _inputs(text: str, reason: str) -> TheoryError:
    return TheoryError("ERR_INPUTS", f"invalid inputs payload: {text}", {"reason": reason})


def _too_large(cap: int) -> TheoryError:
    message = f"the request body is larger than {cap} bytes"
    return TheoryError("ERR_TOO_LARGE", message, {"limit": cap})
