"""One seed: processes that come and go, people, a machine, a database, and what must hold."""

from __future__ import annotations

import asyncio
import time
import traceback
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any, Final

from theory_api.adapters.memory.intakes import MemoryIntakes
from theory_api.adapters.memory.truth import MemoryDatabase
from theory_api.domain.registry import RegistrySnapshot
from theory_api.domain.values import TERMINAL_PLAN
from theory_api.scheduler.context import Context, Pace
from theory_api.scheduler.engine import Engine
from theory_api.scheduler.tests.bench import Shelf
from theory_api.scheduler.tests.simulator import clients
from theory_api.scheduler.tests.simulator.chance import Chance, ViolationError
from theory_api.scheduler.tests.simulator.loop import Owner, Simulation
from theory_api.scheduler.tests.simulator.machine import Machine, Places
from theory_api.scheduler.tests.simulator.oracle import Oracle
from theory_api.scheduler.tests.simulator.process import Process
from theory_api.scheduler.tests.simulator.stores import Artifacts, Reads, Scratch, Truth
from theory_api.scheduler.tests.simulator.workload import documents
from theory_api.services.plans import PlanCommands
from theory_core import TheoryError, canonicalize, digest

SHARD: Final = "main"
TURNS: Final = 4_000_000
"""Callbacks after which a seed counts as a live-lock."""
STILL_S: Final = 3 * 86_400.0
"""Simulated time without a commit, faults over, after which a plan counts as stuck."""
DAY_S: Final = 86_400.0

EXCUSED: Final = frozenset({"ERR_UNAVAILABLE", "ERR_STORAGE"})
"""Why an engine may stop in here: each follows from a fault that was injected."""


@dataclass
class Outcome:
    """What became of a seed."""

    seed: int
    cause: str = ""
    """Empty: every law held."""
    digest: str = ""
    faults: dict[str, int] = field(default_factory=dict)
    simulated_s: float = 0.0
    real_s: float = 0.0
    transitions: int = 0
    executions: int = 0
    commits: int = 0
    turns: int = 0
    processes: int = 0


