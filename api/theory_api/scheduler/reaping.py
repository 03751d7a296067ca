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
from theory_api.scheduler.outcome import Note
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
        """Say that the execution is an orphan; settle it once it is confirmed gone.

        Law: it is paid at its hold, or at what was measured where that is more.
        """
        name, context = attempt.execution_id, self._context
        self.names.add(name)
        try:
            told = cmd.Orphan(plan=plan, execution_id=name, error=UNCONFIRMED)
            await patiently(context, lambda: self._writer.submit(told))
            log.error("error.ERR_ORPHANED", execution_id=name, plan=plan, adapter=attempt.adapter)
            await self._gone(attempt)
            log.info("execution.reaped", execution_id=name, plan=plan)
            await self._complete(plan, self._note(attempt))
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

    def _note(self, attempt: Attempting) -> Note:
        measured = self._context.adapters[attempt.adapter].measured(attempt.execution_id).usage
        hold = attempt.hold
        return Note(
            execution_id=attempt.execution_id,
            outcome="orphaned",
            measured={name: used for name, used in measured.items() if used > hold.get(name, 0)},
            reported={},
            envelope="",
            duration_ms=0,
            error=UNCONFIRMED,
        )
