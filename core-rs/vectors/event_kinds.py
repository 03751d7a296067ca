# ruff: noqa: INP001 - a script's neighbour, not a package
"""Data of each kind of event: the table that schemas and vectors are written from."""

from typing import Any

import event_types as t
from event_types import Maybe, Members

ATTEMPT: Members = {"execution_id": t.EXECUTION, "transition": t.ID, "attempt": t.ATTEMPT}
"""The three members that name an attempt."""

STOPPED: Members = {"by": t.BY, "reason": t.REASON}
ENDED: Members = {
    **ATTEMPT,
    "error": t.ERROR,
    "envelope": t.DIGEST,
    "receipt": Maybe(t.DIGEST),
    "trace": Maybe(t.DIGEST, shown=False),
    "duration_ms": t.DURATION_MS,
}
MAYBE_ATTEMPT: Members = {
    "execution_id": Maybe(t.EXECUTION),
    "transition": Maybe(t.ID),
    "attempt": Maybe(t.ATTEMPT),
}

KINDS: dict[str, Members] = {
    "plan.created": {
        "schema": t.always("theory.plan.v1"),
        "document": t.DIGEST,
        "transitions": t.integer(4),
        "limit": t.VECTOR,
        "policy": t.POLICY,
        "lane": t.LANE,
        "registry_snapshot": t.DIGEST,
        "goal": t.array(t.PREDICATE),
        "invariants": t.array(t.PREDICATE),
        "by": t.BY,
        "parent": Maybe(t.PLAN, shown=False),
    },
    "plan.child_created": {"child": t.PLAN.like("/world/acme/p1-c1"), **ATTEMPT, "hold": t.VECTOR},
    "plan.paused": STOPPED,
    "plan.resumed": STOPPED,
    "plan.cancel_requested": STOPPED,
    "plan.cancelled": STOPPED,
    "plan.completed": {"verdicts": t.array(t.VERDICT), "counts": t.COUNTS, "spent": t.VECTOR},
    "plan.failed": {
        "error": t.ERROR,
        "verdicts": t.array(t.VERDICT),
        "counts": t.COUNTS,
        "spent": t.VECTOR,
    },
    "plan.escalated": {"reason": t.REASON, "verdict": Maybe(t.VERDICT)},
    "transition.proposed": {
        "transition": t.ID,
        "processor_ref": t.REF,
        "adapter": Maybe(t.SHORT.like("process")),
        "mode": t.MODE,
        "inputs": t.DIGEST,
        "depends_on": t.array(t.ID.like("generate-shotlist"), unique=True),
        "write_prefix": t.TEMPLATE,
        "write_set": t.array(t.SELECTOR_TEMPLATE, least=1),
        "admission": t.array(t.PREDICATE),
        "success": t.array(t.PREDICATE),
        "hold": t.VECTOR,
        "timeout_ms": t.DURATION_MS,
        "on_fail": Maybe(t.ID, shown=False),
        "trigger": Maybe(t.SHORT, shown=False),
        "by": t.BY,
    },
    "transition.admitted": {
        **ATTEMPT,
        "write_prefix": t.PREFIX,
        "write_set": t.array(t.SELECTOR, least=1),
        "inputs_hash": t.DIGEST,
    },
    "transition.refused": {"transition": t.ID, "error": t.ERROR},
    "transition.succeeded": ATTEMPT,
    "transition.failed": {**ATTEMPT, "error": t.ERROR},
    "transition.skipped": {"transition": t.ID, "because": t.ID.like("generate-shotlist")},
    "transition.cancelled": {
        "transition": t.ID,
        "attempt": Maybe(t.ATTEMPT),
        "execution_id": Maybe(t.EXECUTION),
        "reason": t.REASON,
    },
    "transition.retried": {
        **ATTEMPT,
        "next_attempt": t.integer(2, least=1, most=1000),
        "delay_ms": t.integer(1000),
        "error": t.ERROR,
    },
    "predicate.checked": {
        "scope": t.one_of("success", "admission", "invariant", "goal"),
        "transition": Maybe(t.ID),
        "execution_id": Maybe(t.EXECUTION),
        "verdict": t.VERDICT,
    },
    "predicate.regressed": {"scope": t.always("invariant"), "verdict": t.VERDICT},
    "lease.acquired": {
        **ATTEMPT,
        "selectors": t.array(t.SELECTOR, least=1),
        "duration_ms": t.DURATION_MS,
        "epoch": t.EPOCH,
    },
    "lease.released": ATTEMPT,
    "lease.expired": {**ATTEMPT, "epoch": t.EPOCH},
    "budget.reserved": {
        **ATTEMPT,
        "hold": t.VECTOR,
        "duration_ms": t.DURATION_MS,
        "owner": t.SHORT.like("local:4711"),
        "epoch": t.EPOCH,
    },
    "budget.settled": {
        **ATTEMPT,
        "hold": t.VECTOR,
        "actual": t.VECTOR.like({"cpu_ms": 7310, "io_bytes": 901_122, "usd_micro": 0}),
        "basis": t.BASIS,
        "receipt": Maybe(t.DIGEST),
    },
    "budget.voided": {**ATTEMPT, "hold": t.VECTOR, "reason": t.REASON},
    "budget.breached": {**ATTEMPT, "excess": t.VECTOR.like({"usd_micro": 120})},
    "budget.topped_up": {"amount": t.VECTOR, "limit": t.VECTOR, "by": t.BY},
    "execution.started": {
        **ATTEMPT,
        "processor_ref": t.REF,
        "adapter": t.SHORT.like("process"),
        "mode": t.MODE,
        "timeout_ms": t.DURATION_MS,
        "inputs": t.DIGEST,
        "inputs_hash": t.DIGEST,
        "env_fingerprint": t.text(
            sample="cpu:1;memory:2Gi;platform:amd64;runtime:python3.11", most=1024
        ),
        "registry_snapshot": t.DIGEST,
        "image_digest": Maybe(t.OCI),
    },
    "execution.controlled": {
        **ATTEMPT,
        "op": t.one_of("cancel", "pause", "resume", "set_budget"),
        "budget": Maybe(t.VECTOR, shown=False),
        **STOPPED,
    },
    "execution.succeeded": {
        **ATTEMPT,
        "envelope": t.DIGEST,
        "receipt": t.DIGEST,
        "outputs_index": t.DIGEST,
        "outputs": t.integer(4),
        "output_bytes": t.BYTES,
        "trace": Maybe(t.DIGEST),
        "duration_ms": t.DURATION_MS,
    },
    "execution.failed": ENDED,
    "execution.cancelled": ENDED,
    "execution.duplicate": {**ATTEMPT, "envelope": t.DIGEST},
    "execution.orphaned": {**ATTEMPT, "error": t.ERROR},
    "execution.memo_hit": {
        **ATTEMPT,
        "memo_key": t.DIGEST,
        "origin": t.closed({"plan": t.PLAN, "execution_id": t.EXECUTION}),
        "outputs_index": t.DIGEST,
    },
    "artifact.produced": {
        **MAYBE_ATTEMPT,
        "by": Maybe(t.BY, shown=False),
        "part": t.integer(1, least=1),
        "parts": t.integer(1, least=1),
        "outputs": t.array(t.OUTPUT, least=1, most=500),
    },
    "artifact.consumed": {**ATTEMPT, "inputs": t.array(t.INPUT, least=1, most=500)},
    "artifact.erased": {"path": t.EXACT, "cid": t.DIGEST, "by": t.BY, "reason": t.REASON},
    "stream.sealed": {
        "path": t.EXACT.like("/streams/frames"),
        "digest": t.DIGEST,
        "count": t.COUNT,
        "bytes": t.BYTES,
        **MAYBE_ATTEMPT,
    },
    "segment.sealed": {
        "first_seq": t.integer(1, least=1),
        "last_seq": t.integer(5000, least=1),
        "last_hash": t.DIGEST,
        "artifact": t.closed({"cid": t.DIGEST, "size_bytes": t.BYTES}),
    },
    "checkpoint.published": {
        "origin": t.SHORT.like("theory.acme.example/p1"),
        "size": t.integer(5000),
        "root": t.SHORT.like("b3:" + "5e" * 32),
        "note": t.DIGEST,
    },
    "memo.revoked": {"memo_key": t.DIGEST, "by": t.BY, "reason": t.REASON},
    "secret.used": {
        **ATTEMPT,
        "name": t.word("^[A-Z][A-Z0-9_]{0,62}$", "OPENAI_API_KEY", "key", "_KEY", "K" * 64),
    },
    "operator.override": {**STOPPED, "what": t.REASON.like("resumed after a checked restore")},
    "audit.key_used": {
        "by": t.BY,
        "action": t.SHORT.like("keys.create"),
        "target": t.SHORT.like("key:7"),
        "outcome": t.one_of("allowed", "denied"),
        "detail": t.FACTS.like({"scope": "acme"}),
    },
    "gate.verdict": {
        "gate": t.SHORT.like("release"),
        "subject": t.SHORT.like("b3:" + "5e" * 32),
        "verdict": t.one_of("pass", "fail"),
        "by": t.BY,
        "reason": t.REASON,
    },
    "thread.replied": {
        "thread": t.ID.like("t-12"),
        "by": t.BY,
        "body": t.DIGEST,
        "subject": Maybe(t.SHORT.like("Frames are too dark")),
    },
}

