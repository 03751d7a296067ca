"""The single writer: takes commands, decides, chains, commits in groups, and only then answers."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

import structlog

from theory_api.domain import events as ev
from theory_api.domain.commands import Command
from theory_api.domain.decide import decide
from theory_api.domain.decision import Effect
from theory_api.domain.evolve import evolve
from theory_api.domain.projection import project
from theory_api.domain.state import PlanState
from theory_api.ports.clock import Clock
from theory_api.ports.truth import Append, IdempotencyRow, StoredEvent, TruthStore
from theory_api.scheduler.answer import Answer, stamped
from theory_api.scheduler.folding import Folded, Folding
from theory_api.scheduler.item import Item
from theory_api.scheduler.once import TAKEN, Once
from theory_api.scheduler.plans import Plans, regression
from theory_api.scheduler.sealing import seal
from theory_api.scheduler.turns import Turn
from theory_core import TheoryError

log = structlog.get_logger(__name__)

BATCH: Final = 256
"""Commands decided and committed together."""

_STEPS_AWAY: Final = 3
"""Turns of the loop in which a commit gets to its store, before the next batch is decided."""

LOST: Final = frozenset({"ERR_NOT_WRITER", "ERR_CONFLICT", "ERR_CHAIN_BROKEN"})
"""Failures of a commit that mean: somebody else writes here. The writer stops for good."""


@dataclass(frozen=True, slots=True)
class Committed:
    """One plan's share of a commit, for those who act on it."""

    plan: str
    state: PlanState
    """The live state, which may be ahead of `events` already."""
    events: tuple[StoredEvent, ...]
    effects: tuple[Effect, ...]


@dataclass(slots=True)
class _Share:
    """What a batch does to one plan."""

    folded: Folded
    expected_seq: int
    stored: list[StoredEvent] = field(default_factory=list)
    typed: list[tuple[int, str, ev.Event | None]] = field(default_factory=list)
    effects: list[Effect] = field(default_factory=list)


@dataclass(slots=True)
class Batch:
    """Decided commands that commit together."""

    items: list[Item] = field(default_factory=list)
    shares: dict[str, _Share] = field(default_factory=dict)
    answers: list[tuple[Item, Answer]] = field(default_factory=list)
    refusals: list[tuple[Item, TheoryError]] = field(default_factory=list)
    """Answered with the batch too: what refused them may rest on events not committed yet."""
    idempotency: list[IdempotencyRow] = field(default_factory=list)


