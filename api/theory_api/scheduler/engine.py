"""One scheduler over one shard: claim, recover, serve commands, stop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import structlog

from theory_api.domain.commands import Command
from theory_api.domain.runnable import Blocked
from theory_api.domain.state import PlanState
from theory_api.domain.values import TERMINAL_PLAN
from theory_api.ports.truth import IdempotencyRow, ReadModel, StoredEvent, TruthStore
from theory_api.scheduler.context import Context
from theory_api.scheduler.hub import ENDINGS, Hub
from theory_api.scheduler.recovery import recover, tidy
from theory_api.scheduler.runner import Runner
from theory_api.scheduler.writer import Answer, Committed, Writer
from theory_core import TheoryError

log = structlog.get_logger(__name__)


class Engine:
    """The scheduler as services see it.

    Raises, from every call after the shard was lost or an internal fault: `TheoryError`
    `ERR_NOT_WRITER` or `ERR_UNAVAILABLE`.
    """

    def __init__(
        self,
        store: TruthStore,
        read: ReadModel,
        context: Context,
        *,
        shard: str,
        owner: str,
        admitting: bool = True,
    ) -> None:
        """With `admitting` off nothing new starts: open work is settled, commands are judged."""
        self._admitting = admitting
        self._store = store
        self._read = read
        self._context = context
        self._shard = shard
        self._owner = owner
        self._hub = Hub(self._page)
        self._writer: Writer | None = None
        self._runner: Runner | None = None
        self._loop: asyncio.Task[None] | None = None
        self.fault: BaseException | None = None
        self.stopped = asyncio.Event()

    async def start(self) -> None:
        """Become the owner of the shard and take up what was left unfinished.

        Raises `TheoryError` `ERR_NOT_WRITER` while another process holds it, `ERR_CHAIN_BROKEN`
        when a plan's ledger does not verify.
        """
        epoch = await self._store.claim(self._shard, self._owner)
        writer = Writer(
            self._store,
            self._context.clock,
            shard=self._shard,
            epoch=epoch,
            on_commit=self._committed,
            on_doubt=self._doubted,
        )
        runner = Runner(self._context, writer, owner=self._owner, admitting=self._admitting)
        runner.failed = self._failed
        self._writer, self._runner = writer, runner
        self._loop = asyncio.create_task(writer.run())
        self._loop.add_done_callback(self._loop_ended)
        for plan in await self._store.open_plans(self._shard):
            await recover(self._context, writer, runner, plan)
        await tidy(self._context, runner)

    async def submit(
        self, command: Command, *, idempotency: IdempotencyRow | None = None
    ) -> Answer:
        """Have a command judged; returns after its commit. Raises what `Writer.submit` raises."""
        return await self._ready()[0].submit(command, idempotency)

    async def wait(self, plan: str) -> str:
        """The plan's terminal status, once it has one.

        Raises `TheoryError` `ERR_NOT_FOUND`, `ERR_UNAVAILABLE` when the engine stops before that,
        and the engine's fault if that is why it stopped.
        """
        row = await self._read.plan(plan)
        if row.status in TERMINAL_PLAN:
            return row.status
        ending = ""
        async for event in self.subscribe(plan, after=row.head_seq):
            ending = event.kind
        status = ending.removeprefix("plan.")
        if status not in TERMINAL_PLAN:
            message = "the scheduler stopped before the plan ended"
            raise TheoryError("ERR_UNAVAILABLE", message, {"plan": plan})
        return status

    async def subscribe(self, plan: str, *, after: int = 0) -> AsyncGenerator[StoredEvent]:
        """Every event with `seq > after`, live; ends with the plan, or when the engine stops.

        Raises `TheoryError` `ERR_NOT_FOUND`, and the engine's fault if that is why it stopped.
        """
        row = await self._read.plan(plan)
        if row.status in TERMINAL_PLAN and after >= row.head_seq:
            return
        stopped = asyncio.create_task(self.stopped.wait())
        stopped.add_done_callback(
            lambda ended: None if ended.cancelled() else self._hub.refresh(plan)
        )
        events = self._hub.subscribe(plan, after=after, until=self.stopped)
        kind = ""
        try:
            async for event in events:
                kind = event.kind
                yield event
        finally:
            stopped.cancel()
            await events.aclose()
        if kind not in ENDINGS:
            self._blame()

    def state(self, plan: str) -> PlanState | None:
        """The plan's folded state while it is active here; to be read, never changed."""
        return None if self._writer is None else self._writer.state(plan)

    def blocked(self, plan: str, transition: str) -> Blocked | None:
        """What outside the plan's state holds a candidate."""
        return None if self._runner is None else self._runner.blocked(plan, transition)

    @property
    def turned(self) -> float:
        """Monotonic time of the writer's last turn, for readiness."""
        return 0.0 if self._writer is None else self._writer.turned

    async def drain(self) -> None:
        """End what runs, each with its work confirmed stopped and settled at what it used.

        The interrupted attempts are retried by the next owner and count for no policy. Bounded by
        the pace's `stop_grace_s`; what has not ended by then is recovered by the next owner.
        """
        if self._runner is not None and self.fault is None:
            await self._runner.drain()

    async def stop(self) -> None:
        """Stop everything that runs here; open executions are recovered by the next owner."""
        self.stopped.set()
        if self._runner is not None:
            await self._runner.stop()
        for adapter in self._context.adapters.values():
            await adapter.close()
        if self._loop is not None:
            self._loop.cancel()
            await asyncio.wait({self._loop})
        if self._writer is not None:
            await self._store.release(self._shard, self._writer.epoch)

    async def _page(self, plan: str, after: int) -> list[StoredEvent]:
        return await self._read.events(plan, after=after)

    def _blame(self) -> None:
        """Raise the fault that stopped this engine, if one did."""
        if isinstance(self.fault, TheoryError):
            raise self.fault
        if self.fault is not None:
            message = "the scheduler stopped after an internal fault; see its log"
            raise TheoryError("ERR_INTERNAL", message, {}) from self.fault

    def _ready(self) -> tuple[Writer, Runner]:
        self._blame()
        if self._writer is None or self._runner is None:
            raise TheoryError("ERR_UNAVAILABLE", "the scheduler has not started", {})
        if self.stopped.is_set():
            raise TheoryError("ERR_UNAVAILABLE", "the scheduler is stopping", {})
        if self._writer.lost is not None:
            raise self._writer.lost
        return self._writer, self._runner

    def _committed(self, commit: Committed) -> None:
        self._hub.publish(commit.plan, commit.events)
        if self._runner is not None:
            self._runner.committed(commit)

    def _doubted(self, plan: str) -> None:
        """Law: a commit that was carried out has its effects, even if its answer was lost."""
        self._hub.refresh(plan)
        if self._runner is not None:
            self._runner.touch(plan)

    def _failed(self, error: BaseException) -> None:
        """Law: a scheduler that cannot go on says so and stops; it never idles as if well."""
        if self.fault is None:
            self.fault = error
            log.error("scheduler.failed", exc_info=error)
            self.stopped.set()

    def _loop_ended(self, task: asyncio.Task[None]) -> None:
        if task.cancelled():
            return
        error = task.exception()
        if error is not None:
            self._failed(error)
        elif self._writer is not None and self._writer.lost is not None:
            self._failed(self._writer.lost)
