"""Reaches processors as child processes, over unix sockets in a private folder."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

import httpx
import structlog

from theory_api.adapters.process import kin
from theory_api.adapters.process.environment import Environments
from theory_api.adapters.process.resolver import Resolver
from theory_api.adapters.process.supervisor import CONFIRM_S, Supervisor
from theory_api.adapters.run_v1 import calling
from theory_api.adapters.run_v1.allowance import STEERS, Allowance, steer
from theory_api.adapters.run_v1.calling import coded, failed
from theory_api.adapters.run_v1.client import RunClient, dial_socket, send_control
from theory_api.adapters.run_v1.gateway import UPLOAD_URL, Gateway, GatewayServer
from theory_api.adapters.run_v1.health import HealthPace, await_healthy
from theory_api.adapters.run_v1.places import Place, Places, runtime_root
from theory_api.ports.adapter import FrameSink, Measurement, Standing, SteeringOp
from theory_api.ports.intake import Intakes
from theory_core import TheoryError

log = structlog.get_logger(__name__)

SIGKILLED: Final = -9


class EnvironmentSource(Protocol):
    """Gives the interpreter that a processor runs under."""

    async def python_for(self, folder: Path, mode: str, on_progress: Callable[[str], None]) -> Path:
        """The interpreter; made first where there is none yet."""


@dataclass(frozen=True, slots=True)
class ProcessPace:
    """How long the adapter waits for what."""

    health: HealthPace = field(default_factory=HealthPace)
    overtime_s: float = 15.0
    """After the run's own timeout, until the adapter ends what did not end itself."""
    control_s: float = 2.0
    """For a `Control` to be delivered."""
    stop_s: float = 8.0
    """For a cancelled run to tell its result: the runtime's grace, and a little more."""
    exit_s: float = 2.0
    """For a server without work to exit."""


@dataclass(slots=True)
class _Live:
    """An execution of this adapter, from its invocation to its release."""

    place: Place
    supervisor: Supervisor | None = None
    door: Gateway | None = None
    allowance: Allowance | None = None
    """Its time, once it is spoken with."""
    cancelled: bool = False
    gone: bool = True
    """Whether nothing of it runs any more, once it ended."""
    ended: asyncio.Event = field(default_factory=asyncio.Event)


