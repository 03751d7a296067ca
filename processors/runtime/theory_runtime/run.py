"""One run, from its order to its one result, whatever becomes of its worker."""

import asyncio
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from theory_core import TheoryError, error_envelope, validate_envelope
from theory_runtime import child, inputs, machine, outputs, receipt, scratch, vault
from theory_runtime.channel import decode, encode
from theory_runtime.child import Child
from theory_runtime.deadline import Deadline
from theory_runtime.door import open_door
from theory_runtime.fault import fault, reason_of
from theory_runtime.memory import oom_kills
from theory_runtime.order import Order
from theory_runtime.record import Record
from theory_runtime.redaction import mask, tells
from theory_runtime.reserve import Reserve
from theory_runtime.spill import Spill
from theory_runtime.worker import FRAME_KINDS, Job

RUNNING: Final = "running"
PAUSED: Final = "paused"
_DRAIN_S: Final = 2.0
_THOUSAND: Final = 1000


@dataclass(frozen=True, slots=True)
class Place:
    """Where a supervisor runs, and how long it waits."""

    main_file: Path
    ref: str
    folder: Path
    """Holds `work/{execution_id}` of each run."""
    secrets_dir: Path | None = None
    image_digest: str | None = None
    """Digest of the image that this is, where there is one."""
    image_id: str | None = None
    """Its id, for the receipts of runs that pin no digest."""
    only_mode: str | None = None
    """The one mode that is run here; None for both."""
    concurrency: int | None = None
    """Most runs at once; None for any number."""
    grace_s: float = child.GRACE_S
    confirm_s: float = child.CONFIRM_S
    verbose: bool = False
    scratch: tuple[Path, ...] = ()
    """Emptied after each run, and all of `work`, in a server that has one at a time."""


