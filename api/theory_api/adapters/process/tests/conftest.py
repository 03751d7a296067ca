"""A process adapter on memory stores, a processor that misbehaves to order, and who is left."""

from __future__ import annotations

import platform
import shutil
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest

import theory_api
from theory_api.adapters.memory.artifacts import MemoryArtifacts
from theory_api.adapters.memory.intakes import MemoryIntakes
from theory_api.adapters.process import ProcessPace, ProcessWsAdapter, folder_resolver
from theory_api.adapters.process.kin import find
from theory_api.adapters.run_v1.health import HealthPace
from theory_api.adapters.run_v1.places import runtime_root
from theory_api.ports.intake import InputArtifact
from theory_core import canonicalize, digest, loads_strict

RUNTIME = Path(theory_api.__file__).parents[2] / "processors" / "runtime" / "theory_runtime"
FIXTURES = RUNTIME / "tests" / "fixtures"
REF = "test/deeds@1"
PLAN = "/world/acme/p1"
ARCH = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
PRINT = f"cpu:1;memory:4Gi;platform:{ARCH};runtime:python3"


class Here:
    """Environments: the interpreter of the tests has all that the fixtures need."""

    async def python_for(
        self, _folder: Path, _mode: str, _on_progress: Callable[[str], None]
    ) -> Path:
        return Path(sys.executable)


@dataclass
class Bench:
    """An adapter and all that stands around it."""

    adapter: ProcessWsAdapter
    intakes: MemoryIntakes
    artifacts: MemoryArtifacts
    home: Path
    secrets: dict[str, str]
    frames: list[Mapping[str, Any]] = field(default_factory=list)

    async def run(  # noqa: PLR0913 - each is a member of a payload
        self,
        params: Mapping[str, Any],
        *,
        name: str = "x1",
        mode: str = "mock",
        timeout_s: float = 60,
        inputs: tuple[InputArtifact, ...] = (),
        secrets: tuple[str, ...] = (),
        ref: str = REF,
        fingerprint: str = PRINT,
        expected_oci: str | None = None,
    ) -> dict[str, Any]:
        """Run to the end; everything that a scheduler does around it is done."""
        prefix = f"/artifacts/outputs/test-deeds-v1/{name}/"
        await self.intakes.open(
            name, plan=PLAN, write_prefix=prefix, inputs=inputs, max_bytes=1 << 30
        )

        async def keep(frame: Mapping[str, Any]) -> None:
            self.frames.append(frame)

        payload = {
            "schema": "v1",
            "execution_id": name,
            "ref": ref,
            "mode": mode,
            "inputs": {"schema": "v1", "params": dict(params)},
            "write_prefix": prefix,
            "env_fingerprint": fingerprint,
            "registry_snapshot": digest(b""),
            "timeout_s": int(timeout_s),
            "secrets": list(secrets),
            "inputs_hash": digest(b"unused"),
        }
        envelope = await self.adapter.invoke(
            ref=ref,
            payload=payload,
            timeout_s=timeout_s,
            expected_oci=expected_oci,
            on_frame=keep,
        )
        canonicalize(envelope)
        return dict(envelope)

    async def body(self, relpath: str, *, name: str = "x1") -> bytes:
        """The bytes of an object that arrived."""
        (found,) = [one for one in self.intakes.received(name) if one.relpath == relpath]
        return await self.artifacts.get(found.cid)

    async def receipt(self, *, name: str = "x1") -> dict[str, Any]:
        """The receipt that arrived."""
        receipt: dict[str, Any] = loads_strict(await self.body("receipt.json", name=name))
        return receipt

    def kin(self, name: str = "x1") -> list[psutil.Process]:
        """Processes of an execution that are alive."""
        found = set(find(runtime_root(self.home) / name))
        return [one for one in found if one.is_running() and one.status() != "zombie"]

    def kinds(self) -> list[str]:
        """Kinds of the frames that came."""
        return [frame["kind"] for frame in self.frames]


@pytest.fixture
def short() -> Iterator[Path]:
    """A home with a short path."""
    folder = Path(tempfile.mkdtemp(prefix="th-", dir="/tmp"))  # sockets need it short
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
async def bench(short: Path) -> AsyncIterator[Bench]:
    artifacts = MemoryArtifacts()
    intakes = MemoryIntakes(artifacts)
    secrets: dict[str, str] = {}
    adapter = ProcessWsAdapter(
        resolver=folder_resolver(FIXTURES),
        intakes=intakes,
        environments=Here(),
        wheels=short,
        home=short,
        secret=secrets.get,
        pace=ProcessPace(health=HealthPace(budget_s=15), overtime_s=8),
    )
    made = Bench(adapter, intakes, artifacts, short, secrets)
    yield made
    await adapter.close()
    for name in list(adapter._live):
        await adapter.release(name)
    assert not runtime_root(short).exists()


def until(condition: Callable[[], bool], *, within_s: float) -> bool:
    """Whether a condition becomes true in time."""
    end = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True
