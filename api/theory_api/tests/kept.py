"""Every transport behind a whole engine, on SQLite and files: runs, and what they leave behind."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import structlog

from theory_api import settings as configuration
from theory_api.adapters.docker.engine import knock
from theory_api.adapters.files.home import Home
from theory_api.adapters.files.journalled import reading
from theory_api.delivery.pins import pin
from theory_api.ports.adapter import Adapter, FrameSink
from theory_api.ports.intake import Intakes
from theory_api.services.runs import RunRequest
from theory_api.tests import transports
from theory_api.tests.engine import ROOT, address, connected, repository_of
from theory_api.tests.oci import forget, pushed, registry
from theory_api.tests.transports import ARCH, DIGEST, FIXTURES, REF, Here
from theory_api.wiring import Services, open_engine
from theory_api.wiring.site import Seams
from theory_core import TheoryError, loads_strict

LANE: Final = "dev"
LANES: Final = {"process": "build"}
"""Where child processes may run: they have no image that anybody could pin."""
ALONE: Final = frozenset({"killparent"})
"""What is done to a whole server: nobody else may be in it."""
LIAR: Final = "test/liar@1"
LYING: Final = Path(__file__).parent / "lying"
CONCURRENCY: Final = 8
SPEC: Final = """\
schema: theory.processor.v1
ref: {ref}
summary: Behaves, or misbehaves, as it is told.
image: {image}
runtime:
  cpu: "1"
  memory: 512Mi
  timeout_s: {timeout_s}
  python: "3"
  gpu: 0
  concurrency: {concurrency}
  watts: {{cpu: 15, gpu: 0}}
secrets: {{required: [], optional: []}}
inputs: {{type: object}}
outputs:
  - {{path: "outputs/*", mime: text/plain}}
  - {{path: "outputs/parts/*.txt", mime: text/plain}}
  - {{path: outputs/a, mime: text/plain; charset=utf-8}}
network: none
estimate: {{fixed: {{cpu_ms: 20000, latency_ms: 90000, io_bytes: 4194304, tokens: 100}}}}
memo: {{modes: [], salt: "1"}}
max_output_bytes: 1048576
"""

ROOTS: Final = {REF: FIXTURES, LIAR: LYING}
Event = dict[str, Any]


@dataclass(frozen=True)
class Ground:
    """What all transports stand on: one registry of processors, one image that is pinned in it."""

    registry: Path
    digest: str
    images: str
    """`host:port` that the image is pulled from; empty where no engine could."""


@contextlib.contextmanager
def ground(folder: Path) -> Iterator[Ground]:
    """A registry with the processor of the tests, pinned to its image; without an engine, to none.

    Where there is an engine the image is built, pushed, and forgotten: it has to be pulled.
    """
    place = folder / "registry"
    shutil.copytree(ROOT / "registry", place)
    for ref, timeout_s in ((REF, 60), (LIAR, 2)):
        spec = place / "processors" / f"{ref.replace('@', '/')}.yaml"
        spec.parent.mkdir(parents=True)
        told = {"timeout_s": timeout_s, "concurrency": CONCURRENCY}
        text = SPEC.format(ref=ref, image=repository_of(ref), **told)
        spec.write_text(text, encoding="utf-8")
    with contextlib.ExitStack() as stack:
        made, images = DIGEST, ""
        if answers():
            client = stack.enter_context(contextlib.closing(connected()))
            (folder / "images").mkdir()
            images = stack.enter_context(registry(folder / "images"))
            there = f"{images}/{repository_of(REF)}"
            made = pushed(client, transports.built(client), there)
            forget(client, there)
            stack.callback(forget, client, there)
        for ref in (REF, LIAR):
            pin(place, ref, lane=LANE, platform=ARCH, digest=made)
        yield Ground(place, made, images)


def answers() -> bool:
    """Whether there is an engine; in CI there is one."""
    if os.environ.get("CI"):
        return True
    try:
        knock(address())
    except OSError:
        return False
    return shutil.which("docker-registry") is not None


@dataclass(frozen=True)
class Kept:
    """What an engine has kept of a run: nothing of it was asked of the scheduler."""

    envelope: bytes
    export: bytes
    frames: Sequence[Mapping[str, Any]]
    bodies: Mapping[str, bytes]
    """cid -> stored bytes, of every artifact that the ledger names."""

    @property
    def events(self) -> list[Event]:
        """The ledger's events."""
        return [loads_strict(line)["event"] for line in self.export.splitlines()]

    def objects(self) -> dict[str, bytes]:
        """Stored bytes by their path."""
        return {
            output["path"]: self.bodies[output["cid"]]
            for event in self.events
            if event["kind"] == "artifact.produced"
            for output in event["data"]["outputs"]
        }


