"""Runs on servers that are there already: found, marked, asked, and stopped with a confirmation."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx
import structlog

from theory_api.adapters.run_v1 import calling
from theory_api.adapters.run_v1.allowance import STEERS, Allowance, steer
from theory_api.adapters.run_v1.calling import coded, failed
from theory_api.adapters.run_v1.client import RunClient
from theory_api.adapters.run_v1.doors import Door
from theory_api.adapters.run_v1.endpoint import Endpoint, Endpoints
from theory_api.adapters.run_v1.health import HealthPace, await_healthy
from theory_api.adapters.run_v1.lookout import OVER, look, lost, stop
from theory_api.adapters.run_v1.marks import Marks
from theory_api.adapters.run_v1.uploads import Uploads
from theory_api.ports.adapter import FrameSink, Measurement, Standing, SteeringOp
from theory_core import TheoryError

log = structlog.get_logger(__name__)

DIGEST_HEADER: Final = "Theory-Image-Digest"
_THOUSAND: Final = 1000
_BROKEN: Final = frozenset(
    {"ERR_WS_CLOSE", "ERR_WS_TIMEOUT", "ERR_ADAPTER_INVOCATION", "ERR_MODAL_INVOCATION"}
)
"""Codes of an exchange that was cut off."""


@dataclass(frozen=True, slots=True)
class Call:
    """What is said to a server, and who listens."""

    endpoint: Endpoint
    execution_id: str
    request: Mapping[str, Any]
    expected_oci: str | None
    on_frame: FrameSink | None
    read_s: float
    """How long a server that is at work may be silent."""


Speech = Callable[[Call], Awaitable[Mapping[str, Any]]]
"""One way to have a run done: returns its envelope, or raises `TheoryError`."""


@dataclass(frozen=True, slots=True)
class RemotePace:
    """How long the adapter waits for what."""

    health: HealthPace = field(default_factory=HealthPace)
    overtime_s: float = 15.0
    """After the run's own timeout, until the adapter ends what did not end itself."""
    control_s: float = 10.0
    """For a `Control` to be delivered, over a way that may be long."""
    stop_s: float = 12.0
    """For a run to be stopped and its result told: the runtime's grace, and two ways."""
    confirm_s: float = 30.0
    """For a server that was cut off in a run to say what became of it."""


