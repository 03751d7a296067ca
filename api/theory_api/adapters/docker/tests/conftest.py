"""A container adapter on memory stores and the real engine, and who is left."""

from __future__ import annotations

import platform
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from theory_api.adapters.docker.engine import Engine
from theory_api.adapters.docker.images import Images
from theory_api.adapters.docker.transport import DockerPace, LocalWsAdapter
from theory_api.adapters.memory.artifacts import MemoryArtifacts
from theory_api.adapters.memory.intakes import MemoryIntakes
from theory_api.adapters.run_v1.health import HealthPace
from theory_api.adapters.run_v1.places import home_name, runtime_root
from theory_api.delivery.snapshot import load_registry
from theory_api.domain.registry import RegistrySnapshot
from theory_api.ports.intake import InputArtifact
from theory_api.tests.engine import LEAN, ROOT, address, connected, image, left, repository_of
from theory_core import canonicalize, digest, loads_strict

FIXTURES = ROOT / "processors" / "runtime" / "theory_runtime" / "tests" / "fixtures"
REF = "test/deeds@1"
LIES = "test/liar@1"
LIAR = Path(__file__).parent / "liar"
PLAN = "/world/acme/p1"
ARCH = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
PRINT = f"cpu:1;memory:256Mi;platform:{ARCH};runtime:python3"


class Registry:
    """The shipped registry and one more processor; it stays what it is."""

    def __init__(self, *, network: str = "none") -> None:
        shipped = load_registry(ROOT / "registry")
        document: dict[str, Any] = loads_strict(shipped.document)
        for ref in (REF, LIES):
            spec = dict(document["processors"]["media/shotlist@1"])
            spec |= {"ref": ref, "image": repository_of(ref), "network": network}
            spec["runtime"] = {**spec["runtime"], "memory": "256Mi", "concurrency": 2}
            document["processors"] = {**document["processors"], ref: spec}
        self.current = RegistrySnapshot.from_document(canonicalize(document))

    async def pin(self) -> RegistrySnapshot:
        return self.current

    async def get(self, _snapshot_id: str) -> RegistrySnapshot:
        return self.current


@dataclass
class Bench:
    """An adapter and all that stands around it."""

    adapter: LocalWsAdapter
    intakes: MemoryIntakes
    artifacts: MemoryArtifacts
    home: Path
    client: Any
    secrets: dict[str, str]
    ref: str = REF
    reach: tuple[str, ...] = ()
    frames: list[Mapping[str, Any]] = field(default_factory=list)

    async def run(
        self,
        params: Mapping[str, Any],
        *,
        name: str = "x1",
        mode: str = "mock",
        timeout_s: float = 60,
        inputs: tuple[InputArtifact, ...] = (),
        secrets: tuple[str, ...] = (),
        ref: str = "",
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
            "ref": ref or self.ref,
            "mode": mode,
            "inputs": {"schema": "v1", "params": dict(params)},
            "write_prefix": prefix,
            "env_fingerprint": PRINT,
            "registry_snapshot": digest(b""),
            "timeout_s": int(timeout_s),
            "secrets": list(secrets),
            "reach": list(self.reach),
            "inputs_hash": digest(b"unused"),
        }
        envelope = await self.adapter.invoke(
            ref=ref or self.ref,
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

    def container(self, name: str = "x1") -> Any:  # noqa: ANN401 - of the SDK
        """The container of an execution."""
        (found,) = self.containers(name)
        return found

    def containers(self, name: str = "x1") -> list[Any]:
        """Containers of an execution, running or not."""
        wanted = [f"theory.home={home_name(self.home)}", f"theory.execution={name}"]
        found: list[Any] = self.client.containers.list(
            all=True, filters={"label": wanted}, ignore_removed=True
        )
        return found

    def kinds(self) -> list[str]:
        """Kinds of the frames that came."""
        return [frame["kind"] for frame in self.frames]


@pytest.fixture(scope="session")
def client() -> Iterator[Any]:
    """The engine of this machine."""
    found = connected()
    yield found
    found.close()


@pytest.fixture(scope="session")
def deeds(client: Any, tmp_path_factory: pytest.TempPathFactory) -> str:  # noqa: ANN401
    """Id of the image of the processor that misbehaves to order."""
    folder = tmp_path_factory.mktemp("deeds") / "1"
    shutil.copytree(FIXTURES / "test" / "deeds" / "1", folder)
    return image(client, REF, folder, lock=LEAN)


@pytest.fixture(scope="session")
def liars(client: Any, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:  # noqa: ANN401
    """Builds the image of the processor that keeps no rule, by how it starts; once each."""

    @cache
    def built(start: str) -> str:
        folder = tmp_path_factory.mktemp("liar") / "1"
        shutil.copytree(LIAR, folder)
        (folder / "start.txt").write_text(start, encoding="ascii")
        return image(client, LIES, folder, lock=LEAN)

    return built


@pytest.fixture
def liar(client: Any, bench: Bench, liars: Callable[[str], str]) -> Callable[[str], str]:  # noqa: ANN401
    """Has the bench run the processor that keeps no rule, with the given way to start."""

    def chosen(start: str) -> str:
        ident = liars(start)
        client.images.get(ident).tag(repository_of(LIES), "build")
        bench.ref = LIES
        return ident

    return chosen


@pytest.fixture
def short() -> Iterator[Path]:
    """A home with a short path."""
    folder = Path(tempfile.mkdtemp(prefix="th-", dir="/tmp"))  # sockets need it short
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def adapter_of(short: Path, intakes: MemoryIntakes, secrets: dict[str, str]) -> LocalWsAdapter:
    """An adapter as wiring makes one."""
    engine = Engine(address())
    return LocalWsAdapter(
        engine=engine,
        images=Images(engine, registry="", platform=ARCH),
        snapshots=Registry(),
        intakes=intakes,
        home=short,
        secret=secrets.get,
        pace=DockerPace(health=HealthPace(budget_s=15), overtime_s=8),
    )


@pytest.fixture
async def bench(client: Any, deeds: str, short: Path) -> AsyncIterator[Bench]:  # noqa: ANN401
    """Law: after every test no container, folder or socket of it is left."""
    # Another suite on this engine may have built its own meanwhile.
    client.images.get(deeds).tag(repository_of(REF), "build")
    artifacts = MemoryArtifacts()
    intakes = MemoryIntakes(artifacts)
    secrets: dict[str, str] = {}
    adapter = adapter_of(short, intakes, secrets)
    made = Bench(adapter, intakes, artifacts, short, client, secrets)
    yield made
    for name in await adapter.remembered():
        await adapter.release(name)
    for listed in await adapter._pool.listed():
        await adapter._pool.discard(listed["name"])
    await adapter.close()
    assert left(client, home_name(short)) == []
    assert not runtime_root(short, "d").exists()
    assert not runtime_root(short, "w").exists()
    assert not adapter._places.of("x1").secrets.parent.exists()
