"""One execution, from its start in the ledger to its end: called, metered, checked, noted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import structlog

from theory_api.domain.settlement import excess, larger
from theory_api.domain.state import Attempting
from theory_api.domain.values import Fault
from theory_api.scheduler.context import Context, Notice
from theory_api.scheduler.inputs import with_urls
from theory_api.scheduler.metering import Metering
from theory_api.scheduler.order import Order
from theory_api.scheduler.outcome import Note
from theory_api.scheduler.patience import patiently
from theory_api.scheduler.reckoning import Returned, reckon
from theory_api.scheduler.trace import Trace

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Run:
    """What is known while an attempt runs."""

    trace: Trace = field(default_factory=Trace)
    overrun: Fault | None = None
    stated: dict[str, int] = field(default_factory=dict)
    """The largest usage that the run's own frames stated."""


async def execute(context: Context, metering: Metering, job: Order) -> Note:
    """Run an attempt to its end; its note is durable in the scratch on return.

    A run that fails is a note with an error; this raises only what a store raises.
    """
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
    log.info("adapter.selected", **_labels(job))
    envelope = await _invoke(context, metering, job, run)
    received = await context.intakes.close(job.execution_id)
    duration_ms = int((context.clock.monotonic() - started) * 1000)
    back = Returned(envelope, received, run.trace, duration_ms, run.overrun, run.stated)
    note = await patiently(context, lambda: reckon(context, job, back))
    await patiently(context, lambda: context.scratch.save(job.execution_id, note.encode()))
    return note


def _labels(job: Order) -> dict[str, str]:
    return {
        "execution_id": job.execution_id,
        "processor_ref": job.ref,
        "adapter": job.attempt.adapter,
        "mode": job.mode,
    }


async def _invoke(context: Context, metering: Metering, job: Order, run: _Run) -> Mapping[str, Any]:
    adapter = context.adapters[job.attempt.adapter]

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
                run.stated = larger(run.stated, content["usage"])
                _judge(job, run, run.stated)

    run.trace.event("invoke", adapter=job.attempt.adapter, attempt=job.attempt.attempt)
    context.notify(Notice(job.plan, job.attempt.transition, "run"))
    work = adapter.invoke(
        ref=job.ref,
        payload=_payload(job),
        timeout_s=job.timeout_s,
        expected_oci=None,
        on_frame=on_frame,
    )

    def judge() -> bool:
        _judge(job, run, adapter.measured(job.execution_id).usage)
        return run.overrun is not None

    return await metering.metered(
        job.execution_id, work, judge=judge, stop=lambda: adapter.cancel(job.execution_id)
    )


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


def _judge(job: Order, run: _Run, usage: Mapping[str, int]) -> None:
    """Note that the run is to be stopped, and why, once its usage is beyond its hold.

    Law: running usage beyond the hold stops the execution.
    """
    over = excess(job.attempt.hold, usage, job.limit)
    if not over or run.overrun is not None:
        return
    name = next(iter(over))
    hold = job.attempt.hold.get(name, 0)
    message = f"budget exceeded: {name} passed the hold of {hold} while running"
    detail: dict[str, str | int] = {"dimension": name, "hold": hold}
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