@dataclass(slots=True)
class _Live:
    """An execution of this adapter, from its invocation to its release."""

    ref: str
    mode: str
    where: str = ""
    began: float = field(default_factory=time.monotonic)
    until: float | None = None
    asked: bool = False
    """Whether the server may have been told of it."""
    door: Door | None = None
    allowance: Allowance | None = None
    """Its time, once its server may have been told of it."""
    begun: bool = False
    """Whether the server said that it has it."""
    halt: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once it is to be stopped."""
    gone: bool = True
    """Whether nothing of it runs any more, once it ended."""
    seen: int = 0
    """Number of the last frame that came: nobody who stops it needs those before."""
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    def noting(self, sink: FrameSink | None) -> FrameSink:
        """Hand frames on, and note their numbers."""

        async def note(frame: Mapping[str, Any]) -> None:
            self.begun = True
            self.seen = max(self.seen, frame["seq"])
            if sink is not None:
                await sink(frame)

        return note


class RemoteAdapter:
    """See `theory_api.ports.adapter.Adapter`; a transport says how by its name and its speech.

    Law: before a server hears of an execution its mark is durable, and `may_start` was asked after
    that. What a server does not confirm to have ended is an orphan, not an end.
    """

    def __init__(
        self,
        *,
        name: str,
        endpoints: Endpoints,
        uploads: Uploads,
        speech: Speech,
        home: Path,
        may_start: Callable[[], bool] = lambda: True,
        pace: RemotePace | None = None,
    ) -> None:
        self._name = name
        self._endpoints = endpoints
        self._uploads = uploads
        self._speech = speech
        self._marks = Marks(home / name)
        self._may_start = may_start
        self._pace = RemotePace() if pace is None else pace
        self._live: dict[str, _Live] = {}

    @property
    def name(self) -> str:
        """The name that `--adapter` selects."""
        return self._name

    @property
    def enforced(self) -> frozenset[str]:
        """Time alone: whose processor time it was, the place that it runs in has to say."""
        return frozenset({"latency_ms"})

    @property
    def steers(self) -> frozenset[SteeringOp]:
        """What a runtime can be told; over a way that has no control lane, nothing."""
        return STEERS if self._speech is websocket else frozenset()

    async def prepare(
        self, *, ref: str, mode: str, pinned: str | None, on_progress: Callable[[str], None]
    ) -> None:
        """Nothing: what is to be deployed was deployed by somebody else."""

    # -- a run ----------------------------------------------------------------------------------

    async def invoke(
        self,
        *,
        ref: str,
        payload: Mapping[str, Any],
        timeout_s: float,
        expected_oci: str | None,
        on_frame: FrameSink | None = None,
    ) -> Mapping[str, Any]:
        """Have the payload run by its processor's server and return the envelope."""
        name = payload["execution_id"]
        if name in self._live and not self._live[name].ended.is_set():
            return failed(payload, coded("ERR_ADAPTER_INVOCATION", "running already"))
        live = self._live[name] = _Live(ref, payload["mode"])
        facts = {"execution_id": name, "processor_ref": ref, "adapter": self.name}
        log.info("adapter.invoke", **facts, mode=payload["mode"])
        try:
            envelope = await self._invoke(live, payload, timeout_s, expected_oci, on_frame)
        except TheoryError as error:
            told = coded("ERR_CANCELLED") if live.halt.is_set() else error
            envelope = failed(payload, told)
        finally:
            live.until = time.monotonic()
            live.ended.set()
        if not live.gone:
            envelope = failed(payload, coded("ERR_ORPHANED", "still running"))
        log.info("adapter.complete", **facts, status=envelope["status"])
        return envelope

    async def _invoke(
        self,
        live: _Live,
        payload: Mapping[str, Any],
        timeout_s: float,
        expected_oci: str | None,
        on_frame: FrameSink | None,
    ) -> Mapping[str, Any]:
        name = payload["execution_id"]
        endpoint = await self._endpoints.of(live.ref, live.mode)
        log.info("adapter.url.resolve", execution_id=name, adapter=self.name, url=endpoint.url)
        live.where = endpoint.where
        mark = {"ref": live.ref, "mode": live.mode, "where": live.where}
        await asyncio.to_thread(self._marks.make, name, mark)
        limit_s = timeout_s + self._pace.overtime_s
        patience_s = limit_s + self._pace.health.budget_s + self._pace.stop_s
        async with self._uploads.open(name, expires_in_s=patience_s) as door:
            request = calling.request(
                {**payload, "inputs": door.inputs(payload["inputs"])},
                timeout_s=timeout_s,
                overtime_s=self._pace.overtime_s,
                expected_oci=expected_oci,
                upload={"url": door.url, "headers": {}},
            )
            live.door = door
            await self._healthy(live, name, endpoint, expected_oci)
            if live.halt.is_set():
                raise coded("ERR_CANCELLED")
            await calling.permitted(self._may_start, live.halt.is_set)
            heard = live.noting(on_frame)
            call = Call(endpoint, name, request, expected_oci, heard, read_s=limit_s)
            return await self._converse(live, call, limit_s)

    async def _healthy(
        self, live: _Live, execution_id: str, endpoint: Endpoint, expected_oci: str | None
    ) -> None:
        """Law: what is reached is what was pinned, or it is not asked to run anything."""
        halted = asyncio.ensure_future(live.halt.wait())
        transport = _Way(endpoint)
        try:
            await await_healthy(
                transport, ended=halted, pace=self._pace.health, execution_id=execution_id
            )
        finally:
            halted.cancel()
        if expected_oci is not None and transport.image_digest != expected_oci:
            raise coded("ERR_REGISTRY_MISMATCH", "image_digest")

    async def _converse(self, live: _Live, call: Call, limit_s: float) -> Mapping[str, Any]:
        """Speak up to the result. Law: what did not end by itself is ended before it is told."""
        live.asked, live.gone, told = True, False, False
        live.allowance = Allowance(limit_s)
        try:
            async with live.allowance:
                envelope = await self._speech(call)
                # A server that could not end it says so, and then nobody else has ended it.
                told = envelope.get("error", {}).get("code") != "ERR_ORPHANED"
                return envelope
        except TimeoutError as error:
            raise coded("ERR_TIMEOUT", "adapter") from error
        except TheoryError as error:
            within_s = self._pace.confirm_s if live.begun and error.code in _BROKEN else 0
            if await lost(call.endpoint, call.execution_id, within_s=within_s, halt=live.halt):
                raise calling.died(call.execution_id) from error
            raise
        finally:
            live.gone = told or await asyncio.shield(self._stopped(call, live))

    async def _stopped(self, call: Call, live: _Live) -> bool:
        """Whether a run whose result was not heard is certainly over now."""
        try:
            return await self._stop(call.endpoint, call.execution_id, live)
        except TheoryError as error:
            log.warning("run.unstopped", execution_id=call.execution_id, code=error.code)
            return False

    # -- what is asked about runs ---------------------------------------------------------------

    async def cancel(self, execution_id: str) -> bool:
        """Have the run stopped; whether its server confirmed that nothing of it runs any more."""
        live = self._live.get(execution_id)
        if live is not None and not live.ended.is_set():
            live.halt.set()
            if live.asked:
                there = await self._endpoints.of(live.ref, live.mode, where=live.where)
                await self._stop(there, execution_id, live)
            ended = asyncio.ensure_future(live.ended.wait())
            await asyncio.wait({ended}, timeout=self._pace.stop_s)
            ended.cancel()
            return live.ended.is_set() and live.gone
        if live is not None and live.gone:
            return True
        endpoint = await self._endpoint_of(execution_id)
        gone = endpoint is None or await self._stop(endpoint, execution_id, live)
        if live is not None:
            live.gone = gone
        return gone

    async def _stop(self, endpoint: Endpoint, execution_id: str, live: _Live | None) -> bool:
        seen = 0 if live is None else live.seen
        return await stop(endpoint, execution_id, within_s=self._pace.stop_s, seen=seen)

    async def _endpoint_of(self, execution_id: str) -> Endpoint | None:
        """Where an execution was started that this process may know nothing of."""
        mark = await asyncio.to_thread(self._marks.read, execution_id)
        if mark is None:
            return None
        ref, mode, where = (str(mark.get(name, "")) for name in ("ref", "mode", "where"))
        try:
            return await self._endpoints.of(ref, mode, where=where)
        except TheoryError as error:
            if error.code == "ERR_ENDPOINT_MISSING" and where:
                # What was marked and is deployed no more runs nothing; that nothing is deployed
                # under today's settings says nothing of it.
                return None
            raise

    async def steer(self, execution_id: str, op: SteeringOp) -> None:
        """Tell the run's server; see `theory_api.ports.adapter.Adapter`."""
        if op not in self.steers:
            raise coded("ERR_CONFLICT", f"a run cannot be told to {op} over {self.name}")
        live = self._live.get(execution_id)
        if live is None or live.ended.is_set():
            return
        if live.allowance is None or live.door is None:
            raise coded("ERR_UNAVAILABLE", "the run is not there yet")
        there = await self._endpoints.of(live.ref, live.mode, where=live.where)
        moving = (live.allowance, live.door.gateway)
        within_s = self._pace.control_s
        await steer(there.dial(), execution_id, op, within_s=within_s, moving=moving)

    def measured(self, execution_id: str) -> Measurement:
        """Time since the invocation; empty for one that never started here."""
        live = self._live.get(execution_id)
        if live is None:
            return Measurement()
        until = time.monotonic() if live.until is None else live.until
        return Measurement({"latency_ms": int((until - live.began) * _THOUSAND)})

    async def standing(self, execution_id: str) -> Standing:
        """Where an execution of an earlier owner stands: what its server says counts.

        Law: a server that cannot be asked has not said that nothing runs.
        """
        try:
            endpoint = await self._endpoint_of(execution_id)
            if endpoint is None:
                marked = await asyncio.to_thread(self._marks.read, execution_id) is not None
                return Standing.GONE if marked else Standing.ABSENT
            state = await look(endpoint, execution_id)
        except TheoryError as error:
            log.warning("run.unseen", execution_id=execution_id, code=error.code)
            return Standing.RUNNING
        return Standing.GONE if state in OVER else Standing.RUNNING

    async def remembered(self) -> tuple[str, ...]:
        """Executions that have a mark."""
        return await asyncio.to_thread(self._marks.names)

    async def release(self, execution_id: str) -> None:
        """End what may be left and forget the execution.

        Raises `TheoryError` `ERR_UNAVAILABLE` while its end is not confirmed: its mark stays.
        """
        try:
            gone = await self.cancel(execution_id)
        except TheoryError as error:
            raise coded("ERR_UNAVAILABLE", error.code) from error
        if not gone:
            raise coded("ERR_UNAVAILABLE", "the run's server does not confirm its end")
        await asyncio.to_thread(self._marks.remove, execution_id)
        self._live.pop(execution_id, None)

    async def close(self) -> None:
        """Stop every run of this adapter."""
        running = [name for name, live in self._live.items() if not live.ended.is_set()]
        await asyncio.gather(*(self._cancel_last(name) for name in running))
        await self._uploads.close()

    async def _cancel_last(self, execution_id: str) -> None:
        """Cancel a run; a server that cannot be asked is left to the next owner, by the mark."""
        try:
            await self.cancel(execution_id)
        except TheoryError as error:
            log.warning("run.unstopped", execution_id=execution_id, code=error.code)


async def websocket(call: Call) -> Mapping[str, Any]:
    """`theory.run.v1` itself."""
    client = RunClient(call.endpoint.dial(), call.execution_id)
    return await client.run(call.request, on_frame=call.on_frame, expected_oci=call.expected_oci)


class _Way(httpx.AsyncBaseTransport):
    """Plain requests to an endpoint whatever they name; keeps which image said to answer."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._transport = endpoint.transport()
        self.image_digest: str | None = None

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send it where the endpoint is."""
        base = httpx.URL(self._endpoint.url)
        request.url = request.url.copy_with(scheme=base.scheme, host=base.host, port=base.port)
        request.headers["Host"] = base.netloc.decode()
        request.headers.update(self._endpoint.headers)
        answer = await self._transport.handle_async_request(request)
        self.image_digest = answer.headers.get(DIGEST_HEADER)
        return answer

    async def aclose(self) -> None:
        """Close the connections."""
        await self._transport.aclose()
