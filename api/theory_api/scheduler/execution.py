"""One execution, from its start in the ledger to its end: called, metered, checked, noted."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import structlog

from theory_api.domain.settlement import excess, larger
from theory_api.domain.state import Attempting
from theory_api.domain.values import Fault
from theory_api.ports.adapter import Adapter
from theory_api.scheduler.context import Context, Notice
from theory_api.scheduler.discretion import Discretion
from theory_api.scheduler.inputs import with_urls
from theory_api.scheduler.metering import Judge, Metering
from theory_api.scheduler.order import Order
from theory_api.scheduler.outcome import NO_PLACE, Note, fault, unstarted
from theory_api.scheduler.patience import patiently
from theory_api.scheduler.reckoning import Returned, keep, reckon
from theory_api.scheduler.reins import Reins, Steering
from theory_api.scheduler.stopping import ask_to_stop, let_go, stop
from theory_api.scheduler.streaming import Streaming
from theory_api.scheduler.trace import Trace
from theory_core import TheoryError, error_envelope, loads_strict

log = structlog.get_logger(__name__)

_CALLS: Final = frozenset({"provider.call", "provider.response"})
"""Phases by which a runtime says that its processor asks a provider (spec: logs)."""
_MOST_CALLS: Final = 1000


@dataclass(slots=True)
class _Run:
    """What is known while an attempt runs."""

    reins: Reins
    discretion: Discretion
    trace: Trace = field(default_factory=Trace)
    streams: Streaming = field(default_factory=Streaming)
    overrun: Fault | None = None
    """Why the scheduler itself stops it."""
    stated: dict[str, int] = field(default_factory=dict)
    """The largest usage that the run's own frames stated."""
    heard: bool = False
    """Whether its runtime said anything of it."""
    calls: int = 0
    """Lines of the log about questions to providers."""


async def execute(context: Context, metering: Metering, job: Order, reins: Reins) -> Note | None:
    """Run an attempt to its end, which the halt of `reins` brings about; its note is durable then.

    That of a run that its runtime refused to begin is not: a successor settles it at its hold. A
    run that fails is a note with an error; this raises only what a store raises. None: it had to
    be stopped, and nobody confirms that nothing of it runs any more.
    """
    run = _Run(reins, Discretion.of(context, job.spec, job.mode))
    started = context.clock.monotonic()
    await context.intakes.open(
        job.execution_id,
        plan=job.plan,
        write_prefix=job.attempt.write_prefix,
        inputs=job.artifacts,
        max_bytes=job.spec.max_output_bytes,
    )
    if context.streams is not None:
        context.streams.open(job.execution_id)
    log.info("execution.start", **_labels(job))
    log.info("adapter.selected", **_labels(job))
    envelope = await _invoke(context, metering, job, run)
    received = await context.intakes.close(job.execution_id)
    if envelope is None:
        return None
    if _refused(envelope, run) and not received:
        return unstarted(job.execution_id, NO_PLACE)
    if run.streams.unsealed():
        run.trace.event("unsealed", streams=run.streams.unsealed())
    duration_ms = int((context.clock.monotonic() - started) * 1000)
    back = Returned(
        envelope,
        received,
        run.trace,
        duration_ms,
        run.overrun,
        run.stated,
        discretion=run.discretion,
        streams=run.streams.sealed(),
    )
    reckoned = await patiently(context, lambda: reckon(context, job, back))
    return await patiently(context, lambda: keep(context, reckoned))


def _refused(envelope: Mapping[str, Any], run: _Run) -> bool:
    """Whether a runtime had no place for the run, and so never began it.

    Law: one that said anything of a run has begun it, whatever it says of it later.
    """
    code = envelope.get("error", {}).get("code")
    return code == NO_PLACE.code and not run.heard and run.overrun is None


