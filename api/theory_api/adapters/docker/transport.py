"""Reaches processors in containers of their own, without a network, over two unix sockets."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import structlog

from theory_api.adapters.docker.container import Container
from theory_api.adapters.docker.egress import Egress
from theory_api.adapters.docker.engine import Engine
from theory_api.adapters.docker.images import Chosen, Images
from theory_api.adapters.docker.remains import Remains
from theory_api.adapters.docker.sandbox import (
    INSIDE,
    LABEL_EXECUTION,
    LABEL_HOME,
    LABEL_REF,
    create_request,
    limits,
)
from theory_api.adapters.docker.warm import Kind, Lent, pool
from theory_api.adapters.run_v1 import calling
from theory_api.adapters.run_v1.calling import coded, failed
from theory_api.adapters.run_v1.client import RunClient, dial_socket, send_control
from theory_api.adapters.run_v1.gateway import UPLOAD_URL, Gateway, GatewayServer
from theory_api.adapters.run_v1.health import HealthPace
from theory_api.adapters.run_v1.places import Places, home_name, runtime_root
from theory_api.ports.adapter import FrameSink, Measurement, Standing
from theory_api.ports.intake import Intakes
from theory_api.ports.registry import Snapshots
from theory_core import TheoryError, digest

log = structlog.get_logger(__name__)

_KILLED: Final = frozenset({137, 143})
"""Exit codes of a container that somebody else stopped."""
_ANYBODY: Final = 0o666


@dataclass(frozen=True, slots=True)
class DockerPace:
    """How long the adapter waits for what."""

    health: HealthPace = field(default_factory=HealthPace)
    overtime_s: float = 15.0
    """After the run's own timeout, until the adapter ends what did not end itself."""
    control_s: float = 2.0
    """For a `Control` to be delivered."""
    stop_s: float = 8.0
    """For a cancelled run to tell its result: the runtime's grace, and a little more."""


@dataclass(slots=True)
class _Live:
    """An execution of this adapter, from its invocation to its release."""

    container: Container | None = None
    lent: Lent | None = None
    door: Gateway | None = None
    hidden: tuple[str, ...] = ()
    connected: bool = False
    cancelled: bool = False
    told: bool = False
    """Whether its result came, so that nothing of it runs in a container that waits for more."""
    gone: bool = True
    tail: str = ""
    closing: asyncio.Task[None] | None = None
    """The end of its door, which nobody waits for before the release."""
    cost: Measurement = field(default_factory=Measurement)
    ended: asyncio.Event = field(default_factory=asyncio.Event)


