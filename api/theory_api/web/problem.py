"""Errors as RFC 9457 problem details: one body, one table of statuses, nothing of the inside."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
import structlog
from litestar import Request, Response
from litestar.exceptions import HTTPException, ValidationException
from litestar.types import ExceptionHandlersMap

from theory_api.web.connection import Scope, Send
from theory_core import ERROR_CODES, TheoryError

log = structlog.get_logger(__name__)

MEDIA_TYPE: Final = "application/problem+json"

_BAD_REQUEST: Final = 400
_NOT_FOUND: Final = 404
_NOT_ALLOWED: Final = 405
_UNSUPPORTED: Final = 415
_SERVER_ERROR: Final = 500

_AGAIN: Final[Mapping[int, str]] = {429: "1", 503: "5"}
"""Status that passes -> seconds after which to ask again."""

_SAFE_SENTENCES: Final = ("Expected ", "Object missing required field ")
"""Validation sentences that hold types and our own names only, never what the caller sent."""


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """The body of every error answer."""

    type: str
    """`urn:theory:error:{code}`."""
    title: str
    """What the code means, the same for every occurrence."""
    status: int
    detail: str
    """What happened here, and where."""
    code: str
    """One of the stable codes (spec: errors)."""
    remedy: str
    """What to do about it."""
    facts: dict[str, Any]
    """Machine-readable facts, e.g. `reason`, `line`, `dimension`."""


def problem(error: TheoryError, *, status: int | None = None) -> Problem:
    """The problem of an error; `status` only where HTTP has a narrower one (405, 415)."""
    entry = ERROR_CODES[error.code]
    return Problem(
        type=f"urn:theory:error:{error.code}",
        title=entry.summary,
        status=entry.status if status is None else status,
        detail=error.message,
        code=error.code,
        remedy=entry.remedy,
        facts=dict(error.detail),
    )


def answer(
    error: TheoryError, *, status: int | None = None, headers: Mapping[str, str] | None = None
) -> Response[bytes]:
    """The Litestar response of an error."""
    body = problem(error, status=status)
    return Response(
        msgspec.json.encode(body),
        status_code=body.status,
        media_type=MEDIA_TYPE,
        headers={"cache-control": "no-store", **_again(body.status), **(headers or {})},
    )


async def refuse(
    scope: Scope,
    send: Send,
    error: TheoryError,
    *,
    status: int | None = None,
    headers: Sequence[tuple[bytes, bytes]] = (),
) -> None:
    """Send an error before any framework runs; also to a WebSocket that was not accepted yet."""
    body = problem(error, status=status)
    data = msgspec.json.encode(body)
    head = [
        (b"content-type", MEDIA_TYPE.encode()),
        (b"content-length", str(len(data)).encode()),
        (b"cache-control", b"no-store"),
        *((name.encode(), value.encode()) for name, value in _again(body.status).items()),
        *headers,
    ]
    kind = "http.response"
    if scope["type"] == "websocket":
        if "websocket.http.response" not in (scope.get("extensions") or {}):
            await send({"type": "websocket.close", "code": 1008, "reason": error.code})
            return
        kind = "websocket.http.response"
    await send({"type": f"{kind}.start", "status": body.status, "headers": head})
    await send({"type": f"{kind}.body", "body": data, "more_body": False})
    if kind != "http.response":
        # The server reports a handshake that never ended unless its connection is gone by now.
        await asyncio.sleep(0)


def _again(status: int) -> dict[str, str]:
    """When to come again, where that helps."""
    return {"retry-after": _AGAIN[status]} if status in _AGAIN else {}


def handlers() -> ExceptionHandlersMap:
    """Every exception that can leave a controller, translated at this one boundary."""
    return {
        TheoryError: _theory_error,
        HTTPException: _http_exception,
        Exception: _unexpected,
    }


def report(error: TheoryError) -> None:
    """Tell the operator of a fault that is not the caller's: the event is `error.{code}`."""
    event = f"error.{error.code}"
    log.error(event, reason=error.message)


def _theory_error(_request: Request[Any, Any, Any], error: TheoryError) -> Response[bytes]:
    if ERROR_CODES[error.code].status >= _SERVER_ERROR:
        report(error)
    return answer(error)


def _http_exception(request: Request[Any, Any, Any], error: HTTPException) -> Response[bytes]:
    if isinstance(error, ValidationException):
        return answer(_invalid(error))
    if error.status_code == _NOT_FOUND:
        return answer(TheoryError("ERR_NOT_FOUND", "nothing is at this address", {}))
    if error.status_code == _NOT_ALLOWED:
        message = "invalid inputs payload: this address does not take this method"
        return answer(
            TheoryError("ERR_INPUTS", message, {"reason": "method"}),
            status=_NOT_ALLOWED,
            headers=error.headers,
        )
    if _BAD_REQUEST <= error.status_code < _SERVER_ERROR:
        message = "invalid inputs payload: the request cannot be read"
        status = _UNSUPPORTED if error.status_code == _UNSUPPORTED else None
        return answer(TheoryError("ERR_INPUTS", message, {"reason": "schema"}), status=status)
    return _unexpected(request, error)


def _invalid(error: ValidationException) -> TheoryError:
    """Which member is wrong and what was expected; never what was sent."""
    entries = error.extra if isinstance(error.extra, list) else []
    facts: dict[str, Any] = {"reason": "schema"}
    message = "invalid inputs payload: the request does not fit its schema"
    for entry in entries[:1]:
        sentence, place = str(entry.get("message", "")), str(entry.get("key", ""))
        source = entry.get("source")
        facts |= {"place": place[:128]} if place.isprintable() and place else {}
        where = f"{getattr(source, 'value', source)} {place[:128]}".strip() if source else place
        if sentence.startswith(_SAFE_SENTENCES):
            message = f"invalid inputs payload: {where}: {sentence[:256]}"
        elif place:
            message = f"invalid inputs payload: {where} is not what the schema asks for"
    return TheoryError("ERR_INPUTS", message, facts)


def _unexpected(_request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    log.error("error.ERR_INTERNAL", exc_info=error)
    message = "the request failed inside; the operator's log says where"
    return answer(TheoryError("ERR_INTERNAL", message, {}))