@dataclass
class Heard:
    """Every frame that an adapter handed on, by its execution."""

    frames: dict[str, list[Mapping[str, Any]]] = field(default_factory=dict)

    def beside(self, adapter: Adapter, _intakes: Intakes) -> Adapter:
        """The adapter, listened to."""
        invoke = adapter.invoke

        async def heard(
            *,
            ref: str,
            payload: Mapping[str, Any],
            timeout_s: float,
            expected_oci: str | None,
            on_frame: FrameSink | None = None,
        ) -> Mapping[str, Any]:
            kept = self.frames.setdefault(payload["execution_id"], [])

            async def both(frame: Mapping[str, Any]) -> None:
                kept.append(frame)
                if on_frame is not None:
                    await on_frame(frame)

            return await invoke(
                ref=ref,
                payload=payload,
                timeout_s=timeout_s,
                expected_oci=expected_oci,
                on_frame=both,
            )

        adapter.invoke = heard  # type: ignore[method-assign]
        return adapter


Deeds = Mapping[str, Mapping[str, Any]]


@contextlib.asynccontextmanager
async def opened(
    transport: str, ground: Ground, home: Path, *, ref: str = REF
) -> AsyncIterator[tuple[Services, Heard]]:
    """An engine of its own whose runs go over a transport, and all that its adapters hand on."""
    heard = Heard()
    async with AROUND[transport](ground, home, ref) as more:
        environment = {
            "CI": "true",
            "PATH": os.environ["PATH"],
            "DOCKER_HOST": address(),
            "THEORY_LOG": "error",
            "THEORY_REGISTRY": str(ground.registry),
            "THEORY_PROCESSORS": str(FIXTURES),
            "THEORY_IMAGE_REGISTRY": ground.images,
            "THEORY_HEALTH_S": "30",
            "THEORY_PARALLEL": "4" if ref == REF else "16",
            **more,
        }
        settings = configuration.read(environment, home=home / "home")
        seams = Seams(adapter=heard.beside)
        try:
            async with open_engine(settings, environments=Here(), seams=seams) as services:
                yield services, heard
        finally:
            structlog.reset_defaults()


async def one(
    services: Services,
    transport: str,
    name: str,
    params: Mapping[str, Any],
    ref: str = REF,
    *,
    timeout_s: int | None = None,
) -> bytes:
    """Run a deed to its end; the envelope."""
    request = RunRequest(
        ref=ref,
        inputs=params,
        adapter=transport,
        lane=LANES.get(transport, LANE),
        execution_id=name,
        timeout_s=timeout_s,
    )
    return (await services.runs.run(request, tenant="local", by="test")).envelope


async def exported(services: Services, name: str) -> bytes:
    """The ledger of a run."""
    return b"".join([line async for line in services.ledgers.export(f"/world/local/run-{name}")])


