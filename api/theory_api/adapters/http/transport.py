"""Has a run done by `POST /run-stream`: frames as they come, the envelope at the end."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any, Final

import httpx
import structlog

from theory_api.adapters.http.events import Told, events
from theory_api.adapters.run_v1.calling import coded
from theory_api.adapters.run_v1.inflow import Inflow
from theory_api.adapters.run_v1.remote import DIGEST_HEADER, Call, Speech
from theory_core import (
    ERROR_CODES,
    LIMITS,
    RunProtocol,
    TheoryError,
    canonicalize,
    encode_frame,
    loads_strict,
    validate_envelope,
)

log = structlog.get_logger(__name__)

_JSON: Final = "application/json"
_EVENTS: Final = "text/event-stream"
_CONNECT_S: Final = 15.0
_SILENT_S: Final = 60.0
"""A server says something every 20 s; three times that, and it is not there."""
_ANSWER_BYTES: Final = 64 * 1024


def http(fault: str = "ERR_ADAPTER_INVOCATION") -> Speech:
    """Legacy HTTP as a way to speak; `fault` is the code of an exchange that failed.

    The exchange raises `TheoryError`: `fault`, `ERR_INPUTS` for a request that was refused as such,
    `ERR_RATE_LIMITED` for one that the server has no place for, `ERR_TIMEOUT`, `ERR_TOO_LARGE`,
    and the codes of an envelope that is not the answer.
    """

    async def speak(call: Call) -> Mapping[str, Any]:
        return await _Exchange(call, fault).run()

    return speak


class _Exchange:
    """One request and its stream of events."""

    def __init__(self, call: Call, fault: str) -> None:
        self._call = call
        self._fault = fault
        self._frames = RunProtocol("client")
        self._inflow = Inflow()

    async def run(self) -> Mapping[str, Any]:
        call = self._call
        labels = {"execution_id": call.execution_id}
        log.info("http.run.start", **labels)
        timeout = httpx.Timeout(min(_SILENT_S, call.read_s), connect=_CONNECT_S)
        body = canonicalize({"execution_id": call.execution_id, "payload": call.request})
        headers = {
            **call.endpoint.headers,
            "Content-Type": _JSON,
            "Accept": _EVENTS,
            "Accept-Encoding": "identity",
        }
        url = f"{call.endpoint.url}/run-stream"
        try:
            async with (
                httpx.AsyncClient(transport=call.endpoint.transport(), timeout=timeout) as client,
                client.stream("POST", url, content=body, headers=headers) as answer,
            ):
                await self._check(answer)
                envelope = await self._listen(answer)
        except httpx.TimeoutException as error:
            raise coded("ERR_TIMEOUT", "silence") from error
        except httpx.HTTPError as error:
            raise coded(self._fault, type(error).__name__) from error
        log.info("http.run.settle", status=envelope.get("status"), **labels)
        return envelope

    async def _check(self, answer: httpx.Response) -> None:
        """Law: a redirect, or anything but an event stream, is no answer to a run."""
        mime = answer.headers.get("Content-Type", "").partition(";")[0].strip()
        if answer.status_code == httpx.codes.OK and mime == _EVENTS:
            return
        if answer.is_redirect or answer.status_code < httpx.codes.BAD_REQUEST:
            raise coded(self._fault, f"status {answer.status_code}")
        code = await _stated(answer)
        if code in {"ERR_INPUTS", "ERR_RATE_LIMITED"}:
            raise coded(code, f"status {answer.status_code}")
        raise coded(self._fault, f"status {answer.status_code}")

    async def _listen(self, answer: httpx.Response) -> Mapping[str, Any]:
        self._frames.send("RunOpen", {"role": "client", **self._opening()})
        # Judged like a frame that came: what it says of an image is the server's word.
        await self._hear(canonicalize({"kind": "Ack", "seq": 0, "content": self._greeting(answer)}))
        async for told in events(self._pieces(answer)):
            await self._inflow.took(0)
            if told.name == "progress":
                await self._hear(told.data)
            elif told.name == "done":
                return await self._settle(told)
        raise coded(self._fault, "the stream ended without a result")

    async def _pieces(self, answer: httpx.Response) -> AsyncIterator[bytes]:
        """What comes, as fast as it may; what is no event at all counts like one."""
        async for piece in answer.aiter_raw():
            await self._inflow.took(len(piece))
            yield piece

    async def _settle(self, told: Told) -> Mapping[str, Any]:
        """The envelope, if it is the answer to this request; watchers get it as a frame."""
        call = self._call
        envelope = validate_envelope(
            told.data,
            execution_id=call.execution_id,
            write_prefix=call.request["write_prefix"],
            expected_digest=call.expected_oci,
        )
        seq = self._frames.next_seq
        await self._hear(encode_frame("RunResult", envelope, seq=seq))
        return envelope

    async def _hear(self, data: bytes) -> None:
        """Hand on a frame that the rules of `theory.run.v1` allow at this place."""
        try:
            frame = self._frames.receive(data)
        except TheoryError as error:
            raise coded(self._fault, f"frame {error.code}") from error
        if self._call.on_frame is not None:
            await self._call.on_frame(frame)

    def _opening(self) -> dict[str, Any]:
        return {"execution_id": self._call.execution_id, "payload": dict(self._call.request)}

    def _greeting(self, answer: httpx.Response) -> dict[str, Any]:
        """What a greeting would say: legacy HTTP says the image in a header."""
        greeting = {"execution_id": self._call.execution_id, "state": "running"}
        image = answer.headers.get(DIGEST_HEADER)
        return greeting if image is None else {**greeting, "image_digest": image}


async def _stated(answer: httpx.Response) -> str | None:
    """The code of a problem, if it is one."""
    body = b""
    async for piece in answer.aiter_raw():
        body += piece
        if len(body) > min(_ANSWER_BYTES, LIMITS["frame_bytes"]):
            return None
    try:
        code = loads_strict(body)["code"]
    except (TheoryError, KeyError, TypeError):
        return None
    return code if isinstance(code, str) and code in ERROR_CODES else None
