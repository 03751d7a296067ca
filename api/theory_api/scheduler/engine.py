"""One scheduler over one shard: claim, recover, serve commands, stop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping
from dataclasses import replace
from typing import Any

import structlog

from theory_api.domain.commands import Command, ControlExecution
from theory_api.domain.runnable import Blocked
from theory_api.domain.state import PlanState
from theory_api.ports.truth import IdempotencyRow, ReadModel, StoredEvent, TruthStore
from theory_api.scheduler.answer import Answer
from theory_api.scheduler.context import Context
from theory_api.scheduler.feed import Feed
from theory_api.scheduler.folding import Folding
from theory_api.scheduler.hub import Hub
from theory_api.scheduler.keeping import Keeper
from theory_api.scheduler.recovery import Recovery
from theory_api.scheduler.runner import Runner
from theory_api.scheduler.shards import Served
from theory_api.scheduler.stopping import within
from theory_api.scheduler.verification import Verification, Verified
from theory_api.scheduler.writer import Committed, Writer
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
        verification: Verification | None = None,
    ) -> None:
        """With `admitting` off nothing new starts: open work is settled, commands are judged.

        `verification` goes over all ledgers while the engine runs.
        """
        self._admitting = admitting
        self._verification = verification
        self._store = store
        self._context = context
        self._shard = shard
        self._owner = owner
        self._hub = context.hub or Hub(lambda plan, after: read.events(plan, after=after))
        self._writer: Writer | None = None
        self._runner: Runner | None = None
        self._recovery: Recovery | None = None
        self._keeper: Keeper | None = None
        self._loop: asyncio.Task[None] | None = None
        self._chores: list[asyncio.Task[None]] = []
        self._started = False
        self.fault: BaseException | None = None
        self.claimed: float | None = None
        """When the claim that succeeded had begun, monotonic."""
        self.entitled: Callable[[], bool] = lambda: True
        """Whether nobody else can own the shard at this moment; set before `start`, asked before
        anything is started."""
        self.stopped = asyncio.Event()
        self._feed = Feed(
            read,
            self._hub,
            stopped=self.stopped,
            blame=self._blame,
            aside=self._fault_of,
        )

    async def start(self) -> None:
        """Become the owner of the shard and take up what was left unfinished.

        Ready means: every open plan is folded, its chain verified, and open executions are being
        decided about, which goes on behind the start where it takes long. A plan whose ledger does
        not verify is set aside, the others go on. Raises `TheoryError` `ERR_NOT_WRITER` while
        another process holds the shard, `ERR_UNAVAILABLE`.
        """
        context, clock = self._context, self._context.clock
        began = clock.monotonic()
        epoch = await self._store.claim(self._shard, self._owner)
        self.claimed = began
        folding = Folding(self._store, context.folds)
        writer = Writer(
            self._store,
            clock,
            shard=self._shard,
            epoch=epoch,
            on_commit=self._committed,
            on_doubt=self._doubted,
            on_aside=self._hub.refresh,
            folding=folding,
        )
        runner = Runner(context, writer, owner=self._owner, admitting=self._admitting)
        runner.failed = self.fail
        runner.entitled = self.entitled
        self._writer, self._runner = writer, runner
        self._loop = asyncio.create_task(writer.run())
        self._loop.add_done_callback(self._loop_ended)
        recovery = Recovery(context, writer, runner, attaching=self._admitting)
        self._recovery = recovery
        runner.overlooked = recovery.again
        await self._load(folding, writer)
        for plan in writer.plans.folded.values():
            recovery.take(plan.state)
        self._chore(recovery.run())
        if context.folds is not None:
            every, keeping = context.pace.fold_events, writer.plans
            self._keeper = Keeper(context.folds, folding, keeping, clock, every=every)
            self._chore(self._keeper.run())
        if self._verification is not None:
            self._chore(self._verification.run(self.set_aside))
        self._started = True
        looked = asyncio.ensure_future(recovery.looked.wait())
        await within(context, context.pace.recovery_s, looked)
        looked.cancel()

    async def _load(self, folding: Folding, writer: Writer) -> None:
        """Fold every open plan; set aside what cannot be."""
        plans = await self._store.open_plans(self._shard)
        async for plan, folded in folding.many(plans):
            if not isinstance(folded, TheoryError):
                writer.plans.adopt(folded)
            elif folded.code == "ERR_CHAIN_BROKEN":
                writer.plans.set_aside(plan, folded)
            else:
                raise folded
        log.info("shard.loaded", shard=self._shard, plans=len(plans), aside=len(self.aside))

    def _chore(self, work: Coroutine[Any, Any, None]) -> None:
        """Do something beside the writer until the engine stops; its fault is the engine's."""
        task = asyncio.create_task(work)
        task.add_done_callback(self._chore_ended)
        self._chores.append(task)

    async def submit(
        self, command: Command, *, idempotency: IdempotencyRow | None = None
    ) -> Answer:
        """Have a command judged; returns after its commit. Raises what `Writer.submit` raises."""
        if isinstance(command, ControlExecution):
            command = replace(command, able=self._able)
        return await self._ready()[0].submit(command, idempotency)

    async def wait(self, plan: str) -> str:
        """The plan's terminal status, once it has one; raises what `Feed.wait` raises."""
        return await self._feed.wait(plan)

    def subscribe(self, plan: str, *, after: int = 0) -> AsyncGenerator[StoredEvent]:
        """Every event with `seq > after`, live; raises what `Feed.subscribe` raises."""
        return self._feed.subscribe(plan, after=after)

    def state(self, plan: str) -> PlanState | None:
        """The plan's folded state while it is active here; to be read, never changed."""
        return None if self._writer is None else self._writer.state(plan)

    def blocked(self, plan: str, transition: str) -> Blocked | None:
        """What outside the plan's state holds a candidate."""
        return None if self._runner is None else self._runner.blocked(plan, transition)

    @property
    def aside(self) -> Mapping[str, TheoryError]:
        """Plans whose ledger is not what was written, and why; their commands are refused."""
        return {} if self._writer is None else self._writer.plans.aside

    @property
    def _able(self) -> tuple[str, ...]:
        """Adapters that can have a run stand still; what is decided on that is told to them."""
        return tuple(name for name, one in sorted(self._context.adapters.items()) if one.steers)

    def _fault_of(self, plan: str) -> TheoryError | None:
        return self.aside.get(plan)

    @property
    def undecided(self) -> int:
        """Executions of an earlier owner that are still to be decided about; their holds stay."""
        return 0 if self._recovery is None else self._recovery.left

    @property
    def verified(self) -> Verified | None:
        """What the last walk over all ledgers found, and how old that is; None before its end."""
        return None if self._verification is None else self._verification.newest

    def set_aside(self, plan: str, fault: TheoryError) -> None:
        """Refuse a plan's commands from now on: its ledger is not what was written."""
        if self._writer is not None:
            self._writer.plans.set_aside(plan, fault)

    @property
    def epoch(self) -> int | None:
        """The epoch that was claimed; None before that."""
        return None if self._writer is None else self._writer.epoch

    @property
    def served(self) -> Served:
        """The one shard, while it is served."""
        serving = self._started and self.fault is None
        age = None if self.verified is None else self.verified.age_s
        shards = (self._shard,) if serving else ()
        return Served(shards, aside=len(self.aside), verified_age_s=age)

    @property
    def idle(self) -> bool:
        """Whether no execution runs here or is about to."""
        return self._runner is None or not self._runner.running

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
        for chore in self._chores:
            chore.cancel()
        if self._chores:
            await asyncio.wait(self._chores)
        if self._runner is not None:
            await self._runner.stop()
        await self._close_adapters()
        if self._loop is not None:
            self._loop.cancel()
            await asyncio.wait({self._loop})
        if self._keeper is not None and self.fault is None:
            await self._keeper.last()
        if self._writer is not None:
            await self._store.release(self._shard, self._writer.epoch)

    async def _close_adapters(self) -> None:
        """Law: an adapter that cannot be closed keeps no shard from its next owner."""
        for adapter in self._context.adapters.values():
            try:
                await adapter.close()
            except Exception as error:
                log.exception("adapter.unclosed", adapter=adapter.name)
                self.fail(error)

    def _blame(self) -> None:
        """Raise the fault that stopped this engine, if one did."""
        if isinstance(self.fault, TheoryError):
            raise self.fault
        if self.fault is not None:
            message = "the scheduler stopped after an internal fault; see its log"
            raise TheoryError("ERR_INTERNAL", message, {}) from self.fault

    def _ready(self) -> tuple[Writer, Runner]:
        self._blame()
        if self._writer is None or self._runner is None or not self._started:
            raise TheoryError("ERR_UNAVAILABLE", "the scheduler has not started", {})
        if self.stopped.is_set():
            raise TheoryError("ERR_UNAVAILABLE", "the scheduler is stopping", {})
        if self._writer.lost is not None:
            raise self._writer.lost
        return self._writer, self._runner

    def _committed(self, commit: Committed) -> None:
        self._hub.publish(commit.plan, commit.events)
        if self._keeper is not None:
            self._keeper.committed(commit)
        if self._runner is not None:
            self._runner.committed(commit)

    def _doubted(self, plan: str) -> None:
        """Law: a commit that was carried out has its effects, even if its answer was lost."""
        self._hub.refresh(plan)
        if self._runner is not None:
            self._runner.doubted(plan)

    def fail(self, error: BaseException) -> None:
        """Law: a scheduler that cannot go on says so and stops; it never idles as if well."""
        if self.fault is None:
            self.fault = error
            log.error("scheduler.failed", exc_info=error)
            self.stopped.set()

    def _chore_ended(self, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None and (self._writer is None or self._writer.lost is None):
            self.fail(error)

    def _loop_ended(self, task: asyncio.Task[None]) -> None:
        if task.cancelled():
            return
        error = task.exception()
        if error is not None:
            self.fail(error)
        elif self._writer is not None and self._writer.lost is not None:
            self.fail(self._writer.lost)
