"""Reaches processors in containers of their own, without a network, over two unix sockets."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import structlog

from theory_api.adapters.docker.container import CONFIRM_S, Container
from theory_api.adapters.docker.engine import Engine
from theory_api.adapters.docker.images import Images
from theory_api.adapters.docker.lodging import (
    Live,
    Lodging,
    close_doors,
    open_egress,
    open_gateway,
)
from theory_api.adapters.docker.remains import Remains
from theory_api.adapters.docker.sandbox import INSIDE, limits
from theory_api.adapters.docker.warm import Kind, pool
from theory_api.adapters.run_v1 import calling
from theory_api.adapters.run_v1.allowance import STEERS, Allowance, steer
from theory_api.adapters.run_v1.calling import coded, failed
from theory_api.adapters.run_v1.client import RunClient, dial_socket, send_control
from theory_api.adapters.run_v1.gateway import UPLOAD_URL, Gateway
from theory_api.adapters.run_v1.health import HealthPace
from theory_api.adapters.run_v1.places import Places, home_name, runtime_root
from theory_api.ports.adapter import FrameSink, Measurement, Standing, SteeringOp
from theory_api.ports.intake import Intakes
from theory_api.ports.registry import Snapshots
from theory_core import TheoryError

log = structlog.get_logger(__name__)


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
    confirm_s: float = CONFIRM_S
    """For what was killed to be confirmed gone."""


@dataclass(frozen=True, slots=True)
class Call:
    """What is asked of the processor, and who listens."""

    request: Mapping[str, Any]
    timeout_s: float
    on_frame: FrameSink | None
    reach: tuple[str, ...] = ()
    """Origins that it may connect to."""


class LocalWsAdapter:
    """The adapter `local`: see `theory_api.ports.adapter.Adapter`.

    `home` is the folder of state. `secret` gives the value of a secret by its name, or None; it is
    asked in mode real only, for what the payload names. `may_start` is asked once the mark of an
    execution is durable, before anything of it runs. Nothing is asked of `engine` before a run, but
    for images that are pinned.
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
        self._remains = Remains(engine, self._places, self._pool, self._home)
        self._lodging = Lodging(
            engine, images, self._places, self._pool, self._remains, home=self._home
        )
        self._live: dict[str, Live] = {}

    @property
    def name(self) -> str:
        """`local`."""
        return "local"

    @property
    def enforced(self) -> frozenset[str]:
        """What the kernel and a clock count."""
        return frozenset({"cpu_ms", "latency_ms"})

    @property
    def steers(self) -> frozenset[SteeringOp]:
        """What every runtime can be told."""
        return STEERS

    async def prepare(
        self,
        *,
        ref: str,
        mode: str,  # noqa: ARG002 - an image serves both
        pinned: str | None,
        on_progress: Callable[[str], None],
    ) -> None:
        """Have the engine get the image that the plan's lane pins.

        What goes wrong is told, and left to the run, which has the code for it. Lane build has
        nothing to pull, and asks nobody.
        """
        if pinned is None:
            return
        repository, _, expected = pinned.partition("@")
        try:
            await self._images.choose(repository, expected)
        except TheoryError as error:
            log.warning("adapter.image.unready", code=error.code, processor_ref=ref)
            on_progress(f"The image of {ref} is not there yet: {error.message}")

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
        live = self._live[name] = Live(name)
        facts = {"execution_id": name, "processor_ref": ref, "adapter": self.name}
        log.info("adapter.invoke", **facts, mode=payload["mode"])
        try:
            kind = await _unless_halted(live, self._found(ref, payload, expected_oci))
            secrets = self._secrets(payload)
            live.hidden = tuple(secrets.values())
            container = await self._lodging.enter(live, kind, secrets, payload.get("tenant", ""))
            request = calling.request(
                payload,
                timeout_s=timeout_s,
                overtime_s=self._pace.overtime_s,
                expected_oci=expected_oci,
                upload={"url": UPLOAD_URL, "headers": {}, "socket": f"{INSIDE}/{live.socket}"},
            )
            reach = tuple(payload.get("reach", ())) if kind.egress else ()
            call = Call(request, timeout_s, on_frame, reach)
            envelope = await self._hosted(live, container, call)
        except TheoryError as error:
            told = coded("ERR_CANCELLED") if live.halt.is_set() else error
            envelope = failed(payload, told, live.tail)
        finally:
            # Ended once it is left, whatever happened, a cancelled caller included.
            leaving = asyncio.ensure_future(self._lodging.leave(live))
            leaving.add_done_callback(lambda done: _left(live, done))
            await asyncio.shield(leaving)
        if not live.gone:
            envelope = failed(payload, coded("ERR_ORPHANED", "still running"), live.tail)
        log.info("adapter.complete", **facts, status=envelope["status"])
        return envelope

    async def _found(self, ref: str, payload: Mapping[str, Any], expected: str | None) -> Kind:
        """What the registry of the run's plan says of its processor, and its image here."""
        snapshot = await self._snapshots.get(payload["registry_snapshot"])
        spec = snapshot.processor(ref)
        chosen = await self._images.choose(spec.image, expected)
        await self._remains.sweep(set(self._live))
        egress = spec.network == "egress" and payload["mode"] == "real"
        return Kind(ref, chosen, limits(spec), egress=egress)

    async def _hosted(self, live: Live, container: Container, call: Call) -> Mapping[str, Any]:
        """Run with the execution's door open; it is there before anything of the run is."""
        live.check()
        limit_s = call.timeout_s + self._pace.overtime_s
        live.door = Gateway(live.name, self._intakes, expires_in_s=limit_s)
        gateway = await open_gateway(container.folder / live.socket, live.door)
        try:
            # Before it starts: what is in its folder then is all that it will ever have.
            await open_egress(live, container.folder, call.reach)
            # Law: asked once there is a container: a successor that takes it away keeps it from
            # starting, and one that came before there was any is known to this answer.
            await calling.permitted(self._may_start, live.halt.is_set)
            if live.lent is None:
                await container.start()
            live.allowance = Allowance(limit_s)
            async with live.allowance:
                return await self._converse(live, container, call)
        except TimeoutError as error:
            live.tail = await container.tail(live.hidden)
            raise coded("ERR_TIMEOUT", "adapter") from error
        except TheoryError as error:
            live.tail = await container.tail(live.hidden)
            raise await self._explained(live, container, error) from error
        finally:
            container.finish()
            live.closing = asyncio.create_task(close_doors(gateway, live))

    async def _converse(self, live: Live, container: Container, call: Call) -> Mapping[str, Any]:
        """Talk to the processor up to its result."""
        expected = call.request.get("expected_oci")

        async def heard(frame: Mapping[str, Any]) -> None:
            said = frame["content"].get("image_digest") if frame["kind"] == "Ack" else expected
            if expected is not None and said != expected:
                raise coded("ERR_REGISTRY_MISMATCH", "image_digest")
            if call.on_frame is not None:
                await call.on_frame(frame)

        if live.lent is None:
            await container.healthy(self._pace.health, expected=expected)
        live.connected = True
        client = RunClient(dial_socket(container.run_socket), live.name)
        envelope = await client.run(call.request, on_frame=heard, expected_oci=expected)
        # A runtime that could not end its worker says so.
        live.told = envelope.get("error", {}).get("code") != "ERR_ORPHANED"
        return envelope

    async def _explained(self, live: Live, container: Container, error: TheoryError) -> TheoryError:
        """Why a container ended, where that is what went wrong.

        One that is gone altogether was taken away by a successor.
        """
        if error.code not in {"ERR_WS_CLOSE", "ERR_WS_TIMEOUT", "ERR_HEALTH"}:
            return error
        state = await container.state()
        if state is None or state.running:
            return error
        if state.out_of_memory:
            return coded("ERR_OOM")
        if error.code == "ERR_HEALTH":
            return error
        return calling.died(live.name, state.code)

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
            live.halt.set()
            await self._ask_to_stop(live, execution_id)
        if live.ended.is_set() and not live.gone:
            await self._lodging.leave(live)
        return live.ended.is_set() and live.gone

    async def _ask_to_stop(self, live: Live, execution_id: str) -> None:
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
        if live.egress is not None:
            live.egress.shut()
        if until:
            ended = asyncio.ensure_future(live.ended.wait())
            await asyncio.wait({ended}, timeout=until - time.monotonic())
            ended.cancel()
        if not live.ended.is_set() and container is not None and await container.stop():
            # Law: nobody waits for ever, not for an end that is certain either.
            ended = asyncio.ensure_future(live.ended.wait())
            await asyncio.wait({ended}, timeout=self._pace.confirm_s)
            ended.cancel()

    async def steer(self, execution_id: str, op: SteeringOp) -> None:
        """Tell the container's runtime; see `theory_api.ports.adapter.Adapter`."""
        live = self._live.get(execution_id)
        if live is None or live.ended.is_set():
            return
        container, allowance, door = live.container, live.allowance, live.door
        if not live.connected or container is None or allowance is None or door is None:
            raise coded("ERR_UNAVAILABLE", "the run is not there yet")
        others = () if live.egress is None else (live.egress,)
        socket, moving = container.run_socket, (allowance, door, *others)
        await steer(socket, execution_id, op, within_s=self._pace.control_s, moving=moving)

    def measured(self, execution_id: str) -> Measurement:
        """Processor time, time and image of an execution; empty for one that never started here."""
        live = self._live.get(execution_id)
        if live is None or live.container is None:
            return Measurement()
        found = live.cost if live.ended.is_set() else live.container.measured()
        return replace(found, image_id=live.image_id)

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
            # Shielded: who stops waiting for the doors leaves none of them open.
            await asyncio.shield(live.closing)
        await asyncio.to_thread(self._places.remove, execution_id)
        self._live.pop(execution_id, None)

    async def close(self) -> None:
        """Stop every run of this adapter, and let go of the engine.

        Law: all of it is closed, whatever goes wrong with one; the first fault is raised then.
        """
        running = [name for name, live in self._live.items() if not live.ended.is_set()]
        try:
            ended = await asyncio.gather(*map(self.cancel, running), return_exceptions=True)
            closing = [live.closing for live in self._live.values() if live.closing is not None]
            closed = await asyncio.gather(*closing, return_exceptions=True)
        finally:
            self._engine.close()
        faults = [end for end in (*ended, *closed) if isinstance(end, Exception)]
        for fault in faults[1:]:
            log.error("adapter.unclosed", adapter=self.name, exc_info=fault)
        if faults:
            raise faults[0]


async def _unless_halted(live: Live, finding: Coroutine[Any, Any, Kind]) -> Kind:
    """What is found, unless the execution is cancelled first: then nothing of it ever started."""
    found, halted = asyncio.ensure_future(finding), asyncio.ensure_future(live.halt.wait())
    # What goes wrong after a cancel is nobody's concern.
    found.add_done_callback(lambda done: done.cancelled() or done.exception())
    try:
        await asyncio.wait({found, halted}, return_when=asyncio.FIRST_COMPLETED)
        live.check()
        return await found
    finally:
        found.cancel()
        halted.cancel()


def _left(live: Live, leaving: asyncio.Future[None]) -> None:
    """It ended; a fault on the way leaves it not gone."""
    if not leaving.cancelled() and leaving.exception() is not None:
        live.gone = False
    live.ended.set()