class ProcessWsAdapter:
    """The adapter `process`: see `theory_api.ports.adapter.Adapter`. It is no sandbox.

    `home` is the folder of state: beside it nothing durable is written. `secret` gives the value of
    a secret by its name, or None; it is asked in mode real only, for what the payload names.
    `may_start` is asked once the mark of an execution is durable, before anything of it runs.
    """

    def __init__(
        self,
        *,
        resolver: Resolver,
        intakes: Intakes,
        environments: EnvironmentSource | Path,
        wheels: Path,
        home: Path,
        secret: Callable[[str], str | None] = lambda _name: None,
        may_start: Callable[[], bool] = lambda: True,
        pace: ProcessPace | None = None,
    ) -> None:
        self._resolver = resolver
        self._intakes = intakes
        self._environments = (
            Environments(environments, wheels) if isinstance(environments, Path) else environments
        )
        self._places = Places(root=runtime_root(home), marks=home / "process")
        self._secret = secret
        self._may_start = may_start
        self._pace = ProcessPace() if pace is None else pace
        self._live: dict[str, _Live] = {}
        self._look: asyncio.Task[frozenset[str]] | None = None

    @property
    def name(self) -> str:
        """`process`."""
        return "process"

    @property
    def enforced(self) -> frozenset[str]:
        """Processor time of the process tree, and time."""
        return frozenset({"cpu_ms", "latency_ms"})

    @property
    def steers(self) -> frozenset[SteeringOp]:
        """What every runtime can be told."""
        return STEERS

    async def prepare(
        self,
        *,
        ref: str,
        mode: str,
        pinned: str | None,  # noqa: ARG002 - it runs in no image
        on_progress: Callable[[str], None],
    ) -> None:
        """Make the processor's environment if it is not there."""
        await self._environments.python_for(self._resolver(ref), mode, on_progress)

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
        """Run the payload in a process of its own and return its envelope."""
        name = payload["execution_id"]
        if name in self._live and not self._live[name].ended.is_set():
            return failed(payload, coded("ERR_ADAPTER_INVOCATION", "running already"))
        live = self._live[name] = _Live(self._places.of(name))
        facts = {"execution_id": name, "processor_ref": ref, "adapter": self.name}
        log.info("adapter.invoke", **facts, mode=payload["mode"])
        try:
            envelope = await self._invoke(live, ref, payload, timeout_s, expected_oci, on_frame)
        except TheoryError as error:
            told = coded("ERR_CANCELLED") if live.cancelled else error
            envelope = failed(payload, told, _tail(live))
        finally:
            live.ended.set()
        if not live.gone:
            envelope = failed(payload, coded("ERR_ORPHANED", "still running"), _tail(live))
        log.info("adapter.complete", **facts, status=envelope["status"])
        return envelope

    async def _invoke(
        self,
        live: _Live,
        ref: str,
        payload: Mapping[str, Any],
        timeout_s: float,
        expected_oci: str | None,
        on_frame: FrameSink | None,
    ) -> Mapping[str, Any]:
        name = payload["execution_id"]
        folder = self._resolver(ref)
        python = await self._environments.python_for(folder, payload["mode"], _unheard)
        secrets = self._secrets(payload)
        await asyncio.to_thread(self._places.make, name, secrets)
        if live.cancelled:
            raise coded("ERR_CANCELLED")
        live.door = Gateway(name, self._intakes, expires_in_s=timeout_s + self._pace.overtime_s)
        gateway = await _open_gateway(live.place, live.door)
        try:
            await calling.permitted(self._may_start, lambda: live.cancelled)
            live.supervisor = _start(
                python, folder / "main.py", live.place, hidden=tuple(secrets.values())
            )
            upload = {"url": UPLOAD_URL, "headers": {}, "socket": live.place.io_socket}
            request = calling.request(
                payload,
                timeout_s=timeout_s,
                overtime_s=self._pace.overtime_s,
                expected_oci=expected_oci,
                upload=upload,
            )
            return await self._converse(live, request, name, on_frame, timeout_s)
        finally:
            # Ended here whatever happened, a cancelled caller included.
            await asyncio.shield(self._end(live, gateway))

    async def _converse(
        self,
        live: _Live,
        request: Mapping[str, Any],
        name: str,
        on_frame: FrameSink | None,
        timeout_s: float,
    ) -> Mapping[str, Any]:
        """Talk to the child up to its result; its death and the clock can end that before."""
        supervisor = live.supervisor
        if supervisor is None:
            raise coded("ERR_ADAPTER_INVOCATION", "not started")
        ooms = _oom_kills()
        transport = httpx.AsyncHTTPTransport(uds=live.place.run_socket)
        try:
            await await_healthy(
                transport,
                ended=asyncio.shield(supervisor.exited),
                pace=self._pace.health,
                execution_id=name,
            )
            client = RunClient(dial_socket(live.place.run_socket), name)
            live.allowance = Allowance(timeout_s + self._pace.overtime_s)
            async with live.allowance:
                return await client.run(
                    request, on_frame=on_frame, expected_oci=request.get("expected_oci")
                )
        except TimeoutError as error:
            raise coded("ERR_TIMEOUT", "adapter") from error
        except TheoryError as error:
            if not supervisor.exited.done() or error.code not in {"ERR_WS_CLOSE", "ERR_WS_TIMEOUT"}:
                raise
            out_of_memory = supervisor.code == SIGKILLED and _oom_kills() > ooms
            if out_of_memory:
                raise coded("ERR_OOM") from error
            raise calling.died(name, supervisor.code) from error

    async def _end(self, live: _Live, gateway: GatewayServer) -> None:
        """End the child and everything that may be left of it, then its door."""
        try:
            if live.supervisor is not None:
                live.gone = False
                dead = await live.supervisor.end(grace_s=self._pace.exit_s)
                rest = await asyncio.to_thread(kin.kill, live.place.folder, within_s=CONFIRM_S)
                live.gone = dead and rest
        finally:
            await gateway.close()

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
        folder = self._places.of(execution_id).folder
        if live is not None and not live.ended.is_set():
            live.cancelled = True
            await self._ask_to_stop(live, execution_id)
        elif live is None and str(folder) not in await self._in_use():
            return True
        return await asyncio.to_thread(kin.kill, folder, within_s=self._pace.stop_s)

    async def _ask_to_stop(self, live: _Live, execution_id: str) -> None:
        until = time.monotonic() + self._pace.stop_s
        if live.allowance is not None:
            try:
                async with asyncio.timeout(self._pace.control_s):
                    await send_control(live.place.run_socket, execution_id, "cancel")
            except (TheoryError, TimeoutError):
                until = 0.0
        elif live.supervisor is not None:
            until = 0.0
        if live.door is not None:
            # Not before the run heard of it: an upload that fails would be its reason to end.
            live.door.shut()
        if until:
            ended = asyncio.ensure_future(live.ended.wait())
            await asyncio.wait({ended}, timeout=until - time.monotonic())
            ended.cancel()
        if not live.ended.is_set() and live.supervisor is not None:
            live.supervisor.kill()
            # Law: nobody waits for ever, not for an end that is certain either.
            ended = asyncio.ensure_future(live.ended.wait())
            await asyncio.wait({ended}, timeout=2 * CONFIRM_S)
            ended.cancel()

    async def steer(self, execution_id: str, op: SteeringOp) -> None:
        """Tell the child's runtime; see `theory_api.ports.adapter.Adapter`."""
        live = self._live.get(execution_id)
        if live is None or live.ended.is_set():
            return
        if live.allowance is None or live.door is None:
            raise coded("ERR_UNAVAILABLE", "the run is not there yet")
        socket, moving = live.place.run_socket, (live.allowance, live.door)
        await steer(socket, execution_id, op, within_s=self._pace.control_s, moving=moving)

    def measured(self, execution_id: str) -> Measurement:
        """Processor time and time of an execution; empty for one that never started here."""
        live = self._live.get(execution_id)
        if live is None or live.supervisor is None:
            return Measurement()
        return live.supervisor.measured()

    async def standing(self, execution_id: str) -> Standing:
        """Where an execution of an earlier owner stands."""
        if str(self._places.of(execution_id).folder) in await self._in_use():
            return Standing.RUNNING
        marked = await asyncio.to_thread(self._places.is_marked, execution_id)
        return Standing.GONE if marked else Standing.ABSENT

    async def _in_use(self) -> frozenset[str]:
        """Folders with a living process. Whoever asks at the same time shares one look."""
        if self._look is None or self._look.done():
            self._look = asyncio.create_task(asyncio.to_thread(kin.folders))
        return await asyncio.shield(self._look)

    async def remembered(self) -> tuple[str, ...]:
        """Executions that have a mark or a folder here."""
        return await asyncio.to_thread(self._places.names)

    async def release(self, execution_id: str) -> None:
        """End what may be left and remove everything that was kept.

        Raises `TheoryError` `ERR_UNAVAILABLE` while something of it lives: its mark stays.
        """
        if not await self.cancel(execution_id):
            raise coded("ERR_UNAVAILABLE", "something of the run lives on")
        await asyncio.to_thread(self._places.remove, execution_id)
        self._live.pop(execution_id, None)

    async def close(self) -> None:
        """Stop every run of this adapter."""
        running = [name for name, live in self._live.items() if not live.ended.is_set()]
        await asyncio.gather(*(self.cancel(name) for name in running))


async def _open_gateway(place: Place, gateway: Gateway) -> GatewayServer:
    try:
        return await GatewayServer.open(Path(place.io_socket), gateway)
    except OSError as error:
        raise coded("ERR_ADAPTER_INVOCATION", "gateway") from error


def _start(python: Path, main_file: Path, place: Place, *, hidden: tuple[str, ...]) -> Supervisor:
    try:
        return Supervisor.start(python, main_file, place.folder, hidden=hidden)
    except OSError as error:
        raise coded("ERR_ADAPTER_INVOCATION", "spawn") from error


def _unheard(_sentence: str) -> None:
    """Nobody listens: whoever wanted to hear it called `prepare`."""


def _tail(live: _Live) -> str:
    return "" if live.supervisor is None else live.supervisor.tail()


def _oom_kills() -> int:
    """How often the kernel killed for lack of memory; 0 where it does not say."""
    try:
        lines = Path("/proc/vmstat").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) for line in lines if line.startswith("oom_kill "))
