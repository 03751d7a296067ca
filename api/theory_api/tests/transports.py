"""Every transport around the same processor, each made in one place, all asked in one way."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import platform
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import theory_api
from theory_api.adapters.docker.tests.conftest import adapter_of
from theory_api.adapters.http.transport import http
from theory_api.adapters.memory.artifacts import MemoryArtifacts
from theory_api.adapters.memory.intakes import MemoryIntakes
from theory_api.adapters.modal.app import MOCK, RUN, Layout
from theory_api.adapters.modal.deployer import ModalDeployer
from theory_api.adapters.modal.endpoints import ModalEndpoints
from theory_api.adapters.modal.sdk import ModalSdk
from theory_api.adapters.modal.transport import ModalWsAdapter
from theory_api.adapters.process import ProcessWsAdapter, folder_resolver
from theory_api.adapters.run_v1.endpoint import Endpoint
from theory_api.adapters.run_v1.health import HealthPace
from theory_api.adapters.run_v1.remote import RemoteAdapter, RemotePace, websocket
from theory_api.adapters.run_v1.uploads import Gate, TcpUploads
from theory_api.domain.deployment import Deployment, app_name
from theory_api.ports.adapter import Adapter
from theory_api.ports.intake import InputArtifact
from theory_api.tests.engine import LEAN, connected, image, repository_of
from theory_api.tests.modal_cloud import ModalCloud, modal_cloud
from theory_core import canonicalize, digest, loads_strict

PROCESSORS = Path(theory_api.__file__).parents[2] / "processors"
FIXTURES = PROCESSORS / "runtime" / "theory_runtime" / "tests" / "fixtures"
REF = "test/deeds@1"
PLAN = "/world/acme/p1"
ARCH = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
PRINT = f"cpu:1;memory:4Gi;platform:{ARCH};runtime:python3"
DIGEST = "sha256:" + "d1" * 32
PACE = RemotePace(health=HealthPace(budget_s=30), overtime_s=8)
ELSEWHERE = {
    "PATH": os.environ["PATH"],
    "TZ": "Pacific/Kiritimati",
    "LC_ALL": "C",
    "PYTHONHASHSEED": "4242",
    "HOME": "/nonexistent",
}
"""An environment that has as little as possible in common with that of the tests."""
PROXY = {"Modal-Key": "wk-test", "Modal-Secret": "ws-test"}


@dataclass
class Desk:
    """A transport and the stores behind it: runs are ordered here, and looked at afterwards."""

    adapter: Adapter
    intakes: MemoryIntakes
    artifacts: MemoryArtifacts
    home: Path
    frames: list[Mapping[str, Any]] = field(default_factory=list)
    cloud: ModalCloud | None = None
    digest: str | None = None
    """Digest of the image that runs, where there is one."""

    async def run(
        self,
        params: Mapping[str, Any],
        *,
        name: str = "x1",
        prefix: str | None = None,
        inputs: tuple[InputArtifact, ...] = (),
        expected_oci: str | None = None,
        timeout_s: float = 60,
        **changes: object,
    ) -> dict[str, Any]:
        """Run to the end; everything that a scheduler does around it is done."""
        folder = f"/artifacts/outputs/test-deeds-v1/{name}/" if prefix is None else prefix
        payload = {
            "schema": "v1",
            "execution_id": name,
            "ref": REF,
            "mode": "mock",
            "inputs": {"schema": "v1", "params": dict(params)},
            "write_prefix": folder,
            "env_fingerprint": PRINT,
            "registry_snapshot": digest(b""),
            "timeout_s": int(timeout_s),
            "secrets": [],
            "inputs_hash": digest(b"unused"),
            **changes,
        }
        await self.intakes.open(
            name, plan=PLAN, write_prefix=folder, inputs=inputs, max_bytes=1 << 30
        )
        envelope = await self.adapter.invoke(
            ref=str(payload["ref"]),
            payload=payload,
            timeout_s=timeout_s,
            expected_oci=expected_oci,
            on_frame=self._keep,
        )
        canonicalize(envelope)
        return dict(envelope)

    async def _keep(self, frame: Mapping[str, Any]) -> None:
        self.frames.append(frame)

    def kinds(self) -> list[str]:
        """Kinds of the frames that came."""
        return [frame["kind"] for frame in self.frames]

    async def objects(self, name: str = "x1") -> dict[str, bytes]:
        """What arrived, by its path below the write prefix."""
        found = self.intakes.received(name)
        return {one.relpath: await self.artifacts.get(one.cid) for one in found}

    async def receipt(self, name: str = "x1") -> dict[str, Any]:
        """The receipt that arrived."""
        receipt: dict[str, Any] = loads_strict((await self.objects(name))["receipt.json"])
        return receipt

    async def heard(self, kind: str, *, within_s: float = 30) -> None:
        """Wait for a frame of a kind."""
        until = time.monotonic() + within_s
        while kind not in self.kinds():
            assert time.monotonic() < until, f"no {kind} came"
            await asyncio.sleep(0.02)


class Here:
    """Environments: the interpreter of the tests has all that the fixtures need."""

    async def python_for(self, _folder: Path, _mode: str, _progress: Callable[[str], None]) -> Path:
        return Path(sys.executable)


@contextlib.contextmanager
def short_folder() -> Iterator[Path]:
    """A folder with a short path: sockets need it."""
    folder = Path(tempfile.mkdtemp(prefix="th-", dir="/tmp"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on."""
    with contextlib.ExitStack() as probes:
        found = [probes.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [probe.getsockname()[1] for probe in found]


@contextlib.asynccontextmanager
async def over_process(home: Path) -> AsyncIterator[Desk]:
    """A child process of this one."""
    artifacts = MemoryArtifacts()
    intakes = MemoryIntakes(artifacts)
    adapter = ProcessWsAdapter(
        resolver=folder_resolver(FIXTURES),
        intakes=intakes,
        environments=Here(),
        wheels=home,
        home=home,
    )
    yield Desk(adapter, intakes, artifacts, home)
    await adapter.close()
    for name in await adapter.remembered():
        await adapter.release(name)


class Fixed:
    """One server for everything."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint

    async def of(self, _ref: str, _mode: str, *, where: str = "") -> Endpoint:
        assert where in {"", self.endpoint.where}
        return self.endpoint


@contextlib.asynccontextmanager
async def served(
    folder: Path, *more: str, ref: str = REF, root: Path = FIXTURES
) -> AsyncIterator[Endpoint]:
    """The processor's server, started by somebody, on a port of loopback."""
    (port,) = free_ports(1)
    held, lifeline = os.pipe()
    main = root / ref.replace("@", "/") / "main.py"
    command = [sys.executable, str(main), "--serve", str(folder), "--lifeline", str(held)]

    async def keep() -> None:
        """A server that was killed is started again; one that ended was told to."""
        code: int | None = None
        while code != 0:
            process = await asyncio.create_subprocess_exec(
                *(*command, "--listen", f"127.0.0.1:{port}", *more),
                pass_fds=(held,),
                cwd=folder,
                env=ELSEWHERE,
            )
            code = await process.wait()
            assert code in {0, -signal.SIGKILL}

    keeping = asyncio.create_task(keep())
    try:
        yield Endpoint.at(f"http://127.0.0.1:{port}")
    finally:
        os.close(lifeline)
        await asyncio.wait_for(keeping, 15)
        os.close(held)


@contextlib.asynccontextmanager
async def over_local_http(home: Path) -> AsyncIterator[Desk]:
    """Legacy HTTP to a server of this machine."""
    artifacts = MemoryArtifacts()
    intakes = MemoryIntakes(artifacts)
    with short_folder() as folder:
        async with served(folder, "--image-digest", DIGEST) as endpoint:
            adapter = RemoteAdapter(
                name="local-http",
                endpoints=Fixed(endpoint),
                uploads=TcpUploads(Gate(), intakes),
                speech=http(),
                home=home,
                pace=PACE,
            )
            yield Desk(adapter, intakes, artifacts, home, digest=DIGEST)
            await adapter.close()


@contextlib.asynccontextmanager
async def over_local(home: Path) -> AsyncIterator[Desk]:
    """A container of this machine's engine, made from its source."""
    client = connected()
    try:
        await asyncio.to_thread(built, client)
        artifacts = MemoryArtifacts()
        intakes = MemoryIntakes(artifacts)
        adapter = adapter_of(home, intakes, {})
        yield Desk(adapter, intakes, artifacts, home)
        for name in await adapter.remembered():
            await adapter.release(name)
        await adapter.close()
    finally:
        client.close()


@functools.cache
def built(client: Any) -> str:  # noqa: ANN401 - the SDK's client
    """Id of the image of the fixture processor."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made) / "1"
        shutil.copytree(FIXTURES / REF.replace("@", "/"), folder)
        return image(client, REF, folder, lock=LEAN)


def deeds(layout_ports: Sequence[int], **changes: object) -> tuple[Deployment, Layout]:
    """The fixture processor as it is deployed in tests, and where it lies on this machine."""
    facts: dict[str, Any] = {
        "app": app_name(REF),
        "ref": REF,
        "image": f"theory/test-deeds-v1@{DIGEST}",
        "image_digest": DIGEST,
        "cpu_milli": 1000,
        "memory_mib": 512,
        "gpu": 0,
        "timeout_s": 120,
        "concurrency": 2,
        "secrets_required": ("OPENAI_API_KEY",),
        "secrets_optional": (),
        **changes,
    }
    ports = dict(zip((RUN, MOCK), layout_ports, strict=True))
    layout = Layout(root=str(FIXTURES), python=sys.executable, host="127.0.0.1", ports=ports)
    return Deployment(**facts), layout


@contextlib.contextmanager
def modal_settings(cloud: ModalCloud) -> Iterator[None]:
    """The SDK's own settings, for the stand-in."""
    told = {
        "MODAL_SERVER_URL": cloud.url,
        "MODAL_TOKEN_ID": "ak-test",
        "MODAL_TOKEN_SECRET": "as-test",
        "MODAL_CONFIG_PATH": "/nonexistent",
    }
    before = {name: os.environ.get(name) for name in told}
    os.environ.update(told)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value


@contextlib.asynccontextmanager
async def deployed(
    folder: Path,
    *,
    digest: str = DIGEST,
    ref: str = REF,
    root: Path = FIXTURES,
    **changes: object,
) -> AsyncIterator[ModalCloud]:
    """A cloud to which a processor of the tests was deployed, in the image of a digest."""
    async with modal_cloud(folder) as cloud:
        pinned = {"image": f"{repository_of(ref)}@{digest}", "image_digest": digest}
        deployment, layout = deeds(free_ports(2), ref=ref, app=app_name(ref), **pinned, **changes)
        layout = replace(layout, root=str(root))
        cloud.images.add(deployment.image)
        cloud.secrets["dev", "theory-openai-api-key"] = {"OPENAI_API_KEY": "canary-1234567890"}
        with modal_settings(cloud):
            deployer = ModalDeployer(ModalSdk(environment="dev"), layout=layout)
            await deployer.deploy(deployment)
            await deployer.close()
            yield cloud
        assert cloud.faults == []


@contextlib.asynccontextmanager
async def _over_modal(home: Path, name: str) -> AsyncIterator[Desk]:
    artifacts = MemoryArtifacts()
    intakes = MemoryIntakes(artifacts)
    async with deployed(home) as cloud:
        sdk = ModalSdk(environment="dev")
        adapter = ModalWsAdapter(
            sdk=sdk,
            endpoints=ModalEndpoints(sdk, app=app_name, headers=PROXY),
            uploads=TcpUploads(Gate(), intakes),
            home=home,
            pace=PACE,
            name=name,
            speech=websocket if name == "modal" else http("ERR_MODAL_INVOCATION"),
        )
        yield Desk(adapter, intakes, artifacts, home, cloud=cloud, digest=DIGEST)
        await adapter.close()


def over_modal(home: Path) -> AbstractAsyncContextManager[Desk]:
    """A container in the cloud, over WebSocket."""
    return _over_modal(home, "modal")


def over_modal_http(home: Path) -> AbstractAsyncContextManager[Desk]:
    """A container in the cloud, over legacy HTTP."""
    return _over_modal(home, "modal-http")


TRANSPORTS: Mapping[str, Callable[[Path], AbstractAsyncContextManager[Desk]]] = {
    "process": over_process,
    "local": over_local,
    "local-http": over_local_http,
    "modal": over_modal,
    "modal-http": over_modal_http,
}
"""Every transport there is; what joins here is held to all that the others are."""
