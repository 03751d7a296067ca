"""What came back from an adapter, checked and stored, as the note that completes the execution."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final, NamedTuple, TypeVar

import msgspec

from theory_api.domain.settlement import carbon_mg, larger
from theory_api.domain.state import Attempting, PlanState
from theory_api.domain.values import Fault, Output, StreamSeal
from theory_api.ports.artifacts import Blob
from theory_api.ports.intake import Received
from theory_api.scheduler.context import PASSING, Context
from theory_api.scheduler.discretion import Discretion
from theory_api.scheduler.order import Order
from theory_api.scheduler.outcome import (
    INDEX,
    RECEIPT,
    Note,
    check_name,
    check_outputs,
    check_receipt,
    fault,
    read_receipt,
)
from theory_api.scheduler.trace import Trace
from theory_core import (
    ERROR_CODES,
    HASH_SCHEMA,
    LIMITS,
    TheoryError,
    canonicalize,
    digest,
    loads_strict,
)

_NOWHERE: Final = "cpu:unknown;memory:unknown;platform:unknown;runtime:unknown"
_PLACE: Final = ("env_fingerprint", "image_digest", "image_id")
"""Stable fields of a receipt that say where the run was."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Returned:
    """An attempt as its adapter handed it back."""

    envelope: Mapping[str, Any]
    received: tuple[Received, ...]
    trace: Trace
    duration_ms: int
    overrun: Fault | None
    """Why the scheduler itself stopped it, if it did."""
    stated: Mapping[str, int]
    """The largest usage that the run's own frames stated."""
    discretion: Discretion = field(default_factory=Discretion)
    streams: tuple[StreamSeal, ...] = ()

    @property
    def arrived(self) -> dict[str, Received]:
        """What arrived, by relpath."""
        return {item.relpath: item for item in self.received}


class Reckoned(NamedTuple):
    """A note, and what it names that nobody has stored yet."""

    note: Note
    named: tuple[bytes, ...]


async def reckon(context: Context, job: Order, back: Returned) -> Reckoned:
    """Check what came back, and have it as a note with all that the completion will name.

    Law: what is refused of it, or cannot be read any more, is this attempt's error. Raises
    `PASSING`.
    """
    outputs: tuple[Output, ...] = ()
    reported: dict[str, int] = {}
    receipt: Blob | None = None
    error = _stated_error(back)
    try:
        check_name(back.envelope, job.execution_id)
        if error is None:
            outputs = check_outputs(
                back.envelope, back.received, job.attempt.write_prefix, job.spec.declares
            )
        reported, receipt = await _receipt(context, job, back, error)
    except _RefusedReceiptError as lie:
        error, outputs, reported = fault(lie.refusal), (), _above(job, lie.usage)
    except TheoryError as refused:
        if refused.code in PASSING:
            raise
        error, outputs = fault(refused), ()
    if receipt is None:
        receipt = await _own_receipt(
            context, _stable(context, job), error, duration_ms=back.duration_ms
        )
    envelope = back.envelope
    if error is not None and (error != _enveloped(envelope) or back.discretion.tells(envelope)):
        envelope = _error_envelope(job.execution_id, job.fingerprint, error)
    back.trace.event("outcome", status="error" if error else "success")
    named = canonicalize(envelope), back.trace.encode()
    stored, trace = (Blob(digest(body), len(body)) for body in named)
    index = back.arrived.get(INDEX) if error is None else None
    note = Note(
        execution_id=job.execution_id,
        outcome=_outcome(error),
        measured=_measured(context, job, back),
        reported=larger(reported, back.stated),
        envelope=stored.cid,
        duration_ms=back.duration_ms,
        error=error,
        receipt=receipt.cid,
        outputs_index=None if index is None else index.cid,
        outputs=outputs,
        records=_records(job, receipt, trace, index),
        trace=trace.cid,
        streams=back.streams,
    )
    return Reckoned(note, named)


async def keep(context: Context, reckoned: Reckoned) -> Note:
    """Make a note and what it names durable.

    Law: a note that is there names nothing that is not.
    """
    note, named = reckoned
    if context.keeping is not None:
        await context.keeping.keep(note.execution_id, note.encode(), named)
    else:
        await together(*(context.artifacts.put(body) for body in named))
        await context.scratch.save(note.execution_id, note.encode())
    return note


