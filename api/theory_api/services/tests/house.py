"""A whole control plane in memory for tests: every store and one adapter that runs Python."""
# ruff: noqa: ARG002 - the parameters are the port's

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from theory_api.adapters.memory.artifacts import MemoryArtifacts
from theory_api.adapters.memory.intakes import MemoryIntakes
from theory_api.adapters.memory.read import MemoryReads
from theory_api.adapters.memory.scratch import MemoryScratch
from theory_api.adapters.memory.truth import MemoryDatabase, MemoryTruth
from theory_api.adapters.system.clock import SystemClock
from theory_api.delivery.pinned import PinnedSnapshots
from theory_api.delivery.snapshot import load_registry
from theory_api.domain.registry import RegistrySnapshot
from theory_api.ports.adapter import FrameSink, Measurement, Standing, SteeringOp
from theory_api.scheduler.context import Context, Pace
from theory_api.scheduler.engine import Engine
from theory_api.services.ledger import Ledgers
from theory_api.services.plans import PlanCommands
from theory_api.services.queries import Queries
from theory_api.services.runs import Runs
from theory_api.services.world import Worlds
from theory_api.settings import assets
from theory_core import (
    HASH_SCHEMA,
    canonicalize,
    digest,
    error_envelope,
    loads_strict,
    success_envelope,
)

REF = "llm/litellm@1"
PARAMS: Mapping[str, Any] = {"task": "script", "text": "A short text. With two sentences."}


@dataclass
class Script:
    """What the adapter does with a run: its outputs, or the code that it fails with."""

    outputs: Mapping[str, bytes] = field(default_factory=lambda: {"outputs/a.txt": b"hello"})
    fails: str | None = None
    usage: Mapping[str, int] = field(default_factory=lambda: {"tokens": 7, "usd_micro": 3})
    frames: tuple[Mapping[str, Any], ...] = ()
    """Contents of the `Frame`s that a run sends."""
    gate: asyncio.Event | None = None
    """Runs wait for it, where there is one; a cancelled run waits no longer."""


class ScriptedAdapter:
    """An `Adapter` without processes: each run is one pass over `script`."""

    name = "process"
    enforced = frozenset({"cpu_ms", "latency_ms"})
    steers: frozenset[SteeringOp] = frozenset()

    def __init__(self, intakes: MemoryIntakes, script: Script) -> None:
        self.script = script
        self.invoked: list[str] = []
        self.began = asyncio.Event()
        """Set once a run has begun."""
        self._intakes = intakes
        self._cancelled: dict[str, asyncio.Event] = {}

    async def prepare(
        self, *, ref: str, mode: str, pinned: str | None, on_progress: object
    ) -> None:
        """Nothing to prepare."""

    async def invoke(
        self,
        *,
        ref: str,
        payload: Mapping[str, Any],
        timeout_s: float,
        expected_oci: str | None,
        on_frame: FrameSink | None = None,
    ) -> Mapping[str, Any]:
        """Write the scripted outputs, the index and a receipt; or fail as scripted."""
        ident, prefix = payload["execution_id"], payload["write_prefix"]
        fingerprint = payload["env_fingerprint"]
        self.invoked.append(ident)
        self.began.set()
        cancelled = self._cancelled.setdefault(ident, asyncio.Event())
        for seq, content in enumerate(self.script.frames if on_frame is not None else (), 1):
            assert on_frame is not None
            await on_frame({"kind": "Frame", "seq": seq, "content": content})
        if self.script.gate is not None:
            waits = {asyncio.create_task(each.wait()) for each in (self.script.gate, cancelled)}
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            for task in waits:
                task.cancel()
        code = "ERR_CANCELLED" if cancelled.is_set() else self.script.fails
        if code is not None:
            return _parsed(error_envelope(ident, code, env_fingerprint=fingerprint))
        entries = []
        for relpath, data in sorted(self.script.outputs.items()):
            received = await self._intakes.put(ident, relpath, _once(data), mime="text/plain")
            entries.append(
                {
                    "path": prefix + relpath,
                    "cid": received.cid,
                    "size_bytes": len(data),
                    "mime": "text/plain",
                }
            )
        index = canonicalize({"outputs": entries})
        await self._intakes.put(ident, "outputs.json", _once(index), mime="application/json")
        receipt = {
            "execution_id": ident,
            "processor_ref": ref,
            "env_fingerprint": fingerprint,
            "inputs_hash": payload["inputs_hash"],
            "hash_schema": HASH_SCHEMA,
            "mode": payload["mode"],
            "registry_snapshot": payload["registry_snapshot"],
            "status": "success",
            "outputs_index": digest(index),
            "processor_info": "scripted 1 (python)",
            "written_by": "processor",
            "timestamp_utc": "2026-01-01T00:00:00.000000Z",
            "duration_ms": 1,
            "usage": dict(self.script.usage),
        }
        body = canonicalize(receipt)
        await self._intakes.put(ident, "receipt.json", _once(body), mime="application/json")
        return _parsed(
            success_envelope(ident, entries, write_prefix=prefix, env_fingerprint=fingerprint)
        )

    async def cancel(self, execution_id: str) -> bool:
        """Runs end at once."""
        self._cancelled.setdefault(execution_id, asyncio.Event()).set()
        return True

    async def steer(self, execution_id: str, op: SteeringOp) -> None:
        """Nothing here can stand still."""
        raise NotImplementedError((execution_id, op))

    def measured(self, execution_id: str) -> Measurement:
        """The same small use for every run."""
        return Measurement({"cpu_ms": 5, "latency_ms": 6})

    async def remembered(self) -> tuple[str, ...]:
        return ()

    async def standing(self, execution_id: str) -> Standing:
        """Nothing survives."""
        return Standing.ABSENT

    async def release(self, execution_id: str) -> None:
        """Nothing to remove."""

    async def close(self) -> None:
        """Nothing runs."""


