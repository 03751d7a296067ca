"""Which shards this process owns: claimed up to its share, renewed, handed over, lost."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Final

import structlog

from theory_api.ports.clock import Clock
from theory_api.ports.membership import Membership
from theory_api.ports.signals import Signals
from theory_api.ports.truth import TruthStore
from theory_api.scheduler.context import PASSING
from theory_api.scheduler.engine import Engine
from theory_api.scheduler.news import News
from theory_api.scheduler.shards import jitter, preference, share
from theory_api.scheduler.tenure import Attend, LeasePace, Tenure
from theory_core import TheoryError

log = structlog.get_logger(__name__)

SHARDS: Final = "shards"
"""Topic: who owns what has changed, or should."""

_COOL_S: Final = 1.0
_COOLEST_S: Final = 60.0
"""Between attempts at a shard that cannot be taken up here; each pause is twice the last one."""

_QUIET: Final = PASSING | {"ERR_NOT_WRITER"}


class Ownership:
    """Keeps an engine for every shard that this process owns.

    Law: an engine serves only while its epoch is the shard's newest; that is the store's to judge
    at every commit. Leases and shares decide only how soon, and by whom, a shard is served again.
    """

    def __init__(  # noqa: PLR0913 - the ports of one scheduler, by name
        self,
        *,
        owner: str,
        shards: tuple[str, ...],
        store: TruthStore,
        members: Membership,
        signals: Signals,
        clock: Clock,
        engine: Callable[[str], Engine],
        resident: bool = True,
        pace: LeasePace | None = None,
    ) -> None:
        """`engine` makes the engine of a shard; a `resident` process stays, others come and go."""
        self.owner = owner
        self.shards = shards
        self._store = store
        self._members = members
        self._signals = signals
        self._clock = clock
        self._engine = engine
        self._resident = resident
        self.pace = LeasePace() if pace is None else pace
        self._tenures: dict[str, Tenure] = {}
        self._ends: dict[str, asyncio.Task[None]] = {}
        self._cooling: dict[str, tuple[float, float]] = {}
        self._unowned: dict[str, float] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._news = News(clock)
        self._attend: Attend = _idle
        self._joining: asyncio.Task[None] | None = None
        self._ending = False
        self.faults: dict[str, str] = {}
        """Shard -> code of what last kept this process from serving it."""
        self.failed: Callable[[BaseException], None] = lambda _error: None

    @property
    def owned(self) -> tuple[str, ...]:
        """Shards that are served here, in order."""
        return tuple(name for name in self.shards if self.serving(name) is not None)

    def serving(self, shard: str) -> Tenure | None:
        """The tenure of a shard that is served here."""
        tenure = self._tenures.get(shard)
        return tenure if tenure is not None and tenure.serving else None

    async def start(self, attend: Attend) -> None:
        """Join, take the shards that are free, and go on looking; `attend` runs beside each engine.

        Returns when every shard that could be claimed at once is served. Raises `TheoryError`
        `ERR_UNAVAILABLE`.
        """
        self._attend = attend
        self._unlisten = self._signals.listen(self._heard)
        if self._resident:
            await self._members.renew(self.owner)
        log.info("replica.joined", owner=self.owner, shards=len(self.shards), stays=self._resident)
        self._spawn(self._renewing())
        await self._look()
        while any(not self._tenures[name].serving for name in self._tenures):
            await self._clock.sleep(self.pace.renew_s / 100)
        self._spawn(self._looking())
        self._signals.send(SHARDS)

    async def stop(self) -> None:
        """Leave: end what runs, give every shard back, and tell the others."""
        self._ending = True
        if self._resident:
            try:
                await self._members.leave(self.owner)
            except TheoryError as error:
                log.warning("membership.not_left", code=error.code)
        for tenure in self._tenures.values():
            tenure.end(orderly=True)
        if self._ends:
            await asyncio.wait(set(self._ends.values()))
        tasks = {*self._tasks}
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        if hasattr(self, "_unlisten"):
            self._unlisten()

    # -- looking ----------------------------------------------------------------------------

    async def _looking(self) -> None:
        turn = 0
        while True:
            turn += 1
            await self._news.wait(self.pace.look_s * jitter(self.owner, turn))
            try:
                await self._look()
            except TheoryError as error:
                if error.code not in PASSING:
                    raise
                log.warning("ownership.waits", code=error.code, reason=error.message)

    async def _look(self) -> None:
        """Claim what is free, up to the share; hand over what is beyond it and idle."""
        owners = await self._members.owners()
        members = await self._members.members()
        if self._ending:
            return
        wanted = share(len(self.shards), self.owner, members, resident=self._resident)
        free = self._free(owners)
        spare = wanted - len(self._tenures)
        for shard in free:
            if spare > 0 or self._abandoned(shard):
                spare -= 1
                self._take(shard)
        if spare < 0 and members - {self.owner}:
            self._hand_over(-spare)

    def _free(self, owners: Mapping[str, str]) -> list[str]:
        """Shards that nobody owns, in this owner's order, but for those that have to cool."""
        now = self._clock.monotonic()
        free = {
            name
            for name in self.shards
            if owners.get(name) in {None, self.owner} and name not in self._tenures
        }
        self._unowned = {name: self._unowned.get(name, now) for name in free}
        return [
            name
            for name in preference(self.shards, self.owner)
            if name in free and self._cooling.get(name, (0.0, 0.0))[0] <= now
        ]

    def _abandoned(self, shard: str) -> bool:
        """Whether those whose share it is have had the time to take it, and did not."""
        return self._clock.monotonic() - self._unowned[shard] > self.pace.unowned_s

    def _hand_over(self, count: int) -> None:
        """Give back shards on which nothing runs. Law: nobody's paid work ends for a fair share."""
        long_ago = self._clock.monotonic() - self.pace.keep_s
        idle = [
            tenure
            for tenure in self._tenures.values()
            if tenure.serving and tenure.engine.idle and tenure.began <= long_ago
        ]
        for tenure in idle[:count]:
            log.info("shard.handed_over", shard=tenure.shard)
            tenure.end(orderly=True)

    # -- tenures ----------------------------------------------------------------------------

    def _take(self, shard: str) -> None:
        tenure = Tenure(
            shard=shard,
            engine=self._engine(shard),
            store=self._store,
            clock=self._clock,
            pace=self.pace,
            began=self._clock.monotonic(),
        )
        self._tenures[shard] = tenure
        self._ends[shard] = self._spawn(self._hold(tenure))

    async def _hold(self, tenure: Tenure) -> None:
        shard = tenure.shard
        try:
            await tenure.serve(self._attend)
        except TheoryError as error:
            tenure.fault = error
        finally:
            del self._tenures[shard], self._ends[shard]
        self._judge(shard, tenure.fault or tenure.engine.fault)
        self._signals.send(SHARDS)

    def _judge(self, shard: str, fault: BaseException | None) -> None:
        """Law: a shard that cannot be served here is somebody else's to try, not this one's end."""
        if fault is None:
            self._cooling.pop(shard, None)
            self.faults.pop(shard, None)
            return
        code = fault.code if isinstance(fault, TheoryError) else "ERR_INTERNAL"
        pause = _COOL_S
        if code not in _QUIET:
            _, last = self._cooling.get(shard, (0.0, _COOL_S / 2))
            pause = min(last * 2, _COOLEST_S)
            self.faults[shard] = code
            log.error("shard.failed", shard=shard, code=code, pause_s=pause)
        self._cooling[shard] = (self._clock.monotonic() + pause, pause)

    async def _renewing(self) -> None:
        while True:
            if self._resident and not self._ending:
                self._rejoin()
            for tenure in list(self._tenures.values()):
                tenure.tick()
            await self._clock.sleep(self.pace.renew_s)

    def _rejoin(self) -> None:
        if self._joining is None or self._joining.done():
            self._joining = self._spawn(self._join())

    async def _join(self) -> None:
        try:
            await self._members.renew(self.owner)
        except TheoryError as error:
            log.warning("membership.not_renewed", code=error.code)

    # -- tasks ------------------------------------------------------------------------------

    def _heard(self, topic: str) -> None:
        if topic == SHARDS:
            self._news.ring()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._reap)
        return task

    def _reap(self, task: asyncio.Task[None]) -> None:
        """Law: nothing is swallowed; a fault of this class itself stops the process, loudly."""
        self._tasks.discard(task)
        cause = None if task.cancelled() else task.exception()
        if cause is not None:
            self.failed(cause)


async def _idle(_shard: str, engine: Engine) -> None:
    """Nothing beside the engine."""
    await engine.stopped.wait()