async def keep(
    transport: str,
    ground: Ground,
    home: Path,
    deeds: Deeds,
    *,
    cancelled: Collection[str] = (),
    timeouts: Mapping[str, int] = MappingProxyType({}),
) -> dict[str, Kept]:
    """Run every deed through a scheduler, a few at once, and read what is on disk afterwards.

    What is to be cancelled is, by its plan, once all that it streams was heard.
    """
    async with opened(transport, ground, home) as (services, heard):

        async def run(name: str) -> bytes:
            if name not in cancelled:
                given_s = timeouts.get(name)
                return await one(services, transport, name, deeds[name], timeout_s=given_s)
            running = asyncio.create_task(one(services, transport, name, deeds[name]))
            await _streamed(services, heard, name, running)
            await services.plans.cancel(f"/world/local/run-{name}", by="operator", reason="enough")
            return await running

        alone = [name for name, params in deeds.items() if params["do"] in ALONE]
        rest = [name for name in deeds if name not in alone]
        found = dict(zip(rest, await asyncio.gather(*map(run, rest)), strict=True))
        for name in alone:
            found[name] = await run(name)
        exports = {name: await exported(services, name) for name in deeds}
    return {
        name: Kept(
            found[name],
            exports[name],
            [frame for ident in _idents(exports[name]) for frame in heard.frames.get(ident, [])],
            await _bodies(home / "home", exports[name]),
        )
        for name in deeds
    }


async def _streamed(
    services: Services, heard: Heard, name: str, running: asyncio.Task[bytes]
) -> None:
    """Wait until a run has said that it is at the end of what it streams, or has ended."""
    while not running.done():
        try:
            export = await exported(services, name)
        except TheoryError as error:
            if error.code != "ERR_NOT_FOUND":
                raise
            export = b""
        frames = [frame for ident in _idents(export) for frame in heard.frames.get(ident, [])]
        if any(frame["content"].get("phase") == "end" for frame in frames):
            return
        await asyncio.sleep(0.1)


def _idents(export: bytes) -> list[str]:
    """The executions of a ledger, in their order."""
    events = [loads_strict(line)["event"] for line in export.splitlines()]
    return [e["data"]["execution_id"] for e in events if e["kind"] == "execution.started"]


async def _bodies(home: Path, export: bytes) -> dict[str, bytes]:
    files = reading(Home(home))
    events = [loads_strict(line)["event"] for line in export.splitlines()]
    outputs = [
        output
        for event in events
        if event["kind"] == "artifact.produced"
        for output in event["data"]["outputs"]
    ]
    envelopes = [e["data"]["envelope"] for e in events if "envelope" in e["data"]]
    cids = {output["cid"] for output in outputs} | {*envelopes}
    return {cid: await files.get(cid) for cid in sorted(cids)}


# -- what each transport needs around it --------------------------------------------------------


@contextlib.asynccontextmanager
async def _nothing(_ground: Ground, _home: Path, _ref: str) -> AsyncIterator[dict[str, str]]:
    yield {}


@contextlib.asynccontextmanager
async def _an_engine(_ground: Ground, _home: Path, _ref: str) -> AsyncIterator[dict[str, str]]:
    """Skipped loudly where no engine answers."""
    connected().close()
    yield {}


@contextlib.asynccontextmanager
async def _a_server(ground: Ground, _home: Path, ref: str) -> AsyncIterator[dict[str, str]]:
    with transports.short_folder() as folder:
        told = ("--image-digest", ground.digest)
        async with transports.served(folder, *told, ref=ref, root=ROOTS[ref]) as endpoint:
            yield {"THEORY_LOCAL_URL": endpoint.url}


@contextlib.asynccontextmanager
async def _a_cloud(ground: Ground, home: Path, ref: str) -> AsyncIterator[dict[str, str]]:
    """The gateway stands where the cloud finds it: here that is this machine."""
    (port,) = transports.free_ports(1)
    what: dict[str, Any] = {"ref": ref, "root": ROOTS[ref], "concurrency": CONCURRENCY}
    async with transports.deployed(home, digest=ground.digest, **what) as cloud:
        with transports.modal_settings(cloud):
            yield {
                "THEORY_GATEWAY_LISTEN": f"127.0.0.1:{port}",
                "THEORY_GATEWAY_URL": f"http://127.0.0.1:{port}",
                "THEORY_MODAL_KEY": transports.PROXY["Modal-Key"],
                "THEORY_MODAL_SECRET": transports.PROXY["Modal-Secret"],
            }


AROUND: Mapping[str, Callable[[Ground, Path, str], AbstractAsyncContextManager[dict[str, str]]]] = {
    "process": _nothing,
    "local": _an_engine,
    "local-http": _a_server,
    "modal": _a_cloud,
    "modal-http": _a_cloud,
}