async def disown(
    context: Context, state: PlanState, attempt: Attempting, note: Note, error: Fault
) -> Note:
    """The note of a run that cannot have succeeded after all, whatever it delivered.

    Law: it has an error envelope and the orchestrator's receipt, which say of its place what its
    own receipt said, as that was checked; what it used is booked as before.
    """
    proposed = state.transitions[attempt.transition].proposed
    stable = await _place(context, note) | {
        "execution_id": attempt.execution_id,
        "processor_ref": proposed.processor_ref,
        "inputs_hash": attempt.inputs_hash,
        "hash_schema": HASH_SCHEMA,
        "mode": proposed.mode,
        "registry_snapshot": state.registry_snapshot,
    }
    failed = _error_envelope(attempt.execution_id, stable["env_fingerprint"], error)
    envelope, receipt = await together(
        context.artifacts.put(canonicalize(failed)),
        _own_receipt(context, stable, error, duration_ms=note.duration_ms, usage=note.reported),
    )
    kept = tuple(record for record in note.records if record.cid == note.trace)
    return msgspec.structs.replace(
        note,
        outcome=_outcome(error),
        error=error,
        envelope=envelope.cid,
        receipt=receipt.cid,
        outputs=(),
        outputs_index=None,
        records=(_receipt_record(attempt.execution_id, receipt), *kept),
    )


async def _place(context: Context, note: Note) -> dict[str, str]:
    """What the run's own receipt says of where it ran, if that can be read."""
    try:
        fields = loads_strict(await context.artifacts.get(note.receipt or ""))
    except TheoryError as error:
        if error.code in PASSING:
            raise
        return {"env_fingerprint": _NOWHERE}
    return {name: fields[name] for name in _PLACE if name in fields}


async def together(*works: Awaitable[T]) -> list[T]:
    """What several answer that wait for the disk together; raises once all have ended."""
    answers = await asyncio.gather(*works, return_exceptions=True)
    for answer in answers:
        if isinstance(answer, BaseException):
            raise answer
    return [answer for answer in answers if not isinstance(answer, BaseException)]


def _stated_error(back: Returned) -> Fault | None:
    """The envelope's error; the scheduler's own stop is the reason of what it stopped."""
    if back.overrun is not None:
        return back.overrun
    stated = _enveloped(back.envelope)
    if not back.discretion.tells(back.envelope):
        return stated
    code = "ERR_ADAPTER_INVOCATION" if stated is None else stated.code
    if code not in ERROR_CODES or back.discretion.tells(code):
        code = "ERR_ADAPTER_INVOCATION"
    return Fault(code=code, message=f"{ERROR_CODES[code].summary}: the envelope tells a secret")


def _enveloped(envelope: Mapping[str, Any]) -> Fault | None:
    if envelope["status"] == "success":
        return None
    stated = envelope["error"]
    return Fault(code=stated["code"], message=stated["message"][:1024])


def _outcome(error: Fault | None) -> str:
    if error is None:
        return "succeeded"
    return "cancelled" if error.code == "ERR_CANCELLED" else "failed"


async def _receipt(
    context: Context, job: Order, back: Returned, error: Fault | None
) -> tuple[dict[str, int], Blob | None]:
    """The usage that the processor's receipt reports, and the receipt, if it wrote one.

    Raises `TheoryError` `ERR_RECEIPT`: a success needs one; one that lies is worse than none.
    """
    arrived = back.arrived.get(RECEIPT)
    if arrived is None:
        if error is None:
            raise TheoryError("ERR_RECEIPT", "the processor delivered no receipt", {})
        return {}, None
    if arrived.size_bytes > LIMITS["json_in_truth_bytes"]:
        if error is None:
            raise TheoryError("ERR_RECEIPT", "the receipt is too large", {})
        return {}, None
    body = await context.artifacts.get(arrived.cid)
    expected = _stable(context, job) | {"status": "success" if error is None else "error"}
    if error is None:
        expected["outputs_index"] = back.arrived[INDEX].cid
    usage: dict[str, int] = {}
    try:
        fields = read_receipt(body)
        usage = fields["usage"]
        check_receipt(fields, expected)
        _check_discreet(fields, back.discretion)
    except TheoryError as refusal:
        if error is None:
            raise _RefusedReceiptError(refusal, usage) from refusal
        return _above(job, usage), None
    return usage, Blob(arrived.cid, arrived.size_bytes)