class LocalWsAdapter:
    """The adapter `local`: see `theory_api.ports.adapter.Adapter`.

    `home` is the folder of state. `secret` gives the value of a secret by its name, or None; it is
    asked in mode real only, for what the payload names. `may_start` is asked once the mark of an
    execution is durable, before anything of it runs. Nothing is asked of `engine` before a run.
    """

    def __init__(
        self,
        *,
        engine: Engine,
        images: Images,
        snapshots: Snapshots,
        intakes: Intakes,
        home: Path,
        secret: Callable[[str], str | None] = lambda _name: None,
        may_start: Callable[[], bool] = lambda: True,
        pace: DockerPace | None = None,
    ) -> None:
        self._engine = engine
        self._images = images
        self._snapshots = snapshots
        self._intakes = intakes
        self._secret = secret
        self._may_start = may_start
        self._pace = DockerPace() if pace is None else pace
        self._home = home_name(home)
        self._places = Places(root=runtime_root(home, "d"), marks=home / "docker", shared=True)
        self._pool = pool(engine, home)
        self._egress = Egress(engine)
        self._remains = Remains(engine, self._places, self._pool, self._home)
        self._live: dict[str, _Live] = {}

    @property
    def name(self) -> str:
        """`local`."""
        return "local"

    @property
    def enforced(self) -> frozenset[str]:
        """What the kernel and a clock count."""
        return frozenset({"cpu_ms", "latency_ms"})

    async def prepare(self, *, ref: str, mode: str, on_progress: Callable[[str], None]) -> None:
        """Nothing: which image it is, only the execution says."""

    # -- a run ----------------------------------------------------------------------------------

    async def invoke(
        self,
        *,
        ref: str,
        payload: Mapping[str, Any],
        timeout_s: float,
        expected_oci: str | None,
        on_frame: FrameSink | None = None,
    ) -> Mapping[str, Any]:
        """Run the payload in a container and return its envelope."""
        name = payload["execution_id"]
        if name in self._live and not self._live[name].ended.is_set():
            return failed(payload, coded("ERR_ADAPTER_INVOCATION", "running already"))
        live = self._live[name] = _Live()
        facts = {"execution_id": name, "processor_ref": ref, "adapter": self.name}
        log.info("adapter.invoke", **facts, mode=payload["mode"])
        try:
            kind = await self._kind(ref, payload, expected_oci)
            await self._remains.sweep(set(self._live))
            await self._enter(live, name, kind, payload)
            request = calling.request(
                payload,
                timeout_s=timeout_s,
                overtime_s=self._pace.overtime_s,
                expected_oci=expected_oci,
                upload={
                    "url": UPLOAD_URL,
                    "headers": {},
                    "socket": f"{INSIDE}/{_door(live, name)}",
                },
            )
            envelope = await self._hosted(live, name, request, timeout_s, on_frame)
        except TheoryError as error:
            told = coded("ERR_CANCELLED") if live.cancelled else error
            envelope = failed(payload, told, live.tail)
        finally:
            # Ended here whatever happened, a cancelled caller included.
            await asyncio.shield(self._end(live))
            live.ended.set()
        if not live.gone:
            envelope = failed(payload, coded("ERR_ORPHANED", "still running"), live.tail)
        log.info("adapter.complete", **facts, status=envelope["status"])
        return envelope

    async def _kind(self, ref: str, payload: Mapping[str, Any], expected: str | None) -> Kind:
        """What the registry of the run's plan says of its processor, and its image here."""
        snapshot = await self._snapshots.get(payload["registry_snapshot"])
        spec = snapshot.processor(ref)
        chosen = await self._images.choose(spec.image, expected)
        return Kind(ref, chosen, limits(spec, payload["mode"]))

    async def _enter(self, live: _Live, name: str, kind: Kind, payload: Mapping[str, Any]) -> None:
        """Mark the execution, then have a container for it: one that waits, or a new one."""
        secrets = self._secrets(payload)
        live.hidden = tuple(secrets.values())
        if not secrets and not kind.limits.egress:
            live.lent = await self._pool.claim(kind)
        noted = "" if live.lent is None else live.lent.name
        await asyncio.to_thread(self._places.make, name, secrets, noted)
        if live.cancelled:
            raise coded("ERR_CANCELLED")
        if live.lent is not None:
            live.container = live.lent.container
            live.container.begin()
            return
        folder = self._places.of(name).folder
        request = create_request(
            image_id=kind.image.id,
            image_digest=kind.image.digest,
            folder=str(folder),
            limits=kind.limits,
            labels={LABEL_HOME: self._home, LABEL_EXECUTION: name, LABEL_REF: kind.ref},
            network=await self._egress.network() if kind.limits.egress else "none",
        )
        ident = await self._create(name, request, kind.image)
        live.container = Container(self._engine, ident, folder)

    async def _create(self, name: str, request: Mapping[str, Any], image: Chosen) -> str:
        try:
            return await self._engine.create(f"theory-{self._home}-{name}", request)
        except TheoryError as error:
            if error.detail.get("status") != 404:  # noqa: PLR2004 - HTTP
                raise
            self._images.forget(image)
            raise coded("ERR_IMAGE_NOT_FOUND", image.digest or "") from error

    async def _hosted(
        self,
        live: _Live,
        name: str,
        request: Mapping[str, Any],
        timeout_s: float,
        on_frame: FrameSink | None,
    ) -> Mapping[str, Any]:
        """Run with the execution's door open; it is there before anything of the run is."""
        container = live.container
        if container is None or live.cancelled:
            raise coded("ERR_CANCELLED")
        live.door = Gateway(name, self._intakes, expires_in_s=timeout_s + self._pace.overtime_s)
        gateway = await _open_gateway(container.folder / _door(live, name), live.door)
        try:
            # Law: asked once there is a container: a successor that takes it away keeps it from
            # starting, and one that came before there was any is known to this answer.
            await calling.permitted(self._may_start, lambda: live.cancelled)
            if live.lent is None:
                await container.start()
            async with asyncio.timeout(timeout_s + self._pace.overtime_s):
                return await self._converse(live, container, name, request, on_frame)
        except TimeoutError as error:
            live.tail = await container.tail(live.hidden)
            raise coded("ERR_TIMEOUT", "adapter") from error
        except TheoryError as error:
            live.tail = await container.tail(live.hidden)
            raise await self._explained(container, error) from error
        finally:
            container.finish()
            live.closing = asyncio.create_task(gateway.close())

    async def _converse(
        self,
        live: _Live,
        container: Container,
        name: str,
        request: Mapping[str, Any],
        on_frame: FrameSink | None,
    ) -> Mapping[str, Any]:
        """Talk to the processor up to its result."""
        expected = request.get("expected_oci")

        async def heard(frame: Mapping[str, Any]) -> None:
            said = frame["content"].get("image_digest") if frame["kind"] == "Ack" else expected
            if expected is not None and said != expected:
                raise coded("ERR_REGISTRY_MISMATCH", "image_digest")
            if on_frame is not None:
                await on_frame(frame)

        if live.lent is None:
            await container.healthy(self._pace.health, expected=expected)
        live.connected = True
        client = RunClient(dial_socket(container.run_socket), name)
        envelope = await client.run(request, on_frame=heard, expected_oci=expected)
        live.told = True
        return envelope

    async def _explained(self, container: Container, error: TheoryError) -> TheoryError:
        """Why a container ended, where that is what went wrong."""
        if error.code not in {"ERR_WS_CLOSE", "ERR_WS_TIMEOUT", "ERR_HEALTH"}:
            return error
        state = await container.state()
        if state is None or state.running:
            return error
        if state.out_of_memory:
            return coded("ERR_OOM")
        if error.code == "ERR_HEALTH" or state.code in _KILLED:
            return error
        return coded("ERR_INTERNAL", f"runtime ended with {state.code}")

    async def _end(self, live: _Live) -> None:
        """Give the container back, or have it gone."""
        container = live.container
        if container is None:
            if live.lent is not None:
                live.lent.back()
            return
        container.finish()
        live.cost = container.measured()
        if live.lent is not None and live.told and not container.exited.done():
            live.lent.back()
            return
        live.gone = await container.remove()
        if live.lent is not None:
            live.gone = await self._pool.discard(live.lent.name, container.id) and live.gone
            live.lent.back()

    def _secrets(self, payload: Mapping[str, Any]) -> dict[str, str]:
        """Law: no secret is looked up but in mode real, and none that was not declared."""
        if payload["mode"] != "real":
            return {}
        found = ((name, self._secret(name)) for name in payload["secrets"])
        return {name: value for name, value in found if value}

    # -- what is asked about runs ---------------------------------------------------------------
    async def cancel(self, execution_id: str) -> bool:
        """Ask the run to stop, kill it if it does not; whether nothing of it runs any more."""
        live = self._live.get(execution_id)
        if live is None:
            return await self._remains.remove(execution_id)
        if not live.ended.is_set():
            live.cancelled = True
            await self._ask_to_stop(live, execution_id)
        if live.ended.is_set() and not live.gone and live.container is not None:
            live.gone = await live.container.remove()
        return live.ended.is_set() and live.gone

    async def _ask_to_stop(self, live: _Live, execution_id: str) -> None:
        container, until = live.container, time.monotonic() + self._pace.stop_s
        if live.connected and container is not None:
            try:
                async with asyncio.timeout(self._pace.control_s):
                    await send_control(container.run_socket, execution_id, "cancel")
            except (TheoryError, TimeoutError):
                until = 0.0
        elif container is not None:
            until = 0.0
        if live.door is not None:
            # Not before the run heard of it: an upload that fails would be its reason to end.
            live.door.shut()
        if until:
            ended = asyncio.ensure_future(live.ended.wait())
            await asyncio.wait({ended}, timeout=until - time.monotonic())
            ended.cancel()
        if not live.ended.is_set() and container is not None:
            live.gone = await container.stop()
            if live.gone:
                await live.ended.wait()

    def measured(self, execution_id: str) -> Measurement:
        """Processor time and time of an execution; empty for one that never started here."""
        live = self._live.get(execution_id)
        if live is None or live.container is None:
            return Measurement()
        return live.cost if live.ended.is_set() else live.container.measured()

    async def standing(self, execution_id: str) -> Standing:
        """Where an execution of an earlier owner stands."""
        return await self._remains.standing(execution_id)

    async def remembered(self) -> tuple[str, ...]:
        """Executions that have a mark or a folder here."""
        return await asyncio.to_thread(self._places.names)

    async def release(self, execution_id: str) -> None:
        """End what may be left and remove everything that was kept.

        Raises `TheoryError` `ERR_UNAVAILABLE` while nobody can confirm that nothing is left.
        """
        if not await self.cancel(execution_id):
            raise coded("ERR_UNAVAILABLE", "the engine does not confirm that a container is gone")
        live = self._live.get(execution_id)
        if live is not None and live.closing is not None:
            await live.closing
        await asyncio.to_thread(self._places.remove, execution_id)
        self._live.pop(execution_id, None)

    async def close(self) -> None:
        """Stop every run of this adapter, and let go of the engine."""
        running = [name for name, live in self._live.items() if not live.ended.is_set()]
        await asyncio.gather(*(self.cancel(name) for name in running))
        closing = [live.closing for live in self._live.values() if live.closing is not None]
        await asyncio.gather(*closing)
        await self._egress.close()
        self._engine.close()


def _door(live: _Live, name: str) -> str:
    """`io.sock`; where executions follow each other, each has one of its own."""
    return "io.sock" if live.lent is None else f"io-{digest(name.encode())[3:11]}.sock"


async def _open_gateway(path: Path, gateway: Gateway) -> GatewayServer:
    """Listen where the container's user may connect; only its folder leads there."""
    try:
        # What an owner left that died in the middle of a run.
        await asyncio.to_thread(path.unlink, missing_ok=True)
        server = await GatewayServer.open(path, gateway)
        await asyncio.to_thread(path.chmod, _ANYBODY)
    except OSError as error:
        raise coded("ERR_ADAPTER_INVOCATION", "gateway") from error
    return server
