"""One execution, from its start in the ledger to its completion: called, metered, checked, noted."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import structlog

from theory_api.domain.settlement import excess
from theory_api.domain.values import Fault
from theory_api.ports.adapter import Adapter
from theory_api.scheduler.context import Context, Notice
from theory_api.scheduler.inputs import with_urls
from theory_api.scheduler.order import Order
from theory_api.scheduler.outcome import Note
from theory_api.scheduler.reckoning import Returned, reckon
from theory_api.scheduler.trace import Trace

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Run:
    """What is known while an attempt runs."""

    trace: Trace = field(default_factory=Trace)
    overrun: Fault | None = None


async def execute(context: Context, job: Order) -> Note:
    """Run an attempt to its end; its note is durable in the scratch on return.

    A run that fails is a note with an error; this raises only what a store raises.
    """
    adapter = context.adapters[job.attempt.adapter]
    run = _Run()
    started = context.clock.monotonic()
    await context.intakes.open(
        job.execution_id,
        plan=job.plan,
        write_prefix=job.attempt.write_prefix,
        inputs=job.artifacts,
        max_bytes=job.spec.max_output_bytes,
    )
    log.info("execution.start", **_labels(job))
    envelope = await _invoke(context, adapter, job, run)
    received = await context.intakes.close(job.execution_id)
    duration_ms = int((context.clock.monotonic() - started) * 1000)
    back = Returned(envelope, received, run.trace, duration_ms, run.overrun)
    note = await reckon(context, job, back)
    await context.scratch.save(job.execution_id, note.encode())
    return note


def _labels(job: Order) -> dict[str, str]:
    return {
        "execution_id": job.execution_id,
        "processor_ref": job.ref,
        "adapter": job.attempt.adapter,
        "mode": job.mode,
    }


async def _invoke(context: Context, adapter: Adapter, job: Order, run: _Run) -> Mapping[str, Any]:
    async def on_frame(frame: Mapping[str, Any]) -> None:
        run.trace.frame(frame)
        if frame["kind"] == "Event":
            content = frame["content"]
            notice = Notice(
                job.plan,
                job.attempt.transition,
                content["phase"],
                progress=content.get("progress"),
            )
            context.notify(notice)
            if "usage" in content:
                await _stop_overrun(adapter, job, run, content["usage"])

    run.trace.event("invoke", adapter=job.attempt.adapter, attempt=job.attempt.attempt)
    context.notify(Notice(job.plan, job.attempt.transition, "run"))
    meter = asyncio.create_task(_meter(context, adapter, job, run))
    try:
        return await adapter.invoke(
            ref=job.ref,
            payload=_payload(job),
            timeout_s=job.timeout_s,
            expected_oci=None,
            on_frame=on_frame,
        )
    finally:
        meter.cancel()
        await asyncio.wait({meter})


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
        "secrets": list(job.spec.secrets_required) if job.mode == "real" else [],
        "inputs_hash": job.inputs_hash,
    }


async def _meter(context: Context, adapter: Adapter, job: Order, run: _Run) -> None:
    """Law: running usage beyond the hold stops the execution."""
    while True:
        await context.clock.sleep(context.pace.meter_s)
        await _stop_overrun(adapter, job, run, adapter.measured(job.execution_id).usage)


async def _stop_overrun(adapter: Adapter, job: Order, run: _Run, usage: Mapping[str, int]) -> None:
    over = excess(job.attempt.hold, usage)
    if not over or run.overrun is not None:
        return
    name = next(iter(over))
    message = f"budget exceeded: {name} passed the hold of {job.attempt.hold[name]} while running"
    detail: dict[str, str | int] = {"dimension": name, "hold": job.attempt.hold[name]}
    run.overrun = Fault(code="ERR_BUDGET_EXCEEDED", message=message, detail=detail)
    run.trace.event("overrun", dimension=name)
    await adapter.cancel(job.execution_id)
