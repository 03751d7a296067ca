"""The schedulers of one ledger as services see them: whichever of them owns a plan answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Final

import structlog

from theory_api.domain.codec import encode
from theory_api.domain.commands import Command
from theory_api.domain.runnable import Blocked
from theory_api.domain.state import PlanState
from theory_api.ports.clock import Clock
from theory_api.ports.inbox import Inbox, InboxRow, Reply
from theory_api.ports.signals import Signals
from theory_api.ports.truth import IdempotencyRow, ReadModel, StoredEvent
from theory_api.scheduler.answer import Answer, outcome
from theory_api.scheduler.consumer import Consumer, answered, arrival
from theory_api.scheduler.context import PASSING
from theory_api.scheduler.engine import Engine
from theory_api.scheduler.enquiry import Enquiries
from theory_api.scheduler.feed import Feed
from theory_api.scheduler.hub import Hub
from theory_api.scheduler.news import News
from theory_api.scheduler.ownership import Ownership
from theory_api.scheduler.shards import Served, shard_of
from theory_core import TheoryError

log = structlog.get_logger(__name__)

_PLAN: Final = "plan "
_ANSWER: Final = answered("")


class Publisher(Hub):
    """A hub whose commits are hinted at to the readers of other processes."""

    def __init__(self, read: ReadModel, signals: Signals) -> None:
        super().__init__(lambda plan, after: read.events(plan, after=after))
        self._signals = signals

    def publish(self, plan: str, events: Sequence[StoredEvent]) -> None:
        """Make committed events visible here, and soon elsewhere."""
        super().publish(plan, events)
        self._signals.send(_PLAN + plan)


class Router:
    """The same surface as an `Engine`'s, over every shard.

    A command goes straight to the writer where this process owns the plan's shard, and through the
    durable inbox where it does not. Law: an answer comes from the owner of the plan's shard, never
    from one who was.
    """

    def __init__(
        self,
        ownership: Ownership,
        *,
        inbox: Inbox,
        signals: Signals,
        read: ReadModel,
        hub: Hub,
        clock: Clock,
        fresh: Callable[[], str],
    ) -> None:
        """`hub` is that of the ownership's engines; `fresh` draws a name that nobody else has."""
        self.ownership = ownership
        self._inbox = inbox
        self._signals = signals
        self._hub = hub
        self._clock = clock
        self._fresh = fresh
        self._waiting: dict[str, News] = {}
        self._polling: asyncio.Task[None] | None = None
        self._unlisten: Callable[[], None] = lambda: None
        self.fault: BaseException | None = None
        self.stopped = asyncio.Event()
        self._enquiries = Enquiries(self._owner_s, clock, every_s=ownership.pace.ask_s)
        self._feed = Feed(read, hub, stopped=self.stopped, blame=self._blame, aside=self._aside)

    async def start(self) -> None:
        """Own what there is to own; raises what `Ownership.start` raises."""
        self.ownership.failed = self.fail
        self._unlisten = self._signals.listen(self._heard)
        self._polling = asyncio.create_task(self._poll())
        await self.ownership.start(self._attend)

    async def submit(
        self, command: Command, *, idempotency: IdempotencyRow | None = None
    ) -> Answer:
        """Have a command judged by the owner of its plan; returns after its commit.

        Raises what `Writer.submit` raises, and `TheoryError` `ERR_UNAVAILABLE` when no owner
        answered in time: the command may still be done, and is done once under the client's key.
        """
        self._check()
        shard = shard_of(command.plan, self.ownership.shards)
        answer = await self._here(shard, command, idempotency)
        if answer is None:
            answer = await self._elsewhere(shard, command, idempotency)
        return answer

    async def wait(self, plan: str) -> str:
        """The plan's terminal status, once it has one; raises what `Feed.wait` raises."""
        return await self._feed.wait(plan)

    def subscribe(self, plan: str, *, after: int = 0) -> AsyncGenerator[StoredEvent]:
        """Every event with `seq > after`, live, whoever commits it; see `Feed.subscribe`."""
        return self._feed.subscribe(plan, after=after)

    def state(self, plan: str) -> PlanState | None:
        """The plan's folded state while it is active here; to be read, never changed."""
        tenure = self.ownership.serving(shard_of(plan, self.ownership.shards))
        return None if tenure is None else tenure.engine.state(plan)

    def blocked(self, plan: str, transition: str) -> Blocked | None:
        """What outside the plan's state holds a candidate, as far as that is known here."""
        tenure = self.ownership.serving(shard_of(plan, self.ownership.shards))
        return None if tenure is None else tenure.engine.blocked(plan, transition)

    def _aside(self, plan: str) -> TheoryError | None:
        tenure = self.ownership.serving(shard_of(plan, self.ownership.shards))
        if tenure is None:
            return self._enquiries.faults.get(plan)
        return tenure.engine.aside.get(plan)

    @property
    def served(self) -> Served:
        """The shards of this process."""
        owned = self.ownership.owned
        tenures = [tenure for name in owned if (tenure := self.ownership.serving(name)) is not None]
        aside = sum(len(tenure.engine.aside) for tenure in tenures)
        ages = [tenure.engine.served.verified_age_s for tenure in tenures]
        known = [age for age in ages if age is not None]
        oldest = max(known) if known and len(known) == len(ages) else None
        return Served(owned, dict(self.ownership.faults), aside, oldest)

    async def stop(self) -> None:
        """Give every shard back in order; others take them at once."""
        self.stopped.set()
        await self.ownership.stop()
        self._unlisten()
        if self._polling is not None:
            self._polling.cancel()
            await asyncio.wait({self._polling})
        await self._enquiries.stop()

    # -- commands ---------------------------------------------------------------------------

    async def _here(
        self, shard: str, command: Command, idempotency: IdempotencyRow | None
    ) -> Answer | None:
        """The answer of this process's own engine; None where it may not be the owner."""
        tenure = self.ownership.serving(shard)
        if tenure is None:
            return None
        tenure.calls += 1
        try:
            answer = await tenure.engine.submit(command, idempotency=idempotency)
        except TheoryError as error:
            if error.code == "ERR_NOT_WRITER":
                # Nothing was written: whoever writes now is asked instead.
                return None
            if error.code in PASSING or tenure.held:
                raise
            return None
        finally:
            tenure.calls -= 1
        # What was committed was fenced; that nothing was to be done is only the owner's to say.
        return answer if answer.events or tenure.held else None

    async def _owner_s(self, command: Command) -> Answer:
        return await self._elsewhere(shard_of(command.plan, self.ownership.shards), command, None)

    async def _elsewhere(
        self, shard: str, command: Command, idempotency: IdempotencyRow | None
    ) -> Answer:
        """Leave the command in the inbox of the shard, and wait for the reply."""
        ident = self._fresh()
        row = InboxRow(
            id=ident,
            shard=shard,
            plan=command.plan,
            command=encode(command),
            idempotency=idempotency,
        )
        news = self._waiting[ident] = News(self._clock)
        try:
            await self._inbox.put(row)
            self._signals.send(arrival(shard))
            return outcome(await self._reply(ident, news))
        finally:
            del self._waiting[ident]

    async def _reply(self, ident: str, news: News) -> Reply:
        pace = self.ownership.pace
        until = self._clock.monotonic() + pace.patience_s
        while True:
            late = self._clock.monotonic() >= until or self.stopped.is_set()
            if late:
                await self._inbox.withdraw(ident)
            try:
                told = await self._inbox.reply(ident)
            except TheoryError as error:
                if late or error.code not in PASSING:
                    raise
                told = None
            if told is not None:
                return told
            if late:
                message = "nobody answered for this plan in time; ask again"
                raise TheoryError("ERR_UNAVAILABLE", message, {})
            await news.wait(min(pace.poll_s, max(until - self._clock.monotonic(), 0.0)))

    async def _attend(self, shard: str, engine: Engine) -> None:
        """Take the commands that others leave for a shard of this process."""
        for plan in self._hub.read:
            # What happened before the shard was served here, nobody tells its readers any more.
            if shard_of(plan, self.ownership.shards) == shard:
                self._hub.refresh(plan)
        consumer = Consumer(
            shard,
            engine,
            inbox=self._inbox,
            signals=self._signals,
            clock=self._clock,
            pace=self.ownership.pace,
        )
        await consumer.run()

    # -- events -----------------------------------------------------------------------------

    def _heard(self, topic: str) -> None:
        if topic.startswith(_PLAN):
            self._look(topic.removeprefix(_PLAN))
        elif topic.startswith(_ANSWER):
            news = self._waiting.get(topic.removeprefix(_ANSWER))
            if news is not None:
                news.ring()

    async def _poll(self) -> None:
        """Look for events of other owners; hints only make that sooner."""
        while True:
            await self._clock.sleep(self.ownership.pace.poll_s)
            for plan in self._hub.read:
                self._look(plan)
            self._enquiries.look(
                [plan for plan in self._hub.read if not self._owns(plan)], self._hub.refresh
            )

    def _look(self, plan: str) -> None:
        if not self._owns(plan):
            self._hub.refresh(plan)

    def _owns(self, plan: str) -> bool:
        return self.ownership.serving(shard_of(plan, self.ownership.shards)) is not None

    # -- the end ----------------------------------------------------------------------------

    def fail(self, error: BaseException) -> None:
        """Law: a scheduler that cannot go on says so and stops; it never idles as if well."""
        if self.fault is None:
            self.fault = error
            log.error("scheduler.failed", exc_info=error)
            self.stopped.set()

    def _blame(self) -> None:
        """Raise the fault that stopped this process's scheduling, if one did."""
        if isinstance(self.fault, TheoryError):
            raise self.fault
        if self.fault is not None:
            message = "the scheduler stopped after an internal fault; see its log"
            raise TheoryError("ERR_INTERNAL", message, {}) from self.fault

    def _check(self) -> None:
        self._blame()
        if self.stopped.is_set():
            raise TheoryError("ERR_UNAVAILABLE", "the scheduler is stopping", {})
