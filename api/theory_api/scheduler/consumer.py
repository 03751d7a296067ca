"""Takes the commands that other replicas left for a shard, and answers them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

import structlog

from theory_api.domain.codec import decode
from theory_api.ports.clock import Clock
from theory_api.ports.inbox import Inbox, InboxRow
from theory_api.ports.signals import Signals
from theory_api.ports.truth import INBOX, IdempotencyRow
from theory_api.scheduler.answer import Answer, reply
from theory_api.scheduler.context import PASSING
from theory_api.scheduler.engine import Engine
from theory_api.scheduler.news import News
from theory_api.scheduler.tenure import LeasePace
from theory_core import TheoryError, digest

log = structlog.get_logger(__name__)

TAKEN: Final = 256
"""Rows taken from the inbox at once."""


def arrival(shard: str) -> str:
    """Topic: a command lies in the inbox of this shard."""
    return f"inbox {shard}"


def answered(ident: str) -> str:
    """Topic: this command has its reply."""
    return f"answer {ident}"


class Consumer:
    """The inbox of one shard, while an engine serves it.

    Law: every row's command is committed with a row that makes it happen once, and answered after
    that; whoever owns the shard next finds either the row to do or the answer to give. Rows of one
    plan are taken in the order in which they arrived.
    """

    def __init__(
        self,
        shard: str,
        engine: Engine,
        *,
        inbox: Inbox,
        signals: Signals,
        clock: Clock,
        pace: LeasePace,
    ) -> None:
        self._shard = shard
        self._engine = engine
        self._inbox = inbox
        self._signals = signals
        self._clock = clock
        self._pace = pace
        self._news = News(clock)
        self._swept = clock.monotonic()

    async def run(self) -> None:
        """Serve until the engine's shard is lost, or until cancelled."""
        unlisten = self._signals.listen(self._heard)
        try:
            while not self._engine.stopped.is_set():
                try:
                    done = await self._turn()
                except TheoryError as error:
                    if error.code == "ERR_NOT_WRITER":
                        return
                    if error.code not in PASSING:
                        raise
                    log.warning("inbox.waits", shard=self._shard, code=error.code)
                    done = False
                if not done:
                    await self._news.wait(self._pace.poll_s)
        finally:
            unlisten()

    async def _turn(self) -> bool:
        """Answer what is there; False when there was nothing."""
        if self._clock.monotonic() - self._swept > self._pace.sweep_s:
            self._swept = self._clock.monotonic()
            await self._inbox.sweep(self._shard, older_s=self._pace.kept_s)
        rows = await self._inbox.pending(self._shard, limit=TAKEN)
        plans: dict[str, list[InboxRow]] = {}
        for row in rows:
            plans.setdefault(row.plan, []).append(row)
        await _all([asyncio.create_task(self._answer_all(queue)) for queue in plans.values()])
        return bool(rows)

    async def _answer_all(self, rows: Sequence[InboxRow]) -> None:
        for row in rows:
            await self._answer(row)

    async def _answer(self, row: InboxRow) -> None:
        epoch = self._engine.epoch
        if epoch is None:
            return
        own = IdempotencyRow(scope=INBOX, key=row.id, body=digest(row.command), answer=b"{}")
        outcome: Answer | TheoryError
        try:
            command = decode(row.command)
            outcome = await self._engine.submit(command, idempotency=row.idempotency or own)
        except TheoryError as error:
            if error.code == "ERR_NOT_WRITER" or self._engine.stopped.is_set():
                # It stays for the next owner.
                raise
            outcome = error
        told = reply(outcome, own=row.idempotency is None)
        await self._inbox.answer(row.id, told, shard=self._shard, epoch=epoch)
        self._signals.send(answered(row.id))

    def _heard(self, topic: str) -> None:
        if topic == arrival(self._shard):
            self._news.ring()


async def _all(tasks: Sequence[asyncio.Task[None]]) -> None:
    """Wait for every task; the first fault of one is raised when all have ended."""
    try:
        if tasks:
            await asyncio.wait(tasks)
    except asyncio.CancelledError:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        raise
    faults = [task.exception() for task in tasks]
    for fault in faults:
        if fault is not None:
            raise fault
