"""What an execution left behind, checked against its envelope, as one durable note."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import msgspec

from theory_api.domain.commands import Complete, Proposal, Usage
from theory_api.domain.state import Attempting
from theory_api.domain.values import Fault, Output, StreamSeal, Verdict
from theory_api.domain.vector import DIMENSIONS
from theory_api.ports.intake import Received
from theory_core import TheoryError, canonicalize, digest, loads_strict

INDEX: Final = "outputs.json"
RECEIPT: Final = "receipt.json"

_STATED: Final[Mapping[str, type]] = {
    "processor_info": str,
    "written_by": str,
    "timestamp_utc": str,
    "duration_ms": int,
}
"""Fields of a receipt that the request does not fix, and their types."""


NO_PLACE: Final = Fault(
    code="ERR_RATE_LIMITED", message="rate limited: its runtime runs as many as it may"
)
UNCALLED: Final = Fault(code="ERR_CANCELLED", message="cancelled before it was started")


class Note(msgspec.Struct, frozen=True, kw_only=True):
    """An outcome in scratch: enough to complete the execution after a crash."""

    execution_id: str
    outcome: str
    measured: dict[str, int]
    reported: dict[str, int]
    envelope: str
    duration_ms: int
    error: Fault | None = None
    receipt: str | None = None
    outputs_index: str | None = None
    outputs: tuple[Output, ...] = ()
    records: tuple[Output, ...] = ()
    trace: str | None = None
    streams: tuple[StreamSeal, ...] = ()

    def encode(self) -> bytes:
        """Canonical bytes for the scratch."""
        return canonicalize(msgspec.to_builtins(self))

    @property
    def usage(self) -> Usage:
        """What was used, and who says so."""
        return Usage(measured=self.measured, reported=self.reported)

    def command(
        self, plan: str, verdicts: tuple[Verdict, ...], proposals: tuple[Proposal, ...] = ()
    ) -> Complete:
        """The completion that it stands for; a failure has no verdicts of success predicates."""
        return Complete(
            plan=plan,
            execution_id=self.execution_id,
            outcome=self.outcome,
            usage=self.usage,
            error=self.error,
            envelope=self.envelope,
            receipt=self.receipt,
            outputs_index=self.outputs_index,
            outputs=self.outputs,
            records=self.records,
            streams=self.streams,
            trace=self.trace,
            duration_ms=self.duration_ms,
            verdicts=verdicts if self.outcome == "succeeded" else (),
            proposals=proposals,
        )


def decode(note: bytes) -> Note:
    """The note of an earlier owner; raises `TheoryError` `ERR_STORAGE` for anything else."""
    try:
        return msgspec.convert(loads_strict(note), Note)
    except (msgspec.ValidationError, TheoryError) as error:
        raise TheoryError("ERR_STORAGE", "an outcome note is not readable", {}) from error


def check_name(envelope: Mapping[str, Any], execution_id: str) -> None:
    """Refuse the envelope of another execution: `ERR_ADAPTER_INVOCATION`."""
    if envelope["execution_id"] != execution_id:
        raise _invocation("the envelope is another execution's")


def lost(attempt: Attempting, used: Mapping[str, int], error: Fault) -> Note:
    """The note of an attempt that was stopped, and whose envelope nobody will have.

    Law: it is paid at its hold, or at what was measured where that is more.
    """
    hold = attempt.hold
    return Note(
        execution_id=attempt.execution_id,
        outcome="orphaned",
        measured={name: amount for name, amount in used.items() if amount > hold.get(name, 0)},
        reported={},
        envelope="",
        duration_ms=0,
        error=error,
    )


def unstarted(name: str, error: Fault) -> Note:
    """The note of work that certainly never started: its hold is voided."""
    return Note(
        execution_id=name,
        outcome="void",
        measured={},
        reported={},
        envelope="",
        duration_ms=0,
        error=error,
    )


def check_outputs(
    envelope: Mapping[str, Any],
    received: Sequence[Received],
    write_prefix: str,
    declares: Callable[[str, str], bool],
) -> tuple[Output, ...]:
    """The outputs, if envelope, index and what really arrived agree; their cids are ours.

    Law: what the registry does not declare is no output. Raises `TheoryError`
    `ERR_ADAPTER_INVOCATION`.
    """
    if envelope["index_path"] != write_prefix + INDEX:
        raise _invocation("invalid index_path root")
    arrived = {item.relpath: item for item in received}
    stated = [
        {
            "path": write_prefix + item.relpath,
            "cid": item.cid,
            "size_bytes": item.size_bytes,
            "mime": item.mime,
        }
        for item in received
        if item.relpath.startswith("outputs/")
    ]
    stated.sort(key=lambda entry: str(entry["path"]).encode())
    if [dict(entry) for entry in envelope["outputs"]] != stated:
        raise _invocation("the envelope's outputs are not those that arrived")
    for item in received:
        if item.relpath.startswith("outputs/") and not declares(item.relpath, item.mime):
            shown = f"{item.relpath[:256]} as {item.mime[:64]}"
            raise _invocation(f"the registry declares no output {shown}")
    index = arrived.get(INDEX)
    if index is None or index.cid != digest(canonicalize({"outputs": stated})):
        raise _invocation("the index is not the one of the outputs that arrived")
    return tuple(msgspec.convert(entry, Output) for entry in stated)


def read_receipt(receipt: bytes) -> dict[str, Any]:
    """The fields of a receipt, those that vary from run to run judged.

    Raises `TheoryError` `ERR_RECEIPT`.
    """
    try:
        fields: Any = loads_strict(receipt)
    except TheoryError as error:
        raise TheoryError("ERR_RECEIPT", "the receipt is not strict JSON", {}) from error
    if not isinstance(fields, dict) or canonicalize(fields) != receipt:
        raise TheoryError("ERR_RECEIPT", "the receipt is not a canonical object", {})
    usage: Any = fields.get("usage")
    whole = isinstance(usage, dict) and all(
        type(amount) is int and 0 <= amount < 2**53 for amount in usage.values()
    )
    if not whole:
        raise TheoryError("ERR_RECEIPT", "the receipt's usage is not whole numbers", {})
    if not set(usage) <= set(DIMENSIONS):
        raise TheoryError("ERR_RECEIPT", "the receipt's usage has an unknown dimension", {})
    for name, kind in _STATED.items():
        if type(fields.get(name)) is not kind:
            message = f"the receipt states no {name}"
            raise TheoryError("ERR_RECEIPT", message, {"field": name})
    return fields


def check_receipt(fields: Mapping[str, Any], expected: Mapping[str, str]) -> None:
    """Refuse a receipt whose stable fields are not those of the request: `ERR_RECEIPT`."""
    for name, value in expected.items():
        if fields.get(name) != value:
            message = f"the receipt's {name} is not that of the request"
            raise TheoryError("ERR_RECEIPT", message, {"field": name})


def _invocation(reason: str) -> TheoryError:
    return TheoryError("ERR_ADAPTER_INVOCATION", f"adapter invocation failed: {reason}", {})


def fault(error: TheoryError) -> Fault:
    """An error as event data: facts are texts and whole numbers only."""
    detail: dict[str, str | int] = {}
    for name, value in (error.detail or {}).items():
        if isinstance(value, str | int) and not isinstance(value, bool):
            detail[name] = value
        else:
            detail[name] = str(value)[:256]
    return Fault(code=error.code, message=error.message[:1024], detail=detail)
