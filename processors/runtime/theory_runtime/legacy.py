"""The legacy doors `POST /run` and `POST /run-stream`: one run an exchange, the same envelope."""

import asyncio
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any, Final

from theory_core import (
    ERROR_CODES,
    RunProtocol,
    TheoryError,
    canonicalize,
    encode_frame,
    loads_strict,
)
from theory_runtime.fault import fault, reason_of
from theory_runtime.record import Numbered
from theory_runtime.request import Request, read_request
from theory_runtime.run import Run

RUN: Final = "/run"
RUN_STREAM: Final = "/run-stream"
DEPRECATION: Final = "@1795219200"
"""Since when these doors are deprecated (RFC 9745): 2026-11-21."""
KEEP_ALIVE_S: Final = 20.0
"""How long an event stream may be silent; a comment is sent then, for what lies between."""

JSON: Final = "application/json"
PROBLEM: Final = "application/problem+json"
EVENTS: Final = "text/event-stream"
_BODY: Final = frozenset({"execution_id", "payload"})
_DIGEST_HEADER: Final = "Theory-Image-Digest"

Opener = Callable[[Mapping[str, Any]], Run]
"""Starts or finds the run of a `RunOpen`; raises `TheoryError`."""


class Exchange:
    """One request and its answer. Law: who leaves before the end changes nothing for the run."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        opener: Opener,
        *,
        image_digest: str | None = None,
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._opener = opener
        self._image_digest = image_digest

    async def serve(self) -> None:
        """Read the request, answer it, close the connection."""
        try:
            await self._answer()
        except (OSError, EOFError, TimeoutError):
            # Whoever asked has gone, or never finished asking.
            return
        finally:
            self._writer.close()

    async def _answer(self) -> None:
        try:
            request = await read_request(self._reader, self._writer)
            run = self._open(_opening(request))
        except TheoryError as error:
            await self._refuse(error)
            return
        except (OSError, EOFError, TimeoutError):
            raise
        except Exception:
            await self._refuse(fault("ERR_INTERNAL"))
            raise
        if request.path == RUN_STREAM:
            await self._stream(run)
        else:
            await self._result(run)

    def _open(self, opening: Mapping[str, Any]) -> Run:
        try:
            return self._opener(opening)
        except TheoryError as error:
            if error.code == "ERR_RATE_LIMITED":
                raise
            # What closes a WebSocket is here a wrong body: the same execution, another payload.
            raise fault("ERR_INPUTS", reason_of(error)) from error

    async def _result(self, run: Run) -> None:
        """The envelope, once there is one; a crash is told by the status too."""
        seen = 0
        while not (frame := await run.record.news(seen)).final:
            seen = frame.seq
        envelope = loads_strict(frame.text)["content"]
        code = envelope["error"]["code"] if envelope["status"] == "error" else None
        status = HTTPStatus.INTERNAL_SERVER_ERROR if code == "ERR_INTERNAL" else HTTPStatus.OK
        await self._send(status, JSON, canonicalize(envelope))

    async def _stream(self, run: Run) -> None:
        """Every frame as a `progress` event, the envelope as `done`; holes are announced."""
        self._head(HTTPStatus.OK, EVENTS, {"Transfer-Encoding": "chunked"})
        seen, done = 0, False
        while not done:
            try:
                async with asyncio.timeout(KEEP_ALIVE_S):
                    frame = await run.record.news(seen)
            except TimeoutError:
                await self._chunk(b": still running\n\n")
                continue
            if frame.seq > seen + 1:
                gap = encode_frame("Gap", {"from": seen + 1, "to": frame.seq - 1}, seq=0)
                await self._chunk(_event("progress", gap))
            await self._chunk(_told(frame))
            seen, done = frame.seq, frame.final
        self._writer.write(b"0\r\n\r\n")
        await self._writer.drain()

    async def _refuse(self, error: TheoryError) -> None:
        """A problem with a code: what was wrong with the request, never an envelope."""
        entry = ERROR_CODES[error.code]
        stated = error.detail.get("status")
        status = HTTPStatus(stated if isinstance(stated, int) else entry.status)
        problem = {
            "type": "about:blank",
            "title": entry.summary,
            "status": int(status),
            "code": error.code,
        }
        reason = reason_of(error)
        if reason is not None:
            problem["detail"] = reason
        await self._send(status, PROBLEM, canonicalize(problem))

    async def _send(self, status: HTTPStatus, mime: str, body: bytes) -> None:
        self._head(status, mime, {"Content-Length": str(len(body))})
        self._writer.write(body)
        await self._writer.drain()

    def _head(self, status: HTTPStatus, mime: str, more: Mapping[str, str]) -> None:
        headers = {
            "Content-Type": mime,
            "Deprecation": DEPRECATION,
            "Cache-Control": "no-store",
            "Connection": "close",
            **more,
        }
        if self._image_digest is not None:
            headers[_DIGEST_HEADER] = self._image_digest
        lines = [f"HTTP/1.1 {status.value} {status.phrase}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        self._writer.write("\r\n".join([*lines, "", ""]).encode("latin-1"))

    async def _chunk(self, data: bytes) -> None:
        self._writer.write(b"%x\r\n%s\r\n" % (len(data), data))
        await self._writer.drain()


def _opening(request: Request) -> Mapping[str, Any]:
    """The `RunOpen` that a request amounts to (spec: run.v1).

    Raises `TheoryError`: `ERR_NOT_FOUND`; `ERR_INPUTS`, with `detail.status` 415 for a media type.
    """
    if request.path not in {RUN, RUN_STREAM}:
        raise fault("ERR_NOT_FOUND", "path")
    if request.media_type != JSON:
        status = int(HTTPStatus.UNSUPPORTED_MEDIA_TYPE)
        raise fault("ERR_INPUTS", "media_type", status=status)
    try:
        body = loads_strict(request.body)
        if not isinstance(body, dict) or body.keys() != _BODY:
            raise fault("ERR_INPUTS", "members")
        text = canonicalize({"kind": "RunOpen", "content": {"role": "client", **body}})
        opening: Mapping[str, Any] = RunProtocol("server").receive(text)["content"]
    except TheoryError as error:
        if error.code in {"ERR_INPUTS", "ERR_TOO_LARGE"}:
            raise
        place = error.detail.get("place")
        reason = error.code if error.code.startswith("ERR_JSON_") else str(place or "payload")
        raise fault("ERR_INPUTS", reason) from error
    return opening


def _told(frame: Numbered) -> bytes:
    """A numbered frame as an event, its `seq` as the event's id."""
    if not frame.final:
        return _event("progress", frame.text, frame.seq)
    return _event("done", canonicalize(loads_strict(frame.text)["content"]), frame.seq)


def _event(name: str, data: bytes, seq: int | None = None) -> bytes:
    """One event; canonical JSON has no line break, so its data is one line."""
    number = b"" if seq is None else b"id: %d\n" % seq
    return b"%sevent: %s\ndata: %s\n\n" % (number, name.encode(), data)
