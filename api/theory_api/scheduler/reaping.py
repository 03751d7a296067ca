"""Goes on stopping executions whose stop was never confirmed; until it is, their holds stay."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

import structlog

from theory_api.domain import commands as cmd
from theory_api.domain.state import Attempting
from theory_api.domain.values import Fault
from theory_api.scheduler.context import Context
from theory_api.scheduler.outcome import Note, lost
from theory_api.scheduler.patience import patiently
from theory_api.scheduler.stopping import ask_to_stop
from theory_api.scheduler.writer import Writer

log = structlog.get_logger(__name__)

LONGEST_S: Final = 60.0
"""Between two attempts to stop something that does not stop."""

UNCONFIRMED: Final = Fault(
    code="ERR_ORPHANED",
    message="it was told to stop, and nobody confirmed that it has; its hold stays until then",
)

Complete = Callable[[str, Note], Awaitable[None]]


class Reaper:
    """Keeps at it, one task an execution; what is left at a crash is the next owner's."""

    def __init__(self, context: Context, writer: Writer, complete: Complete) -> None:
        self._context = context
        self._writer = writer
        self._complete = complete
        self.names: set[str] = set()
        """Executions that may still run though nobody waits for them."""

    async def reap(self, plan: str, attempt: Attempting) -> None:
        """Say that the execution is an orphan; settle it once it is confirmed gone."""
        name, context = attempt.execution_id, self._context
        self.names.add(name)
        try:
            told = cmd.Orphan(plan=plan, execution_id=name, error=UNCONFIRMED)
            await patiently(context, lambda: self._writer.submit(told))
            log.error("error.ERR_ORPHANED", execution_id=name, plan=plan, adapter=attempt.adapter)
            await self._gone(attempt)
            log.info("execution.reaped", execution_id=name, plan=plan)
            used = context.adapters[attempt.adapter].measured(name).usage
            await self._complete(plan, lost(attempt, used, UNCONFIRMED))
        finally:
            self.names.discard(name)

    async def _gone(self, attempt: Attempting) -> None:
        context, pause = self._context, self._context.pace.poll_s
        adapter = context.adapters[attempt.adapter]
        never: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        grace = context.pace.stop_grace_s
        name = attempt.execution_id
        while not await ask_to_stop(context, adapter, name, seconds=grace, until=never):
            await context.clock.sleep(pause)
            pause = min(2 * pause, LONGEST_S)


async def abandon(context: Context, attempt: Attempting, error: Fault) -> Note | None:
    """Stop an execution that can only be given up, for `error`; None if nobody confirms the stop.

    Law: what was called is stopped before its hold is settled, whatever became of its order.
    """
    adapter, name = context.adapters[attempt.adapter], attempt.execution_id
    never: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    grace = context.pace.stop_grace_s
    log.error("execution.unreadable", execution_id=name, code=error.code, reason=error.message)
    if not await ask_to_stop(context, adapter, name, seconds=grace, until=never):
        return None
    return lost(attempt, adapter.measured(name).usage, error)