@dataclass
class House:
    """The services over one set of stores."""

    engine: Engine
    adapter: ScriptedAdapter
    artifacts: MemoryArtifacts
    read: MemoryReads
    snapshots: PinnedSnapshots
    plans: PlanCommands
    queries: Queries
    ledgers: Ledgers
    worlds: Worlds
    runs: Runs

    async def apply(self, given: Mapping[str, Any]) -> str:
        """Apply a document as the local user."""
        return (await self.plans.apply(given, tenant="local", by="local")).plan

    async def finish(self, given: Mapping[str, Any]) -> str:
        """Apply a document and wait for the plan's end."""
        plan = await self.apply(given)
        await self.engine.wait(plan)
        return plan


@cache
def registry() -> RegistrySnapshot:
    """The shipped registry, where `REF` writes texts of any name."""
    document: Any = loads_strict(load_registry(assets("registry")).document)
    written = {"path": "outputs/*.txt", "mime": "text/plain"}
    document["processors"][REF]["outputs"] = [written]
    return RegistrySnapshot.from_document(canonicalize(document))


@contextlib.asynccontextmanager
async def house(script: Script | None = None, *, ci: bool = False) -> AsyncIterator[House]:
    """A running control plane for the length of a `with`."""
    artifacts, database = MemoryArtifacts(), MemoryDatabase()
    read, intakes = MemoryReads(database), MemoryIntakes(artifacts)
    adapter = ScriptedAdapter(intakes, script or Script())
    snapshots = PinnedSnapshots(artifacts, registry())
    context = Context(
        world=read,
        artifacts=artifacts,
        scratch=MemoryScratch(),
        intakes=intakes,
        snapshots=snapshots,
        adapters={"process": adapter},
        clock=SystemClock(),
        platform="amd64",
        pace=Pace(meter_s=0.05, poll_s=0.05),
    )
    engine = Engine(MemoryTruth(database), read, context, shard="main", owner="test")
    await engine.start()
    plans = PlanCommands(engine, artifacts, snapshots, ci=ci)
    queries = Queries(read, artifacts, holds=engine.blocked)
    runs = Runs(plans, read, artifacts, snapshots, engine.wait, ci=ci, platform="amd64")
    try:
        yield House(
            engine,
            adapter,
            artifacts,
            read,
            snapshots,
            plans,
            queries,
            Ledgers(read),
            Worlds(read, queries),
            runs,
        )
    finally:
        await engine.stop()


def document(name: str = "p1", *steps: str, **members: Any) -> dict[str, Any]:  # noqa: ANN401
    """A plan of steps, each after the one before it."""
    names = steps or ("first", "second")
    transitions: dict[str, Any] = {}
    for index, step in enumerate(names):
        after = [names[index - 1]] if index else []
        transitions[step] = {
            "processor_ref": REF,
            "mode": "mock",
            "inputs": dict(PARAMS),
            "depends_on": after,
        }
    return {
        "schema": "theory.plan.v1",
        "plan": name,
        "budget": {},
        "transitions": transitions,
        **members,
    }


def _parsed(envelope: bytes) -> Mapping[str, Any]:
    parsed: Mapping[str, Any] = loads_strict(envelope)
    return parsed


async def _once(data: bytes) -> AsyncIterator[bytes]:
    yield data
