"""What the adapter adds to a run in a waiting container, beside the bare protocol to the same one.

Needs a Docker engine and the image of the processor: `theory image build agent/planner@1`. Each run
is its sample's, and counts only if it succeeds with two outputs at least, which are delivered with
index and receipt. The row `added` is the difference of neighbours; `around` is what a run through
the adapter took outside of its own conversation with the container, which no other run's luck is
part of.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import structlog

from benchmarks.measure import arguments, percentile, report
from theory_api.adapters.docker import transport
from theory_api.adapters.docker.engine import Engine
from theory_api.adapters.docker.images import Images
from theory_api.adapters.docker.sandbox import limits
from theory_api.adapters.docker.transport import LocalWsAdapter
from theory_api.adapters.docker.warm import Kind
from theory_api.adapters.memory.artifacts import MemoryArtifacts
from theory_api.adapters.memory.intakes import MemoryIntakes
from theory_api.adapters.run_v1 import calling
from theory_api.adapters.run_v1.client import RunClient, dial_socket
from theory_api.adapters.run_v1.gateway import UPLOAD_URL, Gateway, GatewayServer
from theory_api.adapters.run_v1.health import HealthPace
from theory_api.delivery.conformance.sample import read_sample
from theory_api.delivery.pinned import PinnedSnapshots
from theory_api.delivery.snapshot import load_registry
from theory_api.domain.registry import env_fingerprint
from theory_api.settings import read

REF: Final = "agent/planner@1"
_OUTPUTS: Final = 2


class Timed(RunClient):
    """A client that says how long its conversation took, and at what processor time."""

    took_ms = 0.0
    cpu_ms = 0.0

    async def run(self, *given: Any, **more: Any) -> Mapping[str, Any]:  # noqa: ANN401 - as its own
        """As its parent does."""
        began, busy = time.perf_counter(), time.process_time()
        try:
            return await super().run(*given, **more)
        finally:
            Timed.took_ms = (time.perf_counter() - began) * 1000
            Timed.cpu_ms = (time.process_time() - busy) * 1000


class House:
    """One waiting container, and both ways to it."""

    def __init__(self, home: Path) -> None:
        settings = read()
        snapshot = load_registry(settings.registry)
        self.artifacts = MemoryArtifacts()
        self.intakes = MemoryIntakes(self.artifacts)
        self.spec = snapshot.processor(REF)
        self.snapshot = snapshot.id
        folder = settings.processors / REF.replace("@", "/")
        self.sample = read_sample(
            folder / "conformance.yaml", spec=self.spec, platform=settings.platform
        )
        self.platform = settings.platform
        engine = Engine(settings.docker_host)
        self.images = Images(engine, registry="", platform=settings.platform)
        self.adapter = LocalWsAdapter(
            engine=engine,
            images=self.images,
            snapshots=PinnedSnapshots(self.artifacts, snapshot),
            intakes=self.intakes,
            home=home,
        )
        self.pool = self.adapter._pool  # noqa: SLF001 - the same containers

    async def payload(self, name: str) -> dict[str, Any]:
        """The run of the processor's own sample, which makes several outputs."""
        prefix = f"/artifacts/outputs/bench/{name}/"
        await self.intakes.open(
            name, plan="/world/bench/p1", write_prefix=prefix, inputs=(), max_bytes=1 << 20
        )
        return {
            "schema": "v1",
            "execution_id": name,
            "ref": REF,
            "mode": "mock",
            "inputs": {"schema": "v1", "params": dict(self.sample.params)},
            "write_prefix": prefix,
            "env_fingerprint": env_fingerprint(self.spec, platform=self.platform, mode="mock"),
            "registry_snapshot": self.snapshot,
            "timeout_s": 30,
            "secrets": [],
        }

    async def through(self, payload: Mapping[str, Any]) -> tuple[float, float, float]:
        """Milliseconds of a run through the adapter, of what is around its conversation, of CPU."""
        began, busy = time.perf_counter(), time.process_time()
        envelope = await self.adapter.invoke(
            ref=REF, payload=payload, timeout_s=30, expected_oci=None
        )
        took = (time.perf_counter() - began) * 1000
        cpu = (time.process_time() - busy) * 1000
        _check(envelope)
        return took, took - Timed.took_ms, cpu - Timed.cpu_ms

    async def bare(self, payload: Mapping[str, Any], folder: Path) -> float:
        """Milliseconds of the same run over a connection to the same container; its door is open.

        Opening the door is the adapter's work and not counted here.
        """
        gateway = Gateway(str(payload["execution_id"]), self.intakes)
        server = await GatewayServer.open(folder / "io.sock", gateway, mode=0o666)
        request = calling.request(
            payload,
            timeout_s=30,
            overtime_s=1,
            expected_oci=None,
            upload={"url": UPLOAD_URL, "headers": {}, "socket": "/run/theory/io.sock"},
        )
        began = time.perf_counter()
        client = RunClient(dial_socket(str(folder / "run.sock")), str(payload["execution_id"]))
        envelope = await client.run(request, on_frame=None, expected_oci=None)
        took = (time.perf_counter() - began) * 1000
        await server.close()
        _check(envelope)
        return took


def _check(envelope: Mapping[str, Any]) -> None:
    """Law: what is measured is a run that succeeded and made what its processor makes."""
    if envelope["status"] != "success" or len(envelope["outputs"]) < _OUTPUTS:
        sys.exit(f"a run is not one that counts: {envelope.get('error', envelope)}")


async def measure(count: int, pause_s: float, home: Path) -> list[dict[str, Any]]:
    """Runs in turns, so that whatever else the machine does meets both."""
    setattr(transport, "RunClient", Timed)  # noqa: B010 - not what it exports
    house = House(home)
    chosen = await house.images.choose(house.spec.image, None)
    kind = Kind(REF, chosen, limits(house.spec))
    name = await house.pool.start(kind, pace=HealthPace())
    folder = house.pool.folder(name)
    rows: dict[str, list[float]] = {"bare": [], "adapter": [], "around": [], "around, CPU": []}
    try:
        for number in range(count):
            await asyncio.sleep(pause_s)
            rows["bare"].append(await house.bare(await house.payload(f"b{number}"), folder))
            payload = await house.payload(f"a{number}")
            await asyncio.sleep(pause_s)
            found = await house.through(payload)
            for way, took in zip(("adapter", "around", "around, CPU"), found, strict=True):
                rows[way].append(took)
            await house.adapter.release(payload["execution_id"])
    finally:
        await house.pool.discard(name)
        await house.adapter.close()
    rows["added"] = [ours - bare for ours, bare in zip(rows["adapter"], rows["bare"], strict=True)]
    return [
        {
            "way": way,
            "runs": count,
            **{f"p{share:g} ms": percentile(values, share / 100) for share in (5, 50, 95)},
        }
        for way, values in rows.items()
    ]


def main() -> None:
    """Measure, print a table."""
    parser = arguments(__doc__)
    parser.add_argument("--count", type=int, default=50)
    parser.add_argument("--pause", type=float, default=0.3, help="seconds before each run")
    given = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    home = Path(tempfile.mkdtemp(prefix="thb-", dir="/tmp"))
    try:
        report("warm", asyncio.run(measure(given.count, given.pause, home)), given.out)
    finally:
        shutil.rmtree(home, ignore_errors=True)


if __name__ == "__main__":
    main()
