"""What executes processors: it outlives schedulers, and answers late, wrongly or not at all."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Final, cast

from theory_api.adapters.memory.intakes import MemoryIntakes
from theory_api.ports.adapter import FrameSink, Measurement, Standing, SteeringOp
from theory_api.scheduler.tests.processors import Processors, Run
from theory_api.scheduler.tests.simulator.chance import Chance, unavailable
from theory_api.scheduler.tests.simulator.process import Process
from theory_core import TheoryError

LONGEST_S: Final = 7200.0
CPU_SHARE: Final = 400
"""Milliseconds of CPU per second, while a processor behaves."""
HUGE: Final = 2**53 - 1

MISCHIEF: Final = (
    "run: provider error",
    "run: fault for good",
    "run: worker crashed",
    "run: hangs until its timeout",
    "run: upload refused",
    "run: result late",
    "run: result lost",
    "run: usage beyond the hold, measured",
    "run: usage beyond the hold, reported",
    "run: usage beyond the hold, in a frame",
    "run: usage unknown",
    "run: usage huge",
    "run: receipt of another",
    "run: stop confirmed late",
    "run: ignores the first stop",
)


class Job:
    """One execution on the machine."""

    def __init__(self, run: Run, since: float, timeout_s: float, mischief: str) -> None:
        self.run = run
        self.since = since
        self.timeout_s = timeout_s
        self.mischief = mischief
        self.until: float | None = None
        self.result: asyncio.Future[dict[str, Any]] | None = None
        self.task: asyncio.Task[None] | None = None
        self.going = asyncio.Event()
        """Cleared while it stands still: nothing of it ends meanwhile."""
        self.going.set()
        self.refusals = 2 if mischief == "run: ignores the first stop" else 0
        """How many more requests to stop it does not hear."""


class Machine:
    """Runs jobs. Law: an execution starts at most once, after its start is in the ledger."""

    def __init__(self, chance: Chance) -> None:
        self.chance = chance
        self.attaching = chance.draw.random() < 0.4
        """Whether work goes on without its owner, for the next one to take up."""
        self.offered: set[str] = set()
        """Executions that a later owner was told it may take up."""
        self.jobs: dict[str, Job] = {}
        self.fenced: set[str] = set()
        """Executions that a later owner was told never started: they never will."""
        self.kept: dict[str, None] = {}

    def standing(self, name: str) -> Standing:
        """Where an execution stands; one that has not started never does from here on."""
        job = self.jobs.get(name)
        if job is None:
            self.fenced.add(name)
            return Standing.ABSENT
        if job.until is not None:
            return Standing.GONE
        if not self.attaching:
            return Standing.RUNNING
        self.offered.add(name)
        return Standing.ATTACHABLE

    def running(self, name: str) -> bool:
        """Whether anything of an execution still runs."""
        job = self.jobs.get(name)
        return job is not None and job.until is None

    def usage(self, name: str, now: float) -> dict[str, int]:
        """What was measured outside the processor."""
        job = self.jobs.get(name)
        if job is None or job.mischief == "run: usage unknown":
            return {}
        seconds = (now if job.until is None else job.until) - job.since
        share = 9 if job.mischief == "run: usage beyond the hold, measured" else 1
        return {"latency_ms": int(seconds * 1000), "cpu_ms": int(seconds * CPU_SHARE * share)}

    async def stop(self, name: str) -> bool:
        """Stop an execution; False where it did not hear."""
        job = self.jobs.get(name)
        if job is None or job.until is not None:
            return True
        if job.refusals:
            job.refusals -= 1
            return False
        job.run.stopped.set()
        if job.mischief == "run: stop confirmed late":
            await asyncio.sleep(self.chance.draw.uniform(1, 5))
        if job.task is not None:
            job.task.cancel()
            await asyncio.wait({job.task})
        return True


class Places:
    """Implements `theory_api.ports.adapter.Adapter`: one process's way to the machine."""

    name = "process"
    enforced = frozenset({"cpu_ms", "latency_ms"})
    steers: frozenset[SteeringOp] = frozenset({"pause", "resume"})

    def __init__(self, machine: Machine, process: Process, intakes: MemoryIntakes) -> None:
        self.intakes = intakes
        self._machine = machine
        self._process = process
        self._chance = machine.chance
        self._mine: dict[str, None] = {}

    async def prepare(
        self, *, ref: str, mode: str, pinned: str | None, on_progress: Callable[[str], None]
    ) -> None:
        await self._chance.lag()
        on_progress(f"{ref} {mode} {pinned}")
        if self._chance.fault("adapter", "adapter: not ready"):
            raise unavailable("the place is not ready")

    async def invoke(
        self,
        *,
        ref: str,
        payload: Mapping[str, Any],
        timeout_s: float,
        expected_oci: str | None,
        on_frame: FrameSink | None = None,
    ) -> Mapping[str, Any]:
        del ref, expected_oci
        name = str(payload["execution_id"])
        fault = self._chance.fault(
            "invoke",
            "death F6: started in the ledger, not dispatched",
            "death F6: dispatched, not acknowledged",
            "death F8: result received",
            *MISCHIEF[:3],
        )
        await self._chance.lag()
        if fault == "death F6: started in the ledger, not dispatched":
            await self._process.die()
        assert on_frame is not None
        run = Run(cast("Processors", self), name, payload, self._sink(on_frame))
        job = self._begin(run, timeout_s, fault if fault in MISCHIEF else None)
        if fault == "death F6: dispatched, not acknowledged":
            await self._process.die()
        if job is None:
            return run.fail("ERR_ADAPTER_INVOCATION")
        assert job.result is not None
        envelope = await asyncio.shield(job.result)
        if fault == "death F8: result received":
            await self._process.die()
        return envelope

    def _begin(self, run: Run, timeout_s: float, given: str | None) -> Job | None:
        machine, loop, name = self._machine, self._process.world.loop, run.execution_id
        if name in machine.fenced:
            return None
        if name in machine.offered:
            taken = machine.jobs[name]
            taken.run.adapter, taken.run.on_frame = run.adapter, run.on_frame
            self._mine[name] = None
            return taken
        self._chance.law(name not in machine.jobs, f"{name} was dispatched twice")
        self._process.oracle.dispatched(name)
        mischief = given or self._chance.fault("run", *MISCHIEF) or ""
        job = machine.jobs[name] = Job(run, loop.time(), timeout_s, mischief)
        job.result = loop.create_future()
        job.task = loop.start(self._perform(job), self._process.world.owner)
        machine.kept[name] = self._mine[name] = None
        return job

    def _sink(self, on_frame: FrameSink) -> FrameSink:
        async def hand_on(frame: Mapping[str, Any]) -> None:
            if self._process.alive:
                await on_frame(frame)

        return hand_on

    async def _perform(self, job: Job) -> None:
        """Law: exactly one envelope, however the work ends."""
        loop, assured = self._process.world.loop, job.result
        assert assured is not None
        try:
            envelope = await behave(job, self._chance)
        except asyncio.CancelledError:
            job.mischief = ""
            envelope = job.run.fail("ERR_CANCELLED")
        except TheoryError as error:
            self._chance.note("upload", error.code)
            envelope = job.run.fail("ERR_UPLOAD")
        finally:
            job.until = loop.time()
        if job.mischief == "run: result late":
            await asyncio.sleep(self._chance.draw.uniform(1, 600))
        if job.mischief == "run: result lost":
            envelope = job.run.fail("ERR_WS_CLOSE")
        if not assured.done():
            assured.set_result(envelope)

    async def cancel(self, execution_id: str) -> bool:
        await self._chance.lag()
        if self._chance.fault("adapter", "adapter: stop not confirmed at first"):
            return False
        return await self._machine.stop(execution_id)

    async def steer(self, execution_id: str, op: SteeringOp) -> None:
        await self._chance.lag()
        job = self._machine.jobs.get(execution_id)
        if job is None or self._chance.fault("adapter", "adapter: not to be steered at first"):
            raise unavailable("the run is not there")
        if op == "pause":
            job.going.clear()
        else:
            job.going.set()

    def measured(self, execution_id: str) -> Measurement:
        return Measurement(self._machine.usage(execution_id, self._process.world.loop.time()))

    async def standing(self, execution_id: str) -> Standing:
        await self._chance.lag()
        return self._machine.standing(execution_id)

    async def remembered(self) -> tuple[str, ...]:
        await self._chance.lag()
        return tuple(self._machine.kept)

    async def release(self, execution_id: str) -> None:
        await self._chance.lag()
        self._machine.kept.pop(execution_id, None)
        self._mine.pop(execution_id, None)

    async def close(self) -> None:
        for name in list(self._mine):
            job = self._machine.jobs[name]
            job.refusals = 0
            await self._machine.stop(name)