FAMILIES: dict[str, str] = {"audit.key_used": "audit", "thread.replied": "thread"}
"""Kinds that stand for a family `{name}.*`, whose members share one schema."""

_ABSENT: dict[str, bool] = dict.fromkeys(ATTEMPT, False)
LAWS: dict[str, dict[str, Any]] = {
    # All three members that name an attempt, or none; a person is named only without an attempt.
    "artifact.produced": {
        "oneOf": [
            {"required": list(ATTEMPT), "properties": {"by": False}},
            {"properties": _ABSENT},
        ]
    },
    "stream.sealed": {"oneOf": [{"required": list(ATTEMPT)}, {"properties": _ABSENT}]},
    # A budget comes with `set_budget` and with nothing else.
    "execution.controlled": {
        "oneOf": [
            {"required": ["budget"], "properties": {"op": {"const": "set_budget"}}},
            {"properties": {"op": {"not": {"const": "set_budget"}}, "budget": False}},
        ]
    },
}
"""What holds between the members of a kind."""

LAW_CASES: dict[str, list[dict[str, Any]]] = {
    "artifact.produced": [
        {
            "comment": "put in by a person",
            "remove": list(ATTEMPT),
            "change": {"by": "local"},
            "result": "valid",
        },
        {"comment": "a person and an attempt", "change": {"by": "local"}, "result": "invalid"},
        {"comment": "half of an attempt", "remove": ["transition"], "result": "invalid"},
        {
            "comment": "by is wrong, without an attempt",
            "remove": list(ATTEMPT),
            "change": {"by": ""},
            "result": "invalid",
        },
    ],
    "execution.controlled": [
        {
            "comment": "a budget is set",
            "change": {"op": "set_budget", "budget": {"usd_micro": 0}},
            "result": "valid",
        },
        {"comment": "set_budget without one", "change": {"op": "set_budget"}, "result": "invalid"},
        {
            "comment": "a budget with another operation",
            "change": {"op": "pause", "budget": {"usd_micro": 0}},
            "result": "invalid",
        },
    ],
    "stream.sealed": [
        {"comment": "half of an attempt", "remove": ["attempt"], "result": "invalid"}
    ],
}
"""Changes of the sample on both sides of such a law."""
