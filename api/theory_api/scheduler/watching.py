"""What those who watch a run hear: its frames as they come, and its envelope as it was stored."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable

import structlog

from theory_api.domain.values import TERMINAL_PLAN
from theory_api.ports.artifacts import ArtifactStore
from theory_api.ports.stream_bus import StreamBus
from theory_api.ports.truth import ExecutionRow, ReadModel, StoredEvent
from theory_api.scheduler.context import Context
from theory_api.scheduler.outcome import Note
from theory_core import TheoryError, encode_frame, loads_strict

log = structlog.get_logger(__name__)

ENDS = frozenset({"budget.settled", "budget.voided"})
"""Kinds after which an execution's row has all that it will have."""

Subscribe = Callable[..., AsyncGenerator[StoredEvent]]
"""(plan, after=seq) -> its events, live."""


async def end_stream(context: Context, note: Note) -> None:
    """Give the watchers of a settled execution its stored envelope.

    Law: streams are no part of truth; what they cannot be given stops nothing.
    """
    bus = context.streams
    if bus is None:
        return
    if not note.envelope:
        bus.drop(note.execution_id)
        return
    try:
        bus.finish(note.execution_id, await context.artifacts.get(note.envelope))
    except TheoryError as error:
        log.warning("stream.unfinished", execution_id=note.execution_id, code=error.code)
        bus.drop(note.execution_id)


def drop_stream(context: Context, execution_id: str) -> None:
    """Tell the watchers of an execution that nothing more comes from here; they may come back."""
    if context.streams is not None:
        context.streams.drop(execution_id)


class Watching:
    """Frames of an execution for one who watches, wherever and whenever it runs."""

    def __init__(
        self,
        read: ReadModel,
        artifacts: ArtifactStore,
        streams: StreamBus,
        subscribe: Subscribe,
    ) -> None:
        self._read = read
        self._artifacts = artifacts
        self._streams = streams
        self._subscribe = subscribe

    async def state(self, plan: str, execution_id: str) -> str:
        """`running`, or how the execution ended; `ERR_NOT_FOUND`."""
        return (await self._read.execution(execution_id, plan=plan)).status

    async def frames(
        self, plan: str, execution_id: str, *, after: int = 0
    ) -> AsyncGenerator[bytes]:
        """Texts of the frames above `after`; the last is a `RunResult` of the stored envelope.

        A run of another process, or one that ended long ago, has that frame alone. Raises
        `TheoryError`: `ERR_NOT_FOUND`, also for an execution that ended without an envelope;
        `ERR_INPUTS` for an `after` beyond the last frame; `ERR_UNAVAILABLE` when this process
        stops before.
        """
        try:
            async for text in self._streams.watch(execution_id, after=after):
                yield text
        except TheoryError as error:
            if error.code != "ERR_NOT_FOUND":
                raise
        else:
            return
        content = loads_strict(await self._stored(plan, execution_id))
        yield encode_frame("RunResult", content, seq=after + 1)

    async def _stored(self, plan: str, execution_id: str) -> bytes:
        """The envelope, once it is there."""
        head = await self._read.plan(plan)
        row = await self._read.execution(execution_id, plan=plan)
        if not _ended(row) and head.status not in TERMINAL_PLAN:
            events = self._subscribe(plan, after=head.head_seq)
            try:
                async for event in events:
                    if event.kind in ENDS:
                        row = await self._read.execution(execution_id, plan=plan)
                        if _ended(row):
                            break
            finally:
                await events.aclose()
            row = await self._read.execution(execution_id, plan=plan)
        if row.envelope:
            return await self._artifacts.get(row.envelope)
        if _ended(row) or head.status in TERMINAL_PLAN:
            message = "not found: this execution left no envelope"
            raise TheoryError("ERR_NOT_FOUND", message, {"execution_id": execution_id})
        raise TheoryError("ERR_UNAVAILABLE", "the scheduler stopped before the run ended", {})


def _ended(row: ExecutionRow) -> bool:
    return row.actual is not None