def _stray(job: Order, run: _Run, frame: Mapping[str, Any]) -> bool:
    """Whether a frame belongs to no stream that the run may have; its run is stopped for that.

    Law: nobody is handed a frame whose stream is not the address of one (spec: run.v1, conduct).
    """
    if frame["kind"] == "Gap":
        run.streams.gap()
    if frame["kind"] != "Frame":
        return False
    try:
        run.streams.frame(frame["content"], job.plan)
    except TheoryError as error:
        if run.overrun is None:
            run.overrun = fault(error)
            run.trace.event("stray", frame=frame["seq"])
        return True
    return False


def _log_call(job: Order, run: _Run, phase: str) -> None:
    """Log a question to a provider, or its answer; whoever asks without end is logged so often."""
    if phase in _CALLS and run.calls < _MOST_CALLS:
        run.calls += 1
        log.info(phase, **_labels(job))


def _labels(job: Order) -> dict[str, str]:
    return {
        "execution_id": job.execution_id,
        "processor_ref": job.ref,
        "adapter": job.attempt.adapter,
        "mode": job.mode,
    }


async def _invoke(
    context: Context, metering: Metering, job: Order, run: _Run
) -> Mapping[str, Any] | None:
    adapter = context.adapters[job.attempt.adapter]

    async def on_frame(told: Mapping[str, Any]) -> None:
        frame = run.discretion.mask(told)
        run.heard = True
        if _stray(job, run, frame):
            return
        run.trace.frame(frame)
        if context.streams is not None:
            context.streams.publish(job.execution_id, frame)
        if frame["kind"] == "Event":
            content = frame["content"]
            _log_call(job, run, content["phase"])
            notice = Notice(
                job.plan,
                job.attempt.transition,
                content["phase"],
                progress=content.get("progress"),
            )
            context.notify(notice)
            if "usage" in content:
                run.stated = larger(run.stated, content["usage"])
                _judge(job, run, run.stated)

    run.trace.event("invoke", adapter=job.attempt.adapter, attempt=job.attempt.attempt)
    context.notify(Notice(job.plan, job.attempt.transition, "run"))
    work = adapter.invoke(
        ref=job.ref,
        payload=_payload(job),
        timeout_s=job.timeout_s,
        expected_oci=job.image_digest,
        on_frame=on_frame,
    )
    envelope = await _watched(context, metering, job, run, work)
    orphaned = envelope is not None and envelope.get("error", {}).get("code") == "ERR_ORPHANED"
    return None if orphaned else envelope


async def _watched(
    context: Context,
    metering: Metering,
    job: Order,
    run: _Run,
    work: Coroutine[Any, Any, Mapping[str, Any]],
) -> Mapping[str, Any] | None:
    """The envelope of `work`; None when nobody can say whether the execution still runs.

    Only who waits for the run stops it: a cancel waits for the run's end, and whoever hands its
    frames on is a part of the run. What is to be stopped has `stop_grace_s` to return.
    """
    adapter = context.adapters[job.attempt.adapter]
    patience, halt = context.pace.stop_grace_s, run.reins.halt
    steering = Steering(context, adapter, job.execution_id, run.reins, run.trace)
    with metering.watch(_judging(context, adapter, job, run, steering), halt) as metered:
        invoked = asyncio.create_task(work)
        halted = asyncio.create_task(halt.wait())
        steered = asyncio.create_task(steering.steer())
        try:
            await asyncio.wait({invoked, halted}, return_when=asyncio.FIRST_COMPLETED)
            if not invoked.done():
                metered.check()
                stopped = await stop(context, adapter, job.execution_id, invoked)
                if not invoked.done():
                    run.trace.event("abandoned", confirmed=stopped)
                    patience = context.pace.meter_s
                    return _ended(job, "ERR_CANCELLED") if stopped else None
            broken = invoked.exception()
            if broken is not None:
                return await _broken(context, adapter, job, broken)
            return invoked.result()
        finally:
            halted.cancel()
            await let_go(context, (steered, invoked), patience)


