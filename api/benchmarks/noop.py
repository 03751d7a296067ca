"""An adapter whose processor does nothing: what is left is the scheduler's own cost."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, Final

from theory_api.domain.registry import RegistrySnapshot
from theory_api.ports.adapter import FrameSink, Measurement, Standing, SteeringOp
from theory_api.ports.intake import Intakes
from theory_core import HASH_SCHEMA, canonicalize, digest

REF: Final = "bench/noop@1"
_INDEX: Final = canonicalize({"outputs": []})
_INDEX_CID: Final = digest(_INDEX)
_SAME: Final = ("execution_id", "env_fingerprint", "inputs_hash", "mode", "registry_snapshot")
_USED: Final = Measurement({"cpu_ms": 0, "latency_ms": 0})


class NoopAdapter:
    """Implements `theory_api.ports.adapter.Adapter`; delivers an empty index and a receipt."""

    name = "process"
    enforced = frozenset({"cpu_ms", "latency_ms"})
    steers: frozenset[SteeringOp] = frozenset()

    def __init__(self, intakes: Intakes, now: Callable[[], str]) -> None:
        self._intakes = intakes
        self._now = now

    async def prepare(
        self, *, ref: str, mode: str, pinned: str | None, on_progress: Callable[[str], None]
    ) -> None:
        """Nothing to make ready."""

    async def invoke(
        self,
        *,
        ref: str,
        payload: Mapping[str, Any],
        timeout_s: float,
        expected_oci: str | None,
        on_frame: FrameSink | None = None,
    ) -> Mapping[str, Any]:
        """Deliver what every success has to deliver: the index and the receipt."""
        del timeout_s, expected_oci, on_frame
        ident = payload["execution_id"]
        receipt = {name: payload[name] for name in _SAME} | {
            "processor_ref": ref,
            "hash_schema": HASH_SCHEMA,
            "outputs_index": _INDEX_CID,
            "status": "success",
            "processor_info": "noop 1",
            "written_by": "processor",
            "timestamp_utc": self._now(),
            "duration_ms": 0,
            "usage": {"usd_micro": 1},
        }
        for relpath, body in (("outputs.json", _INDEX), ("receipt.json", canonicalize(receipt))):
            await self._intakes.put(ident, relpath, _once(body), mime="application/json")
        return {
            "status": "success",
            "execution_id": ident,
            "outputs": [],
            "index_path": f"{payload['write_prefix']}outputs.json",
            "meta": {"env_fingerprint": payload["env_fingerprint"]},
        }

    async def cancel(self, execution_id: str) -> bool:
        """Nothing of it runs any more."""
        del execution_id
        return True

    async def steer(self, execution_id: str, op: SteeringOp) -> None:
        """Nothing here can stand still."""
        raise NotImplementedError((execution_id, op))

    def measured(self, execution_id: str) -> Measurement:
        """Nothing was used."""
        del execution_id
        return _USED

    async def standing(self, execution_id: str) -> Standing:
        """Nothing outlives this process."""
        del execution_id
        return Standing.ABSENT

    async def remembered(self) -> tuple[str, ...]:
        """Nothing is kept."""
        return ()

    async def release(self, execution_id: str) -> None:
        """Nothing is kept."""

    async def close(self) -> None:
        """Nothing runs."""


async def _once(body: bytes) -> AsyncIterator[bytes]:
    yield body


def registry() -> RegistrySnapshot:
    """A registry with the one processor and a default policy."""
    processor = {
        "schema": "theory.processor.v1",
        "ref": REF,
        "summary": "Does nothing.",
        "image": "theory/bench-noop",
        "runtime": {
            "cpu": "1",
            "memory": "1Gi",
            "timeout_s": 60,
            "python": "3",
            "watts": {"cpu": 10},
        },
        "secrets": {"required": [], "optional": []},
        "inputs": {"type": "object"},
        "outputs": [{"path": "outputs/", "mime": "text/plain"}],
        "network": "none",
        "estimate": {
            "fixed": {"cpu_ms": 100, "latency_ms": 1000, "io_bytes": 10_000, "usd_micro": 10}
        },
        "max_output_bytes": 1_000_000,
    }
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
    policy = {
        "schema": "theory.policy.v1",
        "policy": rules,
        "budget": {},
        "carbon": {"g_per_kwh": 400},
    }
    document = {
        "schema": "theory.registry.v1",
        "processors": {REF: processor},
        "policies": {"default@1": policy},
        "prompts": {},
        "prices": {},
        "predicates": {},
        "secrets": {},
        "environments": {},
        "pins": {},
        "schemas": {},
    }
    return RegistrySnapshot.from_document(canonicalize(document))
