"""The single writer: takes commands, decides, chains, commits in groups, and only then answers."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
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
from theory_api.scheduler.folding import Folded, refold
from theory_core import TheoryError

log = structlog.get_logger(__name__)

BATCH: Final = 256
"""Commands decided and committed together."""

LOST: Final = frozenset({"ERR_NOT_WRITER", "ERR_CONFLICT", "ERR_CHAIN_BROKEN"})
"""Failures of a commit that mean: somebody else writes here. The writer stops for good."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a command led to, after its commit."""

    plan: str
    seq: int
    events: tuple[str, ...] = ()
    """Kinds, in order; empty when the command changed nothing."""
    stale: bool = False
    """A predicate's answer was older than what it read: evaluate again."""
    replayed: bytes | None = None
    """The stored answer of an earlier request with the same idempotency key."""


@dataclass(frozen=True, slots=True)
class Committed:
    """One plan's share of a commit, for those who act on it."""

    plan: str
    state: PlanState
    events: tuple[StoredEvent, ...]
    effects: tuple[Effect, ...]


@dataclass(slots=True)
class Item:
    """A command in the inbox."""

    command: Command
    idempotency: IdempotencyRow | None
    future: asyncio.Future[Answer]


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
    idempotency: list[IdempotencyRow] = field(default_factory=list)