def _judging(
    context: Context, adapter: Adapter, job: Order, run: _Run, steering: Steering
) -> Judge:
    """Whether the run is to be stopped: for its usage, or for time that its adapter overlooks.

    Law: while it stands still its time does, and its usage is looked at as before.
    """
    until = context.clock.monotonic() + job.timeout_s + context.pace.overtime_s

    def judge() -> bool:
        _judge(job, run, larger(adapter.measured(job.execution_id).usage, run.stated))
        if run.overrun is None and context.clock.monotonic() >= until + steering.stood_s:
            message = f"timed out: the adapter did not end it {context.pace.overtime_s:g} s later"
            run.overrun = Fault(code="ERR_TIMEOUT", message=message)
            run.trace.event("overtime")
        return run.overrun is not None

    return judge


async def _broken(
    context: Context, adapter: Adapter, job: Order, error: BaseException
) -> Mapping[str, Any] | None:
    """The envelope of a run whose adapter raised; None when nobody knows whether it still runs.

    Law: a fault of one call is that attempt's end, and no other's; what it may have left running
    is stopped before its hold is settled.
    """
    code = "ERR_ADAPTER_INVOCATION" if isinstance(error, TheoryError) else "ERR_INTERNAL"
    log.error("adapter.broken", **_labels(job), code=code, exc_info=error)
    never: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    grace = context.pace.stop_grace_s
    stopped = await ask_to_stop(context, adapter, job.execution_id, seconds=grace, until=never)
    return _ended(job, code) if stopped else None


def _ended(job: Order, code: str) -> Mapping[str, Any]:
    """The envelope of a run whose adapter never returned one."""
    envelope: Mapping[str, Any] = loads_strict(
        error_envelope(job.execution_id, code, env_fingerprint=job.fingerprint)
    )
    return envelope


def _payload(job: Order) -> dict[str, Any]:
    """The `RunOpen` payload (spec: run.v1); the adapter adds `upload`."""
    return {
        "schema": "v1",
        "execution_id": job.execution_id,
        "ref": job.ref,
        "mode": job.mode,
        "inputs": with_urls(job.inputs),
        "write_prefix": job.attempt.write_prefix,
        "env_fingerprint": job.fingerprint,
        "registry_snapshot": job.snapshot.id,
        "timeout_s": int(job.timeout_s),
        "secrets": list(job.spec.secrets(job.mode)),
        "inputs_hash": job.inputs_hash,
        "tenant": job.plan.split("/")[2],
        "reach": list(job.reach),
    }


def _judge(job: Order, run: _Run, usage: Mapping[str, int]) -> None:
    """Note that the run is to be stopped, and why, once its usage is beyond its hold.

    Law: running usage beyond the hold stops the execution.
    """
    allowed = job.attempt.hold | dict(run.reins.budget)
    over = excess(allowed, usage, job.limit)
    if not over or run.overrun is not None:
        return
    name = next(iter(over))
    hold, told = allowed.get(name, 0), name in run.reins.budget
    bound = "budget" if told else "hold"
    message = f"budget exceeded: {name} passed the {bound} of {hold} while running"
    detail: dict[str, str | int] = {"dimension": name, bound: hold}
    run.overrun = Fault(code="ERR_BUDGET_EXCEEDED", message=message, detail=detail)
    run.trace.event("overrun", dimension=name)


def tell(note: Note, attempt: Attempting) -> None:
    """The log's last word on an execution, once it is settled."""
    labels = {"execution_id": note.execution_id, "adapter": attempt.adapter}
    if note.error is None:
        log.info("execution.settle", **labels, elapsed_ms=note.duration_ms)
        return
    code = note.error.code
    log.info("execution.fail", **labels, elapsed_ms=note.duration_ms, code=code)
    failure = "error." + code
    log.warning(failure, **labels, reason=note.error.message)