async def behave(job: Job, chance: Chance) -> dict[str, Any]:
    """What a processor does: takes its time, tells of it, delivers, or fails."""
    run, draw, mischief = job.run, chance.draw, job.mischief
    length = min(LONGEST_S, draw.lognormvariate(5.5, 1.4))
    if mischief == "run: hangs until its timeout":
        await asyncio.sleep(job.timeout_s)
        await job.going.wait()
        return run.fail("ERR_TIMEOUT")
    if draw.random() < 0.3 or mischief == "run: usage beyond the hold, in a frame":
        stated = 10**6 if mischief == "run: usage beyond the hold, in a frame" else 1
        await run.frame("Frame", stream="/streams/a", index=0, mime="a/b", data="eA==")
        await asyncio.sleep(length / 2)
        await run.frame("Frame", stream="/streams/a", index=1, mime="a/b", data="eA==")
        await run.frame("Event", phase="work", progress=0.5, usage={"tokens": stated})
        await asyncio.sleep(length / 2)
    else:
        await asyncio.sleep(length)
    await job.going.wait()
    match mischief:
        case "run: provider error":
            return run.fail("ERR_PROVIDER")
        case "run: fault for good":
            return run.fail("ERR_INPUTS")
        case "run: worker crashed":
            return run.fail("ERR_OOM")
        case "run: upload refused":
            return run.fail("ERR_UPLOAD")
        case "run: usage beyond the hold, reported":
            usage = {"usd_micro": 150, "tokens": 50}
        case "run: usage unknown":
            usage = {}
        case "run: usage huge":
            usage = {"usd_micro": HUGE}
        case _:
            usage = {"usd_micro": draw.randint(0, 100), "tokens": draw.randint(0, 100)}
    lie = {"execution_id": "x0"} if mischief == "run: receipt of another" else {}
    files = {"x": f"{run.execution_id} {draw.randint(0, 9)}".encode()}
    return await run.succeed(files, usage=usage, **lie)