class Writer:
    """Owns the folded states of one shard.

    Laws: nothing is answered or acted on before its commit; at most one commit is in flight, and
    the next batch is decided on top of it; when a commit fails, every state that it touched is
    folded anew from what the store holds.
    """

    def __init__(
        self,
        store: TruthStore,
        clock: Clock,
        *,
        shard: str,
        epoch: int,
        on_commit: Callable[[Committed], None],
    ) -> None:
        self._store = store
        self._clock = clock
        self._shard = shard
        self.epoch = epoch
        self._on_commit = on_commit
        self._inbox: deque[Item] = deque()
        self._arrived = asyncio.Event()
        self._plans: dict[str, Folded] = {}
        self._keys: set[tuple[str, str]] = set()
        self.lost: TheoryError | None = None
        self.turned = clock.monotonic()

    def state(self, plan: str) -> PlanState | None:
        """The folded state, if this writer has it; to be read, never changed."""
        folded = self._plans.get(plan)
        return None if folded is None else folded.state

    async def load(self, plan: str) -> PlanState:
        """The folded state, from the store if need be; its chain is verified on the way."""
        folded = self._plans.get(plan)
        if folded is None:
            folded = self._plans[plan] = await refold(self._store, plan)
        return folded.state

    async def submit(self, command: Command, idempotency: IdempotencyRow | None = None) -> Answer:
        """Put a command into the inbox; answered after its commit.

        Raises `TheoryError`: what `decide` raises, what the commit raises, `ERR_NOT_WRITER` once
        the shard is lost, `ERR_IDEMPOTENCY_MISMATCH`, `ERR_IDEMPOTENCY_IN_FLIGHT`.
        """
        if self.lost is not None:
            raise self.lost
        if idempotency is not None:
            return await self._submit_once(command, idempotency)
        return await self._enqueue(command, None)

    async def _submit_once(self, command: Command, row: IdempotencyRow) -> Answer:
        name = (row.scope, row.key)
        if name in self._keys:
            message = "a request with this idempotency key is still running"
            raise TheoryError("ERR_IDEMPOTENCY_IN_FLIGHT", message, {})
        self._keys.add(name)
        try:
            earlier = await self._store.idempotency(row.scope, row.key)
            if earlier is None:
                return await self._enqueue(command, row)
            if earlier.body != row.body:
                message = "this idempotency key was used with another request"
                raise TheoryError("ERR_IDEMPOTENCY_MISMATCH", message, {})
            return Answer(command.plan, 0, replayed=earlier.answer)
        finally:
            self._keys.discard(name)

    async def _enqueue(self, command: Command, row: IdempotencyRow | None) -> Answer:
        item = Item(command, row, asyncio.get_running_loop().create_future())
        item.future.add_done_callback(_retrieved)
        self._inbox.append(item)
        self._arrived.set()
        return await asyncio.shield(item.future)

    async def run(self) -> None:
        """Serve the inbox until cancelled or until the shard is lost."""
        flight: tuple[Batch, asyncio.Task[None]] | None = None
        try:
            while self.lost is None:
                await self._until_work(flight)
                self.turned = self._clock.monotonic()
                if flight is not None and (flight[1].done() or not self._inbox):
                    await self._land(*flight)
                    flight = None
                    continue
                items = [self._inbox.popleft() for _ in range(min(BATCH, len(self._inbox)))]
                items = await self._loaded(items)
                batch = self.step(items)
                if flight is not None:
                    landed = await self._land(*flight)
                    flight = None
                    if not landed:
                        self._inbox.extendleft(reversed(batch.items))
                        self._forget(batch)
                        continue
                flight = (batch, asyncio.create_task(self._commit(batch)))
        finally:
            if flight is not None:
                await self._land(*flight)
            self._close()

    async def _until_work(self, flight: tuple[Batch, asyncio.Task[None]] | None) -> None:
        """Return when a command is there or the commit in flight has ended."""
        if self._inbox:
            return
        self._arrived.clear()
        arrived = asyncio.create_task(self._arrived.wait())
        try:
            waiting: set[asyncio.Task[object]] = {arrived}  # type: ignore[arg-type]
            if flight is not None:
                waiting.add(flight[1])  # type: ignore[arg-type]
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            arrived.cancel()

    async def _loaded(self, items: list[Item]) -> list[Item]:
        """The items whose plan could be folded; the others are answered with the fault."""
        ready: list[Item] = []
        for item in items:
            try:
                await self.load(item.command.plan)
            except TheoryError as error:
                _fail(item, error)
            else:
                ready.append(item)
        return ready

    def step(self, items: Sequence[Item]) -> Batch:
        """Decide, evolve and chain a batch; synchronous, without any IO."""
        batch = Batch()
        for item in items:
            folded = self._plans[item.command.plan]
            try:
                decision = decide(folded.state, item.command)
            except TheoryError as error:
                _fail(item, error)
                continue
            batch.items.append(item)
            share = batch.shares.get(item.command.plan)
            if share is None:
                share = batch.shares[item.command.plan] = _Share(folded, folded.state.seq)
            self._extend(share, decision.events)
            share.effects.extend(decision.effects)
            kinds = tuple(event.KIND for event in decision.events)
            seq = folded.state.seq
            batch.answers.append(
                (item, Answer(item.command.plan, seq, events=kinds, stale=decision.stale))
            )
            if item.idempotency is not None and not decision.stale:
                batch.idempotency.append(item.idempotency)
        return batch

    def _extend(self, share: _Share, events: tuple[ev.Event, ...]) -> None:
        """Chain events onto a plan. Law: `at` never decreases within a plan."""
        if not events:
            return
        folded = share.folded
        state = folded.state
        at = max(self._clock.now(), folded.at)
        folded.at = at
        wires = [
            {
                "v": "theory.event.v1",
                "plan": state.plan,
                "seq": state.seq + offset,
                "at": at,
                "kind": event.KIND,
                "data": event.data(),
            }
            for offset, event in enumerate(events, start=1)
        ]
        for event, (body, digest) in zip(events, folded.chain.append(wires), strict=True):
            seq = state.seq + 1
            evolve(state, seq, event)
            share.stored.append(StoredEvent(state.plan, seq, event.KIND, at, body, digest))
            share.typed.append((seq, at, event))

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

    async def _land(self, batch: Batch, commit: asyncio.Task[None]) -> bool:
        """Wait for a commit and tell everybody; False when it failed."""
        try:
            await asyncio.shield(commit)
        except TheoryError as error:
            self._forget(batch)
            if error.code in LOST:
                message = f"this process no longer writes here: {error.message}"
                self.lost = TheoryError("ERR_NOT_WRITER", message, dict(error.detail))
            log.error("error." + error.code, batch=len(batch.items), reason=error.message)
            for item in batch.items:
                _fail(item, self.lost or error)
            return False
        for plan, share in batch.shares.items():
            committed = Committed(
                plan, share.folded.state, tuple(share.stored), tuple(share.effects)
            )
            self._on_commit(committed)
            if share.folded.state.terminal:
                self._plans.pop(plan, None)
        for item, answer in batch.answers:
            if not item.future.done():
                item.future.set_result(answer)
        return True

    def _forget(self, batch: Batch) -> None:
        for plan in batch.shares:
            self._plans.pop(plan, None)

    def _close(self) -> None:
        """Nobody waits for an answer that cannot come."""
        gone = self.lost or TheoryError("ERR_UNAVAILABLE", "the scheduler is stopping", {})
        self.lost = gone
        while self._inbox:
            _fail(self._inbox.popleft(), gone)


def _retrieved(future: asyncio.Future[Answer]) -> None:
    """A caller that left does not make its answer an unhandled error."""
    if not future.cancelled():
        future.exception()


def _fail(item: Item, error: TheoryError) -> None:
    if not item.future.done():
        item.future.set_exception(error)