class Run:
    """The life of one execution here.

    `state` is `running` or `paused`, then `succeeded`, `failed` or `cancelled`. Law: one result,
    also when the worker is killed; nothing of the worker runs once it is told, or it says
    `ERR_ORPHANED`.
    """

    def __init__(self, order: Order, place: Place, reserve: Reserve) -> None:
        self.order = order
        self.record = Record(Spill(place.folder / "work"))
        self.state = RUNNING
        self.ended_at: float | None = None
        self._place = place
        self._abandoned = False
        self._reserve = reserve
        self._inputs_hash = inputs.hash_of(order.payload["inputs"])
        self._began = time.monotonic()
        self._budget: Mapping[str, int] = {}
        self._stated: dict[str, int] = {}
        self._deadline: Deadline | None = None
        self._child: Child | None = None
        self._guarded = False
        self._ask: asyncio.Future[TheoryError] = asyncio.get_running_loop().create_future()
        self._told: str | None = None
        self._vault = vault.Vault(place.secrets_dir, order.secrets)
        self._hidden: tuple[str, ...] = ()

    # -- what others ask of it ------------------------------------------------------------------

    def stop(self, error: TheoryError, *, at_once: bool = False) -> None:
        """End the worker; the first reason counts, and none after the worker told its result.

        `at_once` is for a run that nobody waits for: no grace, no receipt.
        """
        if at_once:
            self._abandoned = True
            if self._child is not None:
                self._child.signal(signal.SIGKILL)
        if not self._ask.done() and self._told is None:
            self._ask.set_result(error)

    def control(self, op: str, budget: Mapping[str, int] | None) -> None:
        """Obey a `Control` frame (spec: run.v1)."""
        if op == "cancel":
            self.stop(fault("ERR_CANCELLED"))
        elif op == "set_budget":
            self._budget = dict(budget or {})
            self._judge_usage()
        elif op == "pause" and self.state == RUNNING:
            self.state = PAUSED
            self._hold()
        elif op == "resume" and self.state == PAUSED:
            self.state = RUNNING
            self._go_on()

    def _hold(self) -> None:
        """Law: a run that is paused is not one that hangs; its time stands still.

        A worker that has no guard yet would outlive this process if it were stopped.
        """
        if self._child is not None and self._guarded:
            self._child.signal(signal.SIGSTOP)
        if self._deadline is not None:
            self._deadline.hold()

    def _go_on(self) -> None:
        if self._child is not None:
            self._child.signal(signal.SIGCONT)
        if self._deadline is not None:
            self._deadline.go_on()

    async def finished(self) -> None:
        """Wait until the result is told."""
        seq = 0
        while not (frame := await self.record.news(seq)).final:
            seq = frame.seq

    # -- its life -------------------------------------------------------------------------------

    async def live(self) -> None:
        """Run to the end; always tells a result."""
        work_dir = self._place.folder / "work" / self.order.execution_id
        try:
            self._check()
            work_dir.mkdir(parents=True, mode=0o700)
            envelope = await self._work(work_dir)
        except TheoryError as error:
            envelope = await self._failed(error)
        except OSError as error:
            envelope = await self._failed(fault("ERR_STORAGE", type(error).__name__))
        except BaseException:
            self._tell(self._error(fault("ERR_INTERNAL", "supervisor")))
            raise
        finally:
            await asyncio.to_thread(shutil.rmtree, work_dir, ignore_errors=True)
        await self._clean()
        self._tell(envelope)

    async def _clean(self) -> None:
        """Law: a server that cannot remove what a run left takes no other run."""
        if not self._place.scratch:
            return
        try:
            shared = (*self._place.scratch, self._place.folder / "work")
            cleaned = await asyncio.to_thread(scratch.clean, shared)
        except (OSError, RecursionError):
            cleaned = False
        if not cleaned:
            self._reserve.forgo()
            sys.stderr.write("a run left what cannot be removed: the server ends\n")
            os.kill(os.getpid(), signal.SIGTERM)

    def _check(self) -> None:
        """Law: what was declared is what is here, or nothing starts."""
        machine.check(self.order.fingerprint)
        if self.order.ref != self._place.ref:
            raise fault("ERR_REGISTRY_MISMATCH", "ref")
        expected = self.order.expected_oci
        if expected is not None and expected != self._place.image_digest:
            raise fault("ERR_REGISTRY_MISMATCH", "image_digest")
        for name in self.order.secrets_required:
            # Asked first: a place that has none says so, whatever else it would refuse.
            self._vault.read(name)
        self._hidden = self._vault.values()
        if self._place.only_mode not in {None, self.order.mode}:
            raise fault("ERR_MODE_INVALID", "only_" + str(self._place.only_mode))

    async def _work(self, work_dir: Path) -> Mapping[str, Any]:
        """Start the worker, watch it, end it with all of its kin, and read how it went."""
        ooms = oom_kills()
        job = Job(
            self.order,
            self._inputs_hash,
            work_dir,
            self._place.secrets_dir,
            receipt.default_info(self.order.ref),
            self._place.verbose,
            self._place.image_id,
        )
        line = encode(job.message())
        worker = await self._reserve.take()
        worker.begin(line)
        self._child = worker
        left_s = self.order.timeout_s - (time.monotonic() - self._began)
        loop = asyncio.get_running_loop()
        self._deadline = Deadline(left_s, lambda: self.stop(fault("ERR_TIMEOUT")), loop)
        if self.state == PAUSED:
            self._hold()
        relaying = asyncio.create_task(self._relay(worker))
        try:
            stopped = await self._watch(worker, relaying)
            gone = await worker.bury(confirm_s=self._place.confirm_s)
            await asyncio.wait({relaying}, timeout=_DRAIN_S)
        finally:
            self._child = None
            self._deadline.end()
            if worker.code is None:
                await worker.stop(grace_s=0, confirm_s=_DRAIN_S)
            relaying.cancel()
            await worker.close()
        if not gone:
            self._reserve.forgo()
            raise fault("ERR_ORPHANED", "worker")
        tail = self._tail(worker, work_dir)
        if stopped is not None:
            return await self._failed(stopped, tail)
        if self._told is None:
            oom = worker.code == -signal.SIGKILL and oom_kills() > ooms
            died = fault("ERR_OOM") if oom else fault("ERR_INTERNAL", _exit(worker.code))
            return await self._failed(died, tail)
        return await self._judge(self._told, tail)

    async def _watch(self, worker: Child, relaying: "asyncio.Task[None]") -> TheoryError | None:
        """Wait for the worker's end; the reason if it had to be stopped."""
        watched: set[asyncio.Future[Any]] = {worker.exited, self._ask, relaying}
        while not worker.exited.done() and not self._ask.done():
            await asyncio.wait(watched, return_when=asyncio.FIRST_COMPLETED)
            if relaying.done():
                watched.discard(relaying)
                if self._told is not None:
                    # It told its result and has nothing left to do.
                    await asyncio.wait({worker.exited}, timeout=_DRAIN_S)
                    await worker.stop(grace_s=0, confirm_s=self._place.confirm_s)
                    return None
        if not self._ask.done():
            return None
        await worker.stop(
            grace_s=0 if self._abandoned else self._place.grace_s, confirm_s=self._place.confirm_s
        )
        return self._ask.result()

    async def _relay(self, worker: Child) -> None:
        """Number the worker's frames and take its result; a line that breaks the rules stops it."""
        try:
            while line := await worker.lines.readline():
                message = decode(line)
                if "guarded" in message:
                    self._guarded = True
                    if self.state == PAUSED:
                        self._hold()
                    continue
                if isinstance(message.get("result"), str):
                    self._told = message["result"]
                    return
                frame = message["frame"]
                if frame["kind"] not in FRAME_KINDS:
                    raise fault("ERR_WS_PROTOCOL", "line")
                # Law: whatever a provider does to its worker, no frame holds a secret.
                self.record.add(frame["kind"], mask(frame["content"], self._hidden))
                self._meter(frame)
        except OSError:
            # It died with our words unread: its exit code tells the rest.
            return
        except (TheoryError, ValueError, KeyError, TypeError):
            self.stop(fault("ERR_INTERNAL", "worker_line"))

    def _meter(self, frame: Mapping[str, Any]) -> None:
        """Note the largest usage that the run reported of itself."""
        if frame["kind"] != "Event":
            return
        for name, amount in frame["content"].get("usage", {}).items():
            self._stated[name] = max(amount, self._stated.get(name, 0))
        self._judge_usage()

    def _judge_usage(self) -> None:
        """Law: a run that reports more than its budget is stopped (spec: budgets)."""
        for name, most in sorted(self._budget.items()):
            if self._stated.get(name, 0) > most:
                self.stop(fault("ERR_BUDGET_EXCEEDED", name))

    def _tail(self, worker: Child, work_dir: Path) -> str:
        places = {str(work_dir): "{work}", str(self._place.folder): "{run}"}
        return worker.tail.read(secrets=self._hidden, places=places)

    # -- how it ends ----------------------------------------------------------------------------

    async def _judge(self, told: str, tail: str) -> Mapping[str, Any]:
        """The worker's envelope if it answers the order; an error gets the tail of stderr."""
        order = self.order
        try:
            envelope = validate_envelope(
                told.encode(),
                execution_id=order.execution_id,
                write_prefix=order.write_prefix,
                expected_digest=order.expected_oci,
            )
        except TheoryError as error:
            return await self._failed(fault("ERR_INTERNAL", error.code), tail)
        if tells(envelope, self._hidden):
            return await self._failed(fault("ERR_INTERNAL", "secret_in_envelope"), tail)
        if envelope["status"] == "error" and tail:
            envelope["meta"]["stderr_tail"] = tail
        return envelope

    async def _failed(self, error: TheoryError, tail: str = "") -> Mapping[str, Any]:
        """The envelope of a failure that the worker could not tell; its receipt goes first."""
        body = receipt.build(
            self.order,
            inputs_hash=self._inputs_hash,
            written_by=receipt.BY_SUPERVISOR,
            duration_ms=int((time.monotonic() - self._began) * _THOUSAND),
            processor_info=receipt.default_info(self.order.ref),
            image_id=self._place.image_id,
        )
        if not self._abandoned:
            await asyncio.to_thread(self._deliver, body)
        return self._error(error, tail)

    def _deliver(self, body: bytes) -> None:
        door = open_door(self.order.payload["upload"], delays_s=())
        try:
            outputs.send_bytes(door, outputs.RECEIPT, body, outputs.JSON)
        except TheoryError:
            # The other end refuses after its time, or has the worker's; it then writes its own.
            return
        finally:
            door.close()

    def _error(self, error: TheoryError, tail: str = "") -> Mapping[str, Any]:
        text = error_envelope(
            self.order.execution_id,
            error.code,
            env_fingerprint=self.order.fingerprint,
            reason=reason_of(error),
            stderr_tail=tail or None,
        )
        envelope: Mapping[str, Any] = json.loads(text)
        return envelope

    def _tell(self, envelope: Mapping[str, Any]) -> None:
        if envelope["status"] == "success":
            self.state = "succeeded"
        else:
            cancelled = envelope["error"]["code"] == "ERR_CANCELLED"
            self.state = "cancelled" if cancelled else "failed"
        try:
            self.record.finish(envelope)
        except TheoryError as error:
            self.state = "failed"
            self.record.finish(self._error(fault("ERR_TOO_LARGE", error.code)))
        self.ended_at = time.monotonic()


def _exit(code: int | None) -> str:
    """How a worker ended that told nothing."""
    if code is not None and code < 0:
        return f"worker_killed_by_{signal.Signals(-code).name}"
    return f"worker_exited_{code}"
