"""People who use the simulated service: ask, lose the line, ask again with the same key."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from theory_api.domain import commands as cmd
from theory_api.domain.values import TERMINAL_PLAN, ControlOp, SelectorSpec
from theory_api.ports.truth import IdempotencyRow
from theory_api.scheduler.answer import Answer
from theory_api.scheduler.outcome import decode
from theory_api.scheduler.tests.simulator.process import HungUpError, Process
from theory_api.scheduler.tests.simulator.workload import ASKS, HOLD, REF, TENANT
from theory_api.services.plans import Applied
from theory_core import TheoryError, canonicalize, digest

if TYPE_CHECKING:
    from theory_api.scheduler.engine import Engine
    from theory_api.scheduler.tests.simulator.world import World

AGAIN: Final = frozenset(
    {
        "ERR_UNAVAILABLE",
        "ERR_STORAGE",
        "ERR_NOT_WRITER",
        "ERR_INTERNAL",
        "ERR_IDEMPOTENCY_IN_FLIGHT",
    }
)
"""Answers after which a client asks again: the first four of a service that restarts."""

PATIENCE_S: Final = 40.0
SCOPE: Final = "acme/people"


class Client:
    """Applies one plan, meddles with it, and sees it to its end."""

    def __init__(self, world: World, document: dict[str, Any]) -> None:
        self._world = world
        self._chance = world.chance
        self._document = document
        self._number = itertools.count(1)
        self.plan = f"/world/{TENANT}/{document['plan']}"

    async def run(self) -> None:
        """Everything that this person does."""
        draw = self._chance.draw
        await asyncio.sleep(draw.uniform(0, 3600))
        await self._apply()
        while self._world.status(self.plan) not in TERMINAL_PLAN:
            calm = self._chance.calm
            await asyncio.sleep(600 if calm else draw.expovariate(1 / 900))
            if calm:
                await self._help()
            else:
                await self._meddle()

    async def follow(self) -> None:
        """Read the plan's events as they come, over as many connections as it takes."""
        world, place = self._world, [0]
        while world.status(self.plan) not in TERMINAL_PLAN or place[0] < world.head(self.plan):
            process = world.anyone()
            patience_s = self._chance.draw.uniform(60, 7200)
            try:
                await process.ask(partial(self._read, process, place), patience_s=patience_s)
            except (HungUpError, TheoryError):
                await asyncio.sleep(self._chance.draw.uniform(1, 60))

    async def _read(self, process: Process, place: list[int]) -> None:
        """Take events down from where the last connection ended; now and then hang up."""
        last = place[0]
        async with aclosing(process.engine.subscribe(self.plan, after=last)) as events:
            async for event in events:
                self._world.oracle.seen(event, last)
                last = event.seq
                place[0] = max(place[0], last)
                if self._chance.draw.random() < 0.02:
                    return

    async def _apply(self) -> None:
        key = self._key()
        row = self._row(key, self._document)

        async def apply(process: Process) -> Applied:
            return await process.plans.apply(self._document, tenant=TENANT, by=key, idempotency=row)

        applied = await self._until(key, apply)
        if isinstance(applied, Applied):
            there = self._world.head(self.plan) > 0
            self._chance.law(there, f"{key}: {self.plan} was acknowledged and is not there")
            same = applied.replayed in {None, row.answer}
            self._chance.law(same, f"{key}: another answer was replayed")

    async def _meddle(self) -> None:
        """Ask for something that may or may not make sense now."""
        draw = self._chance.draw
        await self._command(
            draw.choices(
                [*self._often, self._cancel, self._cancel_run],
                [4, 8, 4, 5, 2, 4, 2, 0.15, 0.5],
            )[0]
        )

    @property
    def _often(self) -> list[Callable[[str], cmd.Command]]:
        steering = [self._pause_run, self._resume_run, self._lower_run]
        return [self._pause, self._resume, self._top_up, self._propose, *steering]

    async def _help(self) -> None:
        """See to it that the plan can end: no fault is injected any more."""
        model = self._world.oracle.models[self.plan]
        if model.status == "paused":
            await self._command(self._resume)
        if model.breached or not model.open:
            await self._command(self._top_up)
        for name in [name for name, one in model.open.items() if one.paused]:
            await self._command(partial(self._steer, "resume", name))

    def _pause(self, by: str) -> cmd.Command:
        return cmd.PausePlan(plan=self.plan, by=by, reason="wait")

    def _resume(self, by: str) -> cmd.Command:
        return cmd.ResumePlan(plan=self.plan, by=by, reason="go on")

    def _cancel(self, by: str) -> cmd.Command:
        return cmd.CancelPlan(plan=self.plan, by=by, reason="enough")

    def _pause_run(self, by: str) -> cmd.Command:
        return self._steer("pause", self._one(), by)

    def _resume_run(self, by: str) -> cmd.Command:
        return self._steer("resume", self._one(), by)

    def _lower_run(self, by: str) -> cmd.Command:
        return self._steer("set_budget", self._one(), by)

    def _cancel_run(self, by: str) -> cmd.Command:
        return self._steer("cancel", self._one(), by)

    def _one(self) -> str:
        """An execution that runs, has ended, or never was."""
        model = self._world.oracle.models[self.plan]
        return self._chance.draw.choice([*model.open, *list(model.attempts)[-3:], "x0"])

    def _steer(self, op: ControlOp, name: str, by: str) -> cmd.Command:
        amount = self._chance.draw.randint(0, 2 * HOLD["tokens"])
        return cmd.ControlExecution(
            plan=self.plan,
            by=by,
            reason="seen enough",
            execution_id=name,
            op=op,
            budget={"tokens": amount} if op == "set_budget" else None,
        )

    def _top_up(self, by: str) -> cmd.Command:
        limited = self._document["budget"]
        return cmd.TopUp(plan=self.plan, by=by, amount={name: HOLD[name] for name in limited})

    def _propose(self, by: str) -> cmd.Command:
        prefix = "/artifacts/outputs/demo-work-v1/{execution_id}/"
        proposal = cmd.Proposal(
            transition=by,
            processor_ref=REF,
            mode="mock",
            inputs=self._world.inputs,
            depends_on=(),
            write_prefix=prefix,
            write_set=(SelectorSpec(kind="prefix", path=prefix),),
            hold=dict(HOLD),
            timeout_ms=10_000_000,
        )
        return cmd.ProposeTransition(plan=self.plan, by=by, proposal=proposal)

    async def _command(self, make: Callable[[str], cmd.Command]) -> None:
        key = self._key()
        command = make(key)
        row = self._row(key, {"command": key})

        async def submit(process: Process) -> Answer:
            answer = await process.engine.submit(command, idempotency=row)
            if answer.replayed is None:
                self._world.oracle.answered(key, answer)
            else:
                self._chance.law(answer.replayed == row.answer, f"{key}: another answer replayed")
            return answer

        await self._until(key, submit)

    async def _until(
        self, key: str, work: Callable[[Process], Awaitable[Answer | Applied]]
    ) -> Answer | Applied | None:
        """Ask until there is an answer; None for a refusal."""
        while True:
            process = self._world.anyone()
            try:
                answer = await process.ask(partial(work, process), patience_s=PATIENCE_S)
            except HungUpError:
                self._chance.note("hung up", key)
            except TheoryError as error:
                self._chance.note("refused", key, error.code)
                if error.code not in AGAIN:
                    return None
            else:
                self._chance.note("answered", key)
                return answer
            await asyncio.sleep(self._chance.draw.expovariate(1 / 20))

    def _key(self) -> str:
        return f"key-{self._document['plan']}-{next(self._number)}"

    def _row(self, key: str, body: dict[str, Any]) -> IdempotencyRow:
        answer = canonicalize({"key": key})
        return IdempotencyRow(SCOPE, key, digest(canonicalize(body)), answer)


