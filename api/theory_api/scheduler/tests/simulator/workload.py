"""Plans to run: shapes, budgets, write sets and rules, drawn from the seed."""

from __future__ import annotations

import random
from typing import Any, Final

from theory_api.domain.registry import RegistrySnapshot
from theory_core import canonicalize

TENANT: Final = "acme"
REF: Final = "demo/work@1"
TRANSITIONS: Final = 210
"""Transitions of one seed, at least."""

HOLD: Final = {
    "usd_micro": 100,
    "tokens": 100,
    "cpu_ms": 3_000_000,
    "latency_ms": 10_800_000,
    "io_bytes": 10_000,
}
ASKS: Final = (100, 400)
"""What transitions ask for where money is scarce, in `usd_micro`, from and to."""

SHARED: Final = (
    "/artifacts/shared/",
    "/artifacts/shared/one",
    "/artifacts/shared/one/",
    "/artifacts/shared/two",
    "/artifacts/else/",
)


def registry() -> RegistrySnapshot:
    """One processor, and policies that fail or pause, try often or once."""
    processor = {
        "schema": "theory.processor.v1",
        "ref": REF,
        "summary": "Stands for any.",
        "image": "theory/demo",
        "runtime": {"cpu": "1", "memory": "1Gi", "timeout_s": 10_000, "python": "3"},
        "inputs": {"type": "object"},
        "outputs": [{"path": "outputs/", "mime": "text/plain"}],
        "network": "none",
        "estimate": {"fixed": HOLD},
        "max_output_bytes": 100_000,
    }
    document = {
        "schema": "theory.registry.v1",
        "processors": {REF: processor},
        "policies": {
            "default@1": _policy("default@1", 6, "pause", "pause"),
            "strict@1": _policy("strict@1", 2, "fail", "fail"),
        },
        "prompts": {},
        "prices": {},
        "predicates": {},
        "secrets": {},
        "environments": {},
        "pins": {},
        "schemas": {},
    }
    return RegistrySnapshot.from_document(canonicalize(document))


def _policy(ref: str, attempts: int, on_refused: str, on_breach: str) -> dict[str, Any]:
    retry_on = ["ERR_PROVIDER", "ERR_ORPHANED", "ERR_WS_CLOSE", "ERR_UPLOAD", "ERR_OOM"]
    retry = {
        "max_attempts": attempts,
        "backoff_ms": [1000, 60_000],
        "jitter_permille": 200,
        "retry_on": retry_on,
    }
    rules = {"ref": ref, "on_refused": on_refused, "on_breach": on_breach, "lease_ms": 60_000}
    return {
        "schema": "theory.policy.v1",
        "policy": rules | {"retry": retry},
        "budget": {},
        "carbon": {"g_per_kwh": 400},
    }


def documents(draw: random.Random, *, scarce: bool = False) -> list[dict[str, Any]]:
    """The plans of one seed, at least `TRANSITIONS` transitions together.

    Where money is `scarce` it suffices for a part of them, and what they ask for differs.
    """
    made: list[dict[str, Any]] = []
    left = TRANSITIONS
    while left > 0:
        size = draw.randint(20, 60)
        made.append(_document(draw, f"p{len(made)}", size, scarce=scarce))
        left -= size
    return made


def _document(draw: random.Random, name: str, size: int, *, scarce: bool) -> dict[str, Any]:
    names = [f"t{number}" for number in range(size)]
    steps = {one: transition(draw, names[:index]) for index, one in enumerate(names)}
    share = draw.choice([40, 60, 100])
    if scarce:
        share = 20
        for step in steps.values():
            step["estimate"] = HOLD | {"usd_micro": draw.randint(*ASKS)}
    budget = {
        "usd_micro": HOLD["usd_micro"] * size * share // 100,
        "tokens": HOLD["tokens"] * size * share // 100,
        "cpu_ms": HOLD["cpu_ms"] * draw.randint(3, size),
        "io_bytes": HOLD["io_bytes"] * size,
    }
    policy = "strict@1" if draw.random() < 0.15 else "default@1"
    return {
        "schema": "theory.plan.v1",
        "plan": name,
        "policy": policy,
        "budget": budget,
        "transitions": steps,
    }


def transition(draw: random.Random, before: list[str]) -> dict[str, Any]:
    """One step: perhaps after others, reading what they wrote, writing where others write."""
    near = before[-8:]
    needs = draw.sample(near, min(len(near), draw.choice([0, 0, 1, 1, 2])))
    made: dict[str, Any] = {"processor_ref": REF, "mode": "mock", "depends_on": needs}
    inputs: dict[str, Any] = {"n": draw.randint(0, 9)}
    if needs and draw.random() < 0.5:
        inputs["x"] = {"$output": {"transition": needs[0], "path": "outputs/x"}}
    made["inputs"] = inputs
    if draw.random() < 0.25:
        path = draw.choice(SHARED)
        kind = "prefix" if path.endswith("/") else "exact"
        own = "/artifacts/outputs/demo-work-v1/{execution_id}/"
        made["write_set"] = [{"kind": "prefix", "path": own}, {"kind": kind, "path": path}]
    if draw.random() < 0.1:
        wanted = {"name": "artifact.exists@1", "params": {"path": "outputs/x"}}
        made["predicates"] = {"success": [wanted]}
    return made
