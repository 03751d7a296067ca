"""Processors that do what a test wrote down for them."""

# ruff: noqa: ANN401 - documents and frames hold anything

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from theory_api.adapters.memory.intakes import MemoryIntakes
from theory_api.ports.adapter import FrameSink, Measurement, Standing, SteeringOp
from theory_core import HASH_SCHEMA, TheoryError, canonicalize, digest


@dataclass
class Run:
    """One execution as the processor's side sees it."""

    adapter: Processors
    execution_id: str
    payload: Mapping[str, Any]
    on_frame: FrameSink
    usage: dict[str, int] = field(default_factory=lambda: {"cpu_ms": 5, "latency_ms": 10})
    stopped: asyncio.Event = field(default_factory=asyncio.Event)
    seq: int = 0

    @property
    def params(self) -> Mapping[str, Any]:
        params: Mapping[str, Any] = self.payload["inputs"]["params"]
        return params

    async def put(self, relpath: str, data: bytes, mime: str = "text/plain") -> dict[str, Any]:
        async def chunks() -> AsyncIterator[bytes]:
            yield data

        arrived = await self.adapter.intakes.put(self.execution_id, relpath, chunks(), mime=mime)
        path = f"{self.payload['write_prefix']}{arrived.relpath}"
        return {"path": path, "cid": arrived.cid, "size_bytes": arrived.size_bytes, "mime": mime}

    async def frame(self, kind: str, **content: Any) -> None:
        self.seq += 1
        await self.on_frame({"kind": kind, "seq": self.seq, "content": content})

    async def receipt(self, status: str, **fields: Any) -> None:
        same = ("execution_id", "env_fingerprint", "inputs_hash", "mode", "registry_snapshot")
        body = {name: self.payload[name] for name in same} | {
            "processor_ref": self.payload["ref"],
            "hash_schema": HASH_SCHEMA,
            "status": status,
            "processor_info": "demo",
            "written_by": "processor",
            "timestamp_utc": "2026-01-01T00:00:00.000000Z",
            "duration_ms": 1,
            "usage": {"usd_micro": 1},
        }
        await self.put("receipt.json", canonicalize(body | fields), "application/json")

    async def succeed(self, files: Mapping[str, bytes], **fields: Any) -> dict[str, Any]:
        """Deliver files, index and receipt; the envelope of a success."""
        outputs = [await self.put(f"outputs/{name}", body) for name, body in sorted(files.items())]
        index = canonicalize({"outputs": outputs})
        await self.put("outputs.json", index, "application/json")
        await self.receipt("success", outputs_index=digest(index), **fields)
        return {
            "status": "success",
            "execution_id": self.execution_id,
            "outputs": outputs,
            "index_path": f"{self.payload['write_prefix']}outputs.json",
            "meta": {"env_fingerprint": self.payload["env_fingerprint"]},
        }

    def fail(self, code: str = "ERR_PROVIDER") -> dict[str, Any]:
        """The envelope of an error."""
        return {
            "status": "error",
            "execution_id": self.execution_id,
            "error": {"code": code, "message": "it did not work"},
            "meta": {"env_fingerprint": self.payload["env_fingerprint"]},
        }


Behaviour = Callable[[Run], Awaitable[dict[str, Any]]]


async def well(run: Run) -> dict[str, Any]:
    """Write one file that names the inputs."""
    return await run.succeed({"x": canonicalize(dict(run.params))})


async def badly(run: Run) -> dict[str, Any]:
    """Fail as a provider does."""
    return run.fail()


async def forever(run: Run) -> dict[str, Any]:
    """Run until stopped."""
    await run.stopped.wait()
    return run.fail("ERR_CANCELLED")


class Processors:
    """An adapter whose processors do what the test wrote down for their param `do`."""

    name = "process"
    enforced = frozenset({"cpu_ms", "latency_ms"})
    steers: frozenset[SteeringOp] = frozenset({"pause", "resume"})

    def __init__(self, intakes: MemoryIntakes) -> None:
        self.intakes = intakes
        self.behaviours: dict[str, list[Behaviour]] = {}
        self.runs: dict[str, Run] = {}
        self.standings: dict[str, Standing] = {}
        self.cancelled: list[str] = []
        self.unstoppable: set[str] = set()
        self.steered: list[tuple[str, str]] = []
        self.unsteerable: list[TheoryError] = []
        self.away: TheoryError | None = None
        self.released: list[str] = []
        self.kept: set[str] = set()
        self.prepared: list[str] = []
        self.pinned: list[str | None] = []
        self.unprepared: list[TheoryError] = []
        self.shut: dict[str, asyncio.Event] = {}
        """Modes whose preparation waits for something."""
        self.door = asyncio.Event()
        self.door.set()
        self.most = 0
        self.busy = 0
        self.closed = False
        self.image_id: str | None = None

    async def prepare(
        self, *, ref: str, mode: str, pinned: str | None, on_progress: Callable[[str], None]
    ) -> None:
        await asyncio.sleep(0)
        if mode in self.shut:
            await self.shut[mode].wait()
        on_progress(f"preparing {ref} for {mode}")
        if self.unprepared:
            raise self.unprepared.pop(0)
        self.prepared.append(ref)
        self.pinned.append(pinned)

    async def invoke(
        self,
        *,
        ref: str,
        payload: Mapping[str, Any],
        timeout_s: float,
        expected_oci: str | None,
        on_frame: FrameSink | None = None,
    ) -> Mapping[str, Any]:
        assert (payload["ref"], payload["timeout_s"], expected_oci) == (ref, timeout_s, None)
        assert on_frame is not None
        await self.door.wait()
        ident = payload["execution_id"]
        assert ident not in self.runs, "no execution runs twice"
        run = self.runs[ident] = Run(self, ident, payload, on_frame)
        waiting = self.behaviours.get(str(run.params.get("do")), [well])
        behaviour = waiting.pop(0) if len(waiting) > 1 else waiting[0]
        self.busy += 1
        self.most = max(self.most, self.busy)
        try:
            envelope: Mapping[str, Any] = await behaviour(run)
            return envelope
        finally:
            self.busy -= 1

    async def cancel(self, execution_id: str) -> bool:
        self.cancelled.append(execution_id)
        run = self.runs.get(execution_id)
        if run is not None:
            run.stopped.set()
        return execution_id not in self.unstoppable

    async def steer(self, execution_id: str, op: SteeringOp) -> None:
        await asyncio.sleep(0)
        if self.unsteerable:
            raise self.unsteerable.pop(0)
        self.steered.append((execution_id, op))

    def measured(self, execution_id: str) -> Measurement:
        run = self.runs.get(execution_id)
        return Measurement({} if run is None else dict(run.usage), self.image_id)

    async def remembered(self) -> tuple[str, ...]:
        return tuple(self.kept)

    async def standing(self, execution_id: str) -> Standing:
        if self.away is not None:
            raise self.away
        return self.standings.get(execution_id, Standing.ABSENT)

    async def release(self, execution_id: str) -> None:
        self.released.append(execution_id)

    async def close(self) -> None:
        self.closed = True
