"""A writer at work over a store that the test commands."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from theory_api.domain import commands as cmd
from theory_api.domain.tests.book import PLAN
from theory_api.ports.truth import IdempotencyRow, StoredEvent
from theory_api.scheduler.answer import Answer
from theory_api.scheduler.tests.bench import Clock, Truth
from theory_api.scheduler.writer import Committed, Writer
from theory_core import canonicalize, loads_strict, verify


class Desk:
    """A writer at work over a store that the test commands."""

    def __init__(self, truth: Truth, writer: Writer, commits: list[Committed]) -> None:
        self.truth = truth
        self.writer = writer
        self.commits = commits
        self.doubts: list[str] = []

    def ask(self, command: cmd.Command, row: IdempotencyRow | None = None) -> asyncio.Task[Answer]:
        return asyncio.create_task(self.writer.submit(command, row))

    async def events(self, plan: str = PLAN) -> list[StoredEvent]:
        return await self.truth.events(plan, limit=10_000)

    async def sound(self, plan: str = PLAN) -> None:
        """The stored ledger verifies, from its first byte to its last."""
        lines = [
            canonicalize({"event": loads_strict(event.body), "hash": event.hash})
            for event in await self.events(plan)
        ]
        assert verify(lines, laws=True).fault is None


@asynccontextmanager
async def desk() -> AsyncIterator[Desk]:
    """A running writer of shard `s`."""
    truth, clock, commits, doubts = Truth(), Clock(), list[Committed](), list[str]()
    epoch = await truth.claim("s", "me")
    writer = Writer(
        truth, clock, shard="s", epoch=epoch, on_commit=commits.append, on_doubt=doubts.append
    )
    loop = asyncio.create_task(writer.run())
    made = Desk(truth, writer, commits)
    made.doubts = doubts
    try:
        yield made
    finally:
        truth.gate.set()
        loop.cancel()
        await asyncio.wait({loop})


def pause(plan: str = PLAN) -> cmd.Command:
    return cmd.PausePlan(plan=plan, by="me", reason="wait")


def resume(plan: str = PLAN) -> cmd.Command:
    return cmd.ResumePlan(plan=plan, by="me", reason="go on")


def cancel(plan: str = PLAN) -> cmd.Command:
    return cmd.CancelPlan(plan=plan, by="me", reason="enough")


def top_up(amount: int = 1, plan: str = PLAN) -> cmd.Command:
    return cmd.TopUp(plan=plan, by="me", amount={"usd_micro": amount})


def row(body: str = "a", key: str = "k") -> IdempotencyRow:
    return IdempotencyRow(scope="acme/me", key=key, body=body, answer=b'{"done":true}')