class Writer:
    """Owns the folded states of one shard.

    `on_commit` hears of every commit; `on_doubt` of every plan with a commit that failed, or seemed
    to: what the store holds of it may be news; `on_aside` of every plan that is set aside.

    Laws: nothing is answered or acted on before its commit; at most one commit is in flight, and
    the next batch is decided on top of it; when a commit fails, every state that it touched is
    folded anew from what the store holds. A key that another writer's commit took first fails
    nobody else's command: those of its batch are decided anew.
    """

    def __init__(
        self,
        store: TruthStore,
        clock: Clock,
        *,
        shard: str,
        epoch: int,
        on_commit: Callable[[Committed], None],
        on_doubt: Callable[[str], None] = lambda _plan: None,
        on_aside: Callable[[str], None] = lambda _plan: None,
        folding: Folding | None = None,
    ) -> None:
        self._store = store
        self._clock = clock
        self._shard = shard
        self.epoch = epoch
        self._on_commit = on_commit
        self._on_doubt = on_doubt
        self._inbox: deque[Item] = deque()
        self._arrived = asyncio.Event()
        self.plans = Plans(store, folding or Folding(store), on_aside)
        self._once = Once(store)
        self._again: list[Item] = []
        self._hand: list[Item] = []
        self._flight: tuple[Batch, asyncio.Task[None]] | None = None
        self._landings: dict[str, asyncio.Event] = {}
        self.lost: TheoryError | None = None
        self.turned = clock.monotonic()

    def state(self, plan: str) -> PlanState | None:
        """The folded state, if this writer has it; to be read, never changed."""
        folded = self.plans.held(plan)
        return None if folded is None else folded.state

    async def load(self, plan: str) -> PlanState:
        """The folded state, from the store if need be; its chain is verified on the way."""
        return (await self._folded(plan)).state

    async def _folded(self, plan: str) -> Folded:
        held = self.plans.held(plan)
        if held is not None:
            return held
        try:
            return await self.plans.get(plan)
        except TheoryError as error:
            if error.code == "ERR_CHAIN_REGRESSION":
                self.lost = error
            raise

    async def settled(self, plan: str) -> PlanState:
        """The state, at a moment when the store holds all of it; `ERR_NOT_WRITER` once lost."""
        while self.lost is None:
            folded = await self._folded(plan)
            if folded.committed == folded.state.seq:
                return folded.state
            await self._landings.setdefault(plan, asyncio.Event()).wait()
        raise self.lost

    async def reread(self, plan: str) -> None:
        """Have a plan folded anew if the store holds more of it than this writer knows of.

        Law: nothing that is decided, or about to be, loses the state that it is decided on.
        """
        folded = self.plans.folded.get(plan)
        if folded is None:
            return
        known = folded.committed
        more = await self._store.events(plan, after=known, limit=1)
        still = self.plans.folded.get(plan) is folded and folded.committed == known
        idle = folded.state.seq == known and all(one.command.plan != plan for one in self._hand)
        if more and still and idle:
            self.plans.forget([plan])

    def committed(self, plan: str) -> int:
        """Seq of the last event that the store is known to hold; 0 for a plan not folded here."""
        folded = self.plans.folded.get(plan)
        return 0 if folded is None else folded.committed

    async def submit(self, command: Command, idempotency: IdempotencyRow | None = None) -> Answer:
        """Put a command into the inbox; answered after its commit.

        Raises `TheoryError`: what `decide` raises, what the commit raises, `ERR_NOT_WRITER` once
        the shard is lost, `ERR_IDEMPOTENCY_MISMATCH`, `ERR_IDEMPOTENCY_IN_FLIGHT`.
        """
        if idempotency is not None:
            return await self._submit_once(command, idempotency)
        return await self.ask(command)

    def ask(self, command: Command) -> asyncio.Future[Answer]:
        """Put a command into the inbox; what comes back is answered after its commit.

        The answer of a future that is cancelled is lost, the command is not. Raises, at once or
        through the future, what `submit` raises.
        """
        return self._enqueue(command, None).future

    async def _submit_once(self, command: Command, row: IdempotencyRow) -> Answer:
        self._once.take(row)
        try:
            answer = await self._once.answered(command.plan, row)
            if answer is None:
                item = self._enqueue(command, row)
                # The key stays in use until the command is answered, even if its caller leaves.
                item.future.add_done_callback(lambda _: self._once.free(row))
        except BaseException:
            self._once.free(row)
            raise
        if answer is None:
            return await asyncio.shield(item.future)
        self._once.free(row)
        return answer

    def _enqueue(self, command: Command, row: IdempotencyRow | None) -> Item:
        if self.lost is not None:
            raise self.lost
        item = Item(command, row, asyncio.get_running_loop().create_future())
        self._inbox.append(item)
        self._arrived.set()
        return item

    async def run(self) -> None:
        """Serve the inbox until cancelled or until the shard is lost."""
        try:
            while self.lost is None:
                await self._until_work()
                self.turned = self._clock.monotonic()
                waiting = self._again or self._inbox
                if self._flight is not None and (self._flight[1].done() or not waiting):
                    await self._land()
                else:
                    await self._turn()
        finally:
            try:
                await self._land()
            finally:
                self._close()

    async def _turn(self) -> None:
        """Decide the next batch while the last one commits, and send it on its way after that."""
        fresh = min(BATCH - len(self._again), len(self._inbox))
        self._hand = [*self._again, *(self._inbox.popleft() for _ in range(fresh))]
        self._again = []
        batch = self.step(await self._loaded(self._hand))
        if not await self._land():
            self._forget(batch)
            self._inbox.extendleft(reversed(batch.items))
        else:
            commit = asyncio.create_task(self._commit(batch))
            commit.add_done_callback(lambda _: self._arrived.set())
            self._flight = (batch, commit)
            self._hand = []
            for _ in range(_STEPS_AWAY):
                await Turn()
        self._hand = []

    async def _until_work(self) -> None:
        """Return when a command is there or the commit in flight has ended."""
        if self._again or self._inbox or (self._flight is not None and self._flight[1].done()):
            return
        self._arrived.clear()
        await self._arrived.wait()

    async def _loaded(self, items: list[Item]) -> list[Item]:
        """The items whose plan could be folded; the others are answered with the fault."""
        ready: list[Item] = []
        for item in items:
            try:
                if self.plans.held(item.command.plan) is None:
                    await self.load(item.command.plan)
            except TheoryError as error:
                item.fail(error)
            else:
                ready.append(item)
        return ready

    def step(self, items: Sequence[Item]) -> Batch:
        """Decide, evolve and chain a batch; synchronous, without any IO."""
        batch = Batch()
        for item in items:
            batch.items.append(item)
            plan = item.command.plan
            share = batch.shares.get(plan)
            if plan in self.plans.aside:
                batch.refusals.append((item, self.plans.aside[plan]))
                continue
            if share is None:
                folded = self.plans.folded[plan]
                share = batch.shares[plan] = _Share(folded, folded.state.seq)
            try:
                decision = decide(share.folded.state, item.command)
                sealed = seal(share.folded, decision.events, self._clock.now)
            except TheoryError as error:
                batch.refusals.append((item, error))
                continue
            for event, stored in zip(decision.events, sealed, strict=True):
                evolve(share.folded.state, stored.seq, event)
                share.stored.append(stored)
                share.typed.append((stored.seq, stored.at, event))
            share.effects.extend(decision.effects)
            kinds = tuple(event.KIND for event in decision.events)
            seq = share.folded.state.seq
            batch.answers.append((item, Answer(plan, seq, events=kinds, stale=decision.stale)))
            if item.idempotency is not None and not decision.stale:
                batch.idempotency.append(stamped(item.idempotency, batch.answers[-1][1]))
        return batch

    async def _commit(self, batch: Batch) -> None:
        appends = [
            Append(plan, share.expected_seq, tuple(share.stored), project(plan, share.typed))
            for plan, share in batch.shares.items()
            if share.stored
        ]
        if appends or batch.idempotency:
            await self._store.append(
                appends, shard=self._shard, epoch=self.epoch, idempotency=batch.idempotency
            )

    async def _land(self) -> bool:
        """Wait for the commit in flight, if there is one, and tell everybody; False if it failed.

        A fault that is no `TheoryError` is answered as `ERR_INTERNAL` and goes on to stop the loop.
        """
        if self._flight is None:
            return True
        batch, commit = self._flight
        if not commit.done():
            await asyncio.wait({commit})
        error = commit.exception()
        rest = batch.items
        if isinstance(error, TheoryError) and error.code == TAKEN:
            rest = await self._once.untaken(batch.items)
        self._flight = None
        if error is None:
            self._told(batch)
        elif len(rest) < len(batch.items):
            self._again = rest
            self.plans.forget(batch.shares)
        else:
            self._failed(batch, error)
        self._wake(batch.shares)
        if error is not None and not isinstance(error, TheoryError):
            raise error
        return error is None

    def _failed(self, batch: Batch, error: BaseException) -> None:
        self.plans.forget(batch.shares)
        known = TheoryError("ERR_INTERNAL", "the commit failed; see the log", {})
        if isinstance(error, TheoryError):
            known = error
        expected, head = (known.detail or {}).get("expected"), (known.detail or {}).get("head")
        if isinstance(expected, int) and isinstance(head, int) and head < expected:
            self.lost = regression(str((known.detail or {}).get("plan")), expected, head)
        elif known.code in LOST:
            message = f"this process no longer writes here: {known.message}"
            self.lost = TheoryError("ERR_NOT_WRITER", message, dict(known.detail))
        failure = "error." + known.code
        log.error(failure, batch=len(batch.items), reason=known.message)
        for item in batch.items:
            item.fail(self.lost or known)
        for plan in batch.shares:
            self._on_doubt(plan)

    def _told(self, batch: Batch) -> None:
        for item, answer in batch.answers:
            item.answer(answer)
        for item, refusal in batch.refusals:
            item.fail(refusal)
        for plan, share in batch.shares.items():
            folded = share.folded
            if share.stored:
                folded.committed, folded.hash = share.stored[-1].seq, share.stored[-1].hash
            if folded.committed == folded.state.seq and (
                folded.state.terminal or not folded.committed
            ):
                self.plans.folded.pop(plan, None)
            if share.stored:
                events, effects = tuple(share.stored), tuple(share.effects)
                self._on_commit(Committed(plan, folded.state, events, effects))

    def _forget(self, batch: Batch) -> None:
        """Undo what was decided on top of a failed commit.

        Law: whoever waits for its plans looks again: its commands may never be decided anew.
        """
        self.plans.forget(batch.shares)
        self._wake(batch.shares)

    def _wake(self, plans: Iterable[str]) -> None:
        """Let those look again who wait for a moment when the store holds all of a plan."""
        for plan in plans:
            landed = self._landings.pop(plan, None)
            if landed is not None:
                landed.set()

    def _close(self) -> None:
        """Nobody waits for an answer that cannot come."""
        gone = self.lost or TheoryError("ERR_UNAVAILABLE", "the scheduler is stopping", {})
        self.lost = gone
        self._wake(tuple(self._landings))
        for item in (*self._again, *self._hand, *self._inbox):
            item.fail(gone)
        self._inbox.clear()
