"""A small registry to plan and run with."""

# ruff: noqa: ANN401 - builders hand fields of any type on

from __future__ import annotations

from typing import Any

from theory_api.domain.registry import RegistrySnapshot
from theory_core import canonicalize

_ESTIMATE = {"cpu_ms": 100, "latency_ms": 1000, "io_bytes": 10_000, "usd_micro": 10}


def _processor(
    ref: str, inputs: dict[str, Any], concurrency: int = 1000, **changes: Any
) -> dict[str, Any]:
    return {
        "schema": "theory.processor.v1",
        "ref": ref,
        "summary": "Stands for any.",
        "image": "theory/demo",
        "runtime": {
            "cpu": "1",
            "memory": "1Gi",
            "timeout_s": 60,
            "python": "3",
            "concurrency": concurrency,
            "watts": {"cpu": 10},
        },
        "secrets": {"required": ["API_KEY"], "optional": []},
        "inputs": {"type": "object", **inputs},
        "outputs": [{"path": "outputs/", "mime": "text/plain"}],
        "network": "none",
        "estimate": {"fixed": _ESTIMATE},
        "max_output_bytes": 1_000_000,
        **changes,
    }


def policy(**changes: Any) -> dict[str, Any]:
    """A policy file's content; `changes` are members of its rules."""
    rules = {
        "ref": "default@1",
        "on_refused": "fail",
        "on_breach": "fail",
        "lease_ms": 60_000,
        "retry": {
            "max_attempts": 2,
            "backoff_ms": [200],
            "jitter_permille": 0,
            "retry_on": ["ERR_PROVIDER", "ERR_ORPHANED"],
        },
    }
    return {
        "schema": "theory.policy.v1",
        "policy": rules | changes,
        "budget": {},
        "carbon": {"g_per_kwh": 400},
    }


def snapshot(
    *, pins: dict[str, Any] | None = None, concurrency: Any = 1000, **changes: Any
) -> RegistrySnapshot:
    """`demo/echo@1` takes anything, `demo/strict@1` needs an artifact `text`.

    `concurrency` is that of the former.
    """
    artifact = {"type": "object", "required": ["path", "cid", "size_bytes", "mime"]}
    strict = {
        "required": ["text"],
        "properties": {"text": artifact},
        "additionalProperties": False,
    }
    document = {
        "schema": "theory.registry.v1",
        "processors": {
            "demo/echo@1": _processor("demo/echo@1", {}, concurrency),
            "demo/strict@1": _processor("demo/strict@1", strict),
        },
        "policies": {"default@1": policy(**changes)},
        "prompts": {},
        "prices": {},
        "predicates": {},
        "secrets": {},
        "environments": {},
        "pins": pins or {},
        "schemas": {},
    }
    return RegistrySnapshot.from_document(canonicalize(document))