class World:
    """Everything of one seed."""

    def __init__(self, seed: int, registry: RegistrySnapshot) -> None:
        self.chance = Chance(seed)
        draw = self.chance.draw
        disorder = draw.choice([0.0, 0.1, 0.5, 1.0])
        self.loop = Simulation(draw, disorder=disorder, turns=TURNS)
        self.database = MemoryDatabase()
        self.blobs: dict[str, bytes] = {}
        self.notes: dict[str, bytes] = {}
        self.oracle = Oracle(self.database, self.blobs, self.chance)
        self.machine = Machine(self.chance)
        self.oracle.running = self.machine.running
        self.oracle.now = self.loop.time
        self.owner = Owner("world")
        self.skew_s = 0.0
        self.registry = registry
        plans = documents(draw, scarce=self.chance.scarce)
        self.people = [clients.Client(self, document) for document in plans]
        self.pace = Pace(
            parallel=draw.choice([2, 4, 8]),
            meter_s=draw.choice([20.0, 60.0]),
            poll_s=draw.choice([1.0, 30.0]),
            fold_events=(5, 50, 500)[seed % 3],
        )
        self.processes: list[Process] = []
        body = canonicalize({"schema": "v1", "params": {"n": 1}})
        self.inputs = digest(body)
        self.blobs[self.inputs] = body
        self._over: asyncio.Future[None] = self.loop.create_future()
        self.chance.alarm = self._alarm

    # -- what the parts ask of each other ---------------------------------------------------

    def start(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Start something that belongs to no process."""
        task = self.loop.start(work, self.owner)
        task.add_done_callback(self._reap)
        return task

    def repeat(self, note: bytes) -> None:
        """Have an outcome reported once more, some time."""
        self.start(clients.repeat(self, note))

    def anyone(self) -> Process:
        """A process to talk to: mostly the newest, now and then one that lives on beside it."""
        living = [process for process in self.processes if process.alive]
        if len(living) > 1 and self.chance.draw.random() < 0.15:
            return self.chance.draw.choice(living)
        return self.processes[-1]

    def status(self, plan: str) -> str:
        """The plan's status in the ledger."""
        model = self.oracle.models.get(plan)
        return "absent" if model is None else model.status

    def head(self, plan: str) -> int:
        """Seq of the plan's last event."""
        tables = self.database.plans.get(plan)
        return 0 if tables is None else tables.head.seq

    def _alarm(self, cause: str) -> None:
        if not self._over.done():
            self._over.set_exception(ViolationError(cause))

    def _reap(self, task: asyncio.Task[Any]) -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._alarm("".join(traceback.format_exception(error)))

    # -- the life of a seed -----------------------------------------------------------------

    def run(self) -> str:
        """Live through all of it; the cause if a law was broken."""
        try:
            self.loop.start(self._live(), self.owner).add_done_callback(self._reap)
            self.loop.run_until_complete(self._over)
            self.oracle.finish()
            self._cleared()
        except (ViolationError, TimeoutError, RuntimeError) as error:
            return str(error)
        return ""

    async def _live(self) -> None:
        self.start(self._supervise(self._process()))
        self.start(self._watch())
        people = [self.start(person.run()) for person in self.people]
        people += [self.start(person.follow()) for person in self.people]
        await asyncio.wait(people)
        while self.machine.kept or self.notes:
            await asyncio.sleep(60)
            self._restart_idle()
        if not self._over.done():
            self._over.set_result(None)

    def _restart_idle(self) -> None:
        """What a dead owner left behind is tidied at the next start, at the latest."""
        if self.processes[-1].alive and self.chance.draw.random() < 0.2:
            self.processes[-1].kill()

    async def _watch(self) -> None:
        """Law: once faults are over, every plan ends."""
        last, moved = 0, 0.0
        while True:
            await asyncio.sleep(DAY_S / 4)
            if self.oracle.commits != last or not self.chance.calm:
                last, moved = self.oracle.commits, self.loop.time()
            elif self.loop.time() - moved > STILL_S:
                self._alarm(f"nothing moves any more: {self._stuck()}")

    def _stuck(self) -> str:
        waiting = []
        for person in self.people:
            status = self.status(person.plan)
            if status not in TERMINAL_PLAN:
                model = self.oracle.models.get(person.plan)
                steps = {} if model is None else model.steps
                open_steps = [f"{n} {s.status}" for n, s in steps.items() if s.status in _WAITING]
                waiting.append(f"{person.plan} is {status}: {', '.join(open_steps[:6])}")
        return "; ".join(waiting) or "left behind: " + ", ".join([*self.machine.kept, *self.notes])

    def _cleared(self) -> None:
        """Law: no execution outlives its settlement for good."""
        for name in self.machine.jobs:
            self.chance.law(not self.machine.running(name), f"{name} still runs")

    # -- processes --------------------------------------------------------------------------

    async def _supervise(self, process: Process) -> None:
        """Keep one process running; now and then end it, in one way or another."""
        draw, chance = self.chance.draw, self.chance
        while True:
            self.database.bury(SHARD)
            self.oracle.expired()
            self.loop.start(self._main(process), process)
            life = asyncio.ensure_future(asyncio.sleep(draw.expovariate(1 / 2400)))
            await asyncio.wait({process.ended, life}, return_when=asyncio.FIRST_COMPLETED)
            life.cancel()
            if not process.ended.done():
                if chance.calm:
                    await process.ended
                else:
                    await self._intervene(process)
            await asyncio.sleep(draw.choice([0.0, 1.0, 60.0]))
            process = self._process()

    async def _intervene(self, process: Process) -> None:
        """Something happens to a process that is well."""
        draw, chance = self.chance.draw, self.chance
        match draw.choice(["kill", "kill", "fuse", "takeover", "pause", "stop", "clock"]):
            case "kill":
                chance.count("death at a random moment")
                process.kill()
            case "fuse":
                chance.count("death at a random callback")
                process.fuse = draw.randint(1, 400)
                await process.ended
            case "takeover":
                chance.count("takeover while the old owner runs on")
                self.start(self._retire(process, draw.uniform(60, 20_000)))
            case "pause":
                chance.count("paused past its lease, then woken")
                self.loop.freeze(process)
                self.start(self._wake(process, draw.uniform(60, 3600)))
            case "stop":
                chance.count("stopped in order")
                self.loop.start(self._leave(process), process)
                await process.ended
            case _:
                chance.count("wall clock steps")
                self.skew_s += draw.choice([-3600.0, 3600.0, -86_400.0, 3650 * DAY_S])
                process.kill()

    async def _retire(self, process: Process, after_s: float) -> None:
        """An owner that was replaced goes one day, whether it noticed or not."""
        await asyncio.sleep(after_s)
        process.kill()

    async def _wake(self, process: Process, after_s: float) -> None:
        await asyncio.sleep(after_s)
        self.loop.thaw(process)
        await self._retire(process, 3600)

    async def _leave(self, process: Process) -> None:
        await process.engine.drain()
        await process.engine.stop()
        process.kill()

    def _process(self) -> Process:
        process = Process(self, f"owner{len(self.processes)}")
        self.chance.note("process", process.name, self.loop.time())
        artifacts = Artifacts(self.blobs, process)
        intakes = MemoryIntakes(artifacts)
        reads = Reads(self.database, process)
        shelf, truth = Shelf(self.registry), Truth(self.database, process)
        context = Context(
            world=reads,
            artifacts=artifacts,
            scratch=Scratch(self.notes, process),
            intakes=intakes,
            snapshots=shelf,
            adapters={"process": Places(self.machine, process, intakes)},
            clock=process.clock,
            platform="amd64",
            pace=self.pace,
            folds=truth.folds,
        )
        process.engine = Engine(truth, reads, context, shard=SHARD, owner=process.name)
        process.plans = PlanCommands(process.engine, artifacts, shelf, ci=False)
        self.processes.append(process)
        return process

    async def _main(self, process: Process) -> None:
        """What a server does with its engine: start, serve until it stops, leave."""
        engine = process.engine
        try:
            await engine.start()
            if self.chance.scarce:
                clients.crossing(self, engine)
            await engine.stopped.wait()
        except TheoryError as error:
            self._blame(process, error)
        if engine.fault is not None:
            self._blame(process, engine.fault)
        await engine.stop()
        process.kill()

    def _blame(self, process: Process, error: BaseException) -> None:
        """Law: an engine stops for a fault that was injected, or not at all."""
        code = error.code if isinstance(error, TheoryError) else "no code"
        self.chance.note("engine stopped", process.name, code)
        replaced = code == "ERR_NOT_WRITER" and self.oracle.overtook(process.epoch)
        if code not in EXCUSED and not replaced:
            lines = traceback.format_exception(error)
            self._alarm(f"the engine stopped: {code}: {''.join(lines)}")


_WAITING: Final = frozenset({"pending", "applying"})


def live(seed: int, registry: RegistrySnapshot) -> Outcome:
    """Run one seed to its end."""
    since = time.perf_counter()
    world = World(seed, registry)
    try:
        cause = world.run()
    finally:
        world.loop.bury()
    model = world.oracle.models.values()
    return Outcome(
        seed=seed,
        cause=cause,
        digest=world.chance.digest,
        faults=dict(world.chance.counts),
        simulated_s=world.loop.time(),
        real_s=time.perf_counter() - since,
        transitions=sum(len(one.steps) for one in model),
        executions=sum(len(one.attempts) for one in model),
        commits=world.oracle.commits,
        turns=world.loop.turned,
        processes=len(world.processes),
    )