def crossing(world: World, engine: Engine) -> None:
    """Have a top-up arrive, now and then, right before a refusal for want of budget.

    It was on its way while the runner looked: commands lie in the inbox for as long as two commits
    take, and what the runner sees is the state without them.
    """
    writer, draw = engine._writer, world.chance.draw
    assert writer is not None
    ask = writer.ask

    def asked(command: cmd.Command) -> asyncio.Future[Answer]:
        short = isinstance(command, cmd.Refuse) and command.error.code == "ERR_BUDGET_EXCEEDED"
        if short and not world.chance.calm and draw.random() < 0.5:
            world.chance.note("crossing", command.plan)
            amount = {"usd_micro": draw.randint(*ASKS)}
            ask(cmd.TopUp(plan=command.plan, by="passer-by", amount=amount))
        return ask(command)

    writer.ask = asked  # type: ignore[method-assign]


async def repeat(world: World, note: bytes) -> None:
    """Report an outcome again: soon, and while its transition may be at another attempt."""
    outcome = decode(note)
    plan = world.oracle.homes[outcome.execution_id]
    command = outcome.command(plan, ())
    other = replace(command, envelope=digest(note))
    pauses = [0.0] if outcome.outcome == "succeeded" else [0.0, 60.0, 240.0]
    for pause_s in pauses:
        await asyncio.sleep(pause_s * world.chance.draw.random())
        process = world.anyone()
        settled = outcome.execution_id in world.oracle.settled
        submit = partial(process.engine.submit, other if settled and pause_s else command)
        try:
            await process.ask(submit, patience_s=PATIENCE_S)
        except (HungUpError, TheoryError) as error:
            world.chance.note("repeat refused", getattr(error, "code", "hung up"))