def _check_discreet(fields: Mapping[str, Any], discretion: Discretion) -> None:
    if discretion.tells(fields):
        raise TheoryError("ERR_RECEIPT", "the receipt tells a secret", {})


class _RefusedReceiptError(Exception):
    """A receipt that is not believed, and the usage that it stated all the same."""

    def __init__(self, refusal: TheoryError, usage: dict[str, int]) -> None:
        super().__init__(refusal.code)
        self.refusal = refusal
        self.usage = usage


def _above(job: Order, usage: Mapping[str, int]) -> dict[str, int]:
    """Law: a receipt that is not believed releases nothing of the hold; what is more, counts."""
    hold = job.attempt.hold
    return {name: amount for name, amount in usage.items() if amount > hold.get(name, 0)}


def _stable(context: Context, job: Order) -> dict[str, str]:
    """Receipt fields that the request fixes, and the image where the adapter chose it."""
    chosen = context.adapters[job.attempt.adapter].measured(job.execution_id).image_id
    images = {"image_digest": job.image_digest} if job.image_digest else {"image_id": chosen}
    return {
        **{name: image for name, image in images.items() if image is not None},
        "execution_id": job.execution_id,
        "processor_ref": job.ref,
        "env_fingerprint": job.fingerprint,
        "inputs_hash": job.inputs_hash,
        "hash_schema": HASH_SCHEMA,
        "mode": job.mode,
        "registry_snapshot": job.snapshot.id,
    }


async def _own_receipt(
    context: Context,
    stable: Mapping[str, str],
    error: Fault | None,
    *,
    duration_ms: int,
    usage: Mapping[str, int] = MappingProxyType({}),
) -> Blob:
    """The receipt of an execution that left none worth keeping."""
    fields: dict[str, Any] = {
        **stable,
        "status": "success" if error is None else "error",
        "processor_info": "unknown",
        "written_by": "orchestrator",
        "usage": dict(usage),
        "timestamp_utc": context.clock.now(),
        "duration_ms": duration_ms,
    }
    return await context.artifacts.put(canonicalize(fields))


def _error_envelope(execution_id: str, fingerprint: str, error: Fault) -> dict[str, Any]:
    """The envelope of a run whose delivery was refused."""
    return {
        "status": "error",
        "execution_id": execution_id,
        "error": {"code": error.code, "message": error.message},
        "meta": {"env_fingerprint": fingerprint},
    }


def _measured(context: Context, job: Order, back: Returned) -> dict[str, int]:
    """What was counted outside the processor: the adapter's dimensions, bytes, and their carbon."""
    adapter = context.adapters[job.attempt.adapter]
    usage = dict(adapter.measured(job.execution_id).usage)
    read = sum(item.size_bytes for item in job.artifacts)
    usage["io_bytes"] = read + sum(item.size_bytes for item in back.received)
    if "cpu_ms" in usage:
        usage["co2_mg"] = carbon_mg(
            cpu_ms=usage["cpu_ms"],
            gpu_ms=usage.get("gpu_ms", 0),
            watts=job.spec.watts,
            g_per_kwh=job.snapshot.g_per_kwh,
        )
    return usage


def _records(job: Order, receipt: Blob, trace: Blob, index: Received | None) -> tuple[Output, ...]:
    own = f"/artifacts/execution/{job.execution_id}/"
    records = [
        _receipt_record(job.execution_id, receipt),
        Output(
            path=own + "trace.jsonl",
            cid=trace.cid,
            size_bytes=trace.size_bytes,
            mime="application/x-ndjson",
        ),
    ]
    if index is not None:
        records.append(
            Output(
                path=job.attempt.write_prefix + INDEX,
                cid=index.cid,
                size_bytes=index.size_bytes,
                mime="application/json",
            )
        )
    return tuple(records)


def _receipt_record(execution_id: str, receipt: Blob) -> Output:
    return Output(
        path=f"/artifacts/execution/{execution_id}/determinism.json",
        cid=receipt.cid,
        size_bytes=receipt.size_bytes,
        mime="application/json",
    )
