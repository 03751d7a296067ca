"""A plan's events for those who wait for them, until the plan or the scheduler ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable

from theory_api.domain.values import TERMINAL_PLAN
from theory_api.ports.truth import ReadModel, StoredEvent
from theory_api.scheduler.hub import ENDINGS, Hub
from theory_core import TheoryError


class Feed:
    """Readers of one hub that end with their scheduler.

    `stopped` is set when the scheduler stops; `blame` then raises the fault that stopped it, if
    one did; `aside` names the fault of a plan that goes on no more.
    """

    def __init__(
        self,
        read: ReadModel,
        hub: Hub,
        *,
        stopped: asyncio.Event,
        blame: Callable[[], None],
        aside: Callable[[str], TheoryError | None],
    ) -> None:
        self._read = read
        self._hub = hub
        self._stopped = stopped
        self._blame = blame
        self._aside = aside

    async def wait(self, plan: str) -> str:
        """The plan's terminal status, once it has one.

        Raises `TheoryError` `ERR_NOT_FOUND`, `ERR_UNAVAILABLE` when the scheduler stops before
        that, and the scheduler's fault if that is why it stopped.
        """
        row = await self._read.plan(plan)
        if row.status in TERMINAL_PLAN:
            return row.status
        fault = self._aside(plan)
        if fault is not None:
            raise fault
        ending = ""
        async for event in self.subscribe(plan, after=row.head_seq):
            ending = event.kind
        status = ending.removeprefix("plan.")
        if status not in TERMINAL_PLAN:
            message = "the scheduler stopped before the plan ended"
            raise TheoryError("ERR_UNAVAILABLE", message, {"plan": plan})
        return status

    async def subscribe(self, plan: str, *, after: int = 0) -> AsyncGenerator[StoredEvent]:
        """Every event with `seq > after`, live; ends with the plan, or when the scheduler stops.

        Raises `TheoryError` `ERR_NOT_FOUND`, the fault of a plan that is set aside, after what is
        stored of it, and the scheduler's fault if that is why it stopped.
        """
        row = await self._read.plan(plan)
        if row.status in TERMINAL_PLAN and after >= row.head_seq:
            return
        stopped = asyncio.create_task(self._stopped.wait())
        stopped.add_done_callback(
            lambda ended: None if ended.cancelled() else self._hub.refresh(plan)
        )

        def until() -> bool:
            return self._stopped.is_set() or self._aside(plan) is not None

        events = self._hub.subscribe(plan, after=after, until=until)
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
            fault = self._aside(plan)
            if fault is not None:
                raise fault
