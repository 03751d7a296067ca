"""Everything that can be asked about plans, from any process, beside a running writer."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from theory_api.domain.runnable import Blocked
from theory_api.domain.values import TERMINAL_PLAN
from theory_api.ports.artifacts import ArtifactStore
from theory_api.ports.truth import (
    ArtifactRow,
    ExecutionRow,
    PlanRow,
    ReadModel,
    StoredEvent,
    TransitionRow,
)
from theory_api.services import cursor
from theory_api.services.reasons import reasons, refold
from theory_api.services.views import (
    ArtifactPage,
    ArtifactView,
    BudgetLine,
    ErrorView,
    EventPage,
    EventView,
    ExecutionView,
    HeadView,
    LedgerEvent,
    PlanPage,
    PlanSummary,
    PlanView,
    PlanWhy,
    TransitionView,
)
from theory_core import LIMITS, TheoryError, WorldPath

PAGE: Final = LIMITS["page_items"]
"""The most items that one answer lists."""

Holds = Callable[[str, str], Blocked | None]
"""(plan, transition) -> what outside the plan's state holds it, where a scheduler runs here."""


@dataclass(frozen=True, slots=True)
class Content:
    """An artifact and the way to its bytes."""

    artifact: ArtifactView
    stream: Callable[[int, int | None], AsyncIterator[bytes]]
    """(offset, length or None) -> bytes in pieces; a whole read is verified."""


class Queries:
    """Reads projections and ledgers; changes nothing.

    Every method raises `TheoryError`: `ERR_NOT_FOUND` for a plan that is not there,
    `ERR_UNAVAILABLE` from the store, and path codes for a text that is no WorldPath.
    """

    def __init__(
        self, read: ReadModel, artifacts: ArtifactStore, *, holds: Holds | None = None
    ) -> None:
        self._read = read
        self._artifacts = artifacts
        self._holds = holds

    async def plans(
        self,
        *,
        tenant: str | None = None,
        status: str | None = None,
        after: str | None = None,
        limit: int = 100,
    ) -> PlanPage:
        """A page of plans; `after` is the `next` of the page before.

        Raises `ERR_INPUTS` for a limit outside 1 to 1,000 or a cursor that is none of ours.
        """
        checked_limit(limit)
        start = "" if after is None else cursor.decode(after, tenant=tenant)
        rows = await self._read.plans(tenant=tenant, status=status, after=start, limit=limit + 1)
        more = len(rows) > limit
        shown = rows[:limit]
        return PlanPage(
            plans=[_summary(row) for row in shown],
            next=cursor.encode(shown[-1].plan) if more else None,
        )

    async def row(self, plan: str) -> PlanRow:
        """The plan's own row."""
        return await self._read.plan(plan)

    async def show(self, plan: str) -> PlanView:
        """A plan with its budget, transitions, attempts and outputs."""
        row = await self._read.plan(plan)
        executions: dict[str, list[ExecutionRow]] = {}
        for execution in await self._read.executions(plan):
            executions.setdefault(execution.transition, []).append(execution)
        transitions = await self._read.transitions(plan)
        outputs, complete = await self._outputs(plan, transitions, executions)
        return PlanView(
            plan=row.plan,
            status=row.status,
            lane=row.lane,
            created_at=row.created_at,
            updated_at=row.updated_at,
            head_seq=row.head_seq,
            head_hash=row.head_hash,
            registry_snapshot=row.registry_snapshot,
            document=row.document,
            error=await self._error(row),
            budget=await self.budget(plan),
            transitions_total=len(transitions),
            transitions=[
                _transition(entry, executions.get(entry.transition, []))
                for entry in transitions[:PAGE]
            ],
            outputs=outputs,
            outputs_complete=complete,
        )

    async def budget(self, plan: str) -> list[BudgetLine]:
        """The budget, one line a dimension."""
        return [
            BudgetLine(
                dimension=line.dimension,
                limit=line.limit,
                reserved=line.reserved,
                spent=line.spent,
                headroom=(None if line.limit is None else line.limit - line.spent - line.reserved),
            )
            for line in await self._read.balance(plan)
        ]

    async def why(self, plan: str) -> PlanWhy:
        """The first failing condition of each transition that has not succeeded."""
        row = await self._read.plan(plan)
        state = await refold(self._read, row)
        waiting = [
            found async for found in reasons(state, self._read, self._artifacts, self._holds)
        ]
        return PlanWhy(plan=plan, status=row.status, as_of_seq=state.seq, waiting=waiting)

    async def events(self, plan: str, *, after: int = 0, limit: int = 100) -> EventPage:
        """Events with `seq > after`; raises `ERR_INPUTS` for numbers out of range."""
        checked_limit(limit)
        if not 0 <= after <= LIMITS["integer_max"]:
            raise TheoryError("ERR_INPUTS", "after is a seq: 0 or more", {"reason": "after"})
        row = await self._read.plan(plan)
        stored = await self._read.events(plan, after=after, limit=limit)
        more = bool(stored) and stored[-1].seq < row.head_seq
        return EventPage(
            events=[event_view(event) for event in stored],
            next_after=stored[-1].seq if more else None,
        )

    async def head(self, plan: str) -> HeadView:
        """The newest event's seq and hash."""
        row = await self._read.plan(plan)
        return HeadView(plan=plan, seq=row.head_seq, hash=row.head_hash, at=row.updated_at)

    async def artifacts(
        self, plan: str, prefix: str = "/artifacts/", *, after: str = "", limit: int = PAGE
    ) -> ArtifactPage:
        """Artifacts below a plan-relative prefix that ends in `/`."""
        checked_limit(limit)
        await self._read.plan(plan)
        where = inside(plan, prefix)
        if not where.endswith("/"):
            message = "a listing needs a prefix that ends in /"
            raise TheoryError("ERR_SELECTOR_KIND_MISMATCH", message, {})
        rows = await self._read.artifacts(plan, where, after=after, limit=limit + 1)
        more = len(rows) > limit
        return ArtifactPage(
            artifacts=[artifact_view(plan, row) for row in rows[:limit]],
            next_after=rows[limit - 1].path if more else None,
        )

    async def artifact(self, plan: str, path: str) -> Content:
        """The artifact at a path, plan-relative or absolute; `ERR_NOT_FOUND`."""
        await self._read.plan(plan)
        row = await self._read.artifact(plan, inside(plan, path))
        if row is None:
            message = "no artifact is at this path of the plan"
            raise TheoryError("ERR_NOT_FOUND", message, {})
        cid = row.cid
        return Content(
            artifact_view(plan, row),
            lambda offset, length: self._artifacts.stream(cid, offset=offset, length=length),
        )

    async def document(self, cid: str) -> bytes:
        """A stored JSON document by its digest: a plan document, an envelope, a receipt."""
        return await self._artifacts.get(cid)

    async def _outputs(
        self,
        plan: str,
        transitions: list[TransitionRow],
        executions: dict[str, list[ExecutionRow]],
    ) -> tuple[list[ArtifactView], bool]:
        """Outputs of succeeded transitions, ordered by path, and whether these are all."""
        found: list[ArtifactRow] = []
        for entry in transitions:
            if entry.status != "succeeded":
                continue
            for execution in executions.get(entry.transition, []):
                if execution.execution_id != entry.execution_id:
                    continue
                room = PAGE + 1 - len(found)
                prefix = execution.write_prefix + "outputs/"
                found += await self._read.artifacts(plan, prefix, limit=room)
            if len(found) > PAGE:
                break
        found.sort(key=lambda row: row.path.encode())
        return [artifact_view(plan, row) for row in found[:PAGE]], len(found) <= PAGE

    async def _error(self, row: PlanRow) -> ErrorView | None:
        """Why a plan failed, from its last event."""
        if row.status not in TERMINAL_PLAN or row.error_code is None:
            return None
        for event in await self._read.events(row.plan, after=row.head_seq - 1, limit=1):
            error = event_view(event).event.data.get("error")
            if error is not None:
                return msgspec.convert(error, ErrorView)
        return ErrorView(code=row.error_code, message="")


def checked_limit(limit: int) -> None:
    """Refuse a page size outside 1 to 1,000: `ERR_INPUTS`."""
    if not 1 <= limit <= PAGE:
        message = f"limit is a whole number from 1 to {PAGE}"
        raise TheoryError("ERR_INPUTS", message, {"reason": "limit"})


def address(plan: str) -> str:
    """The canonical path of a plan, checked; `ERR_NOT_FOUND` for a text that names none."""
    try:
        path = WorldPath(f"{plan}/plan")
    except TheoryError as error:
        message = "a plan's address is /world/{tenant}/{plan}"
        raise TheoryError("ERR_NOT_FOUND", message, {}) from error
    if path.segments or path.root != plan:
        raise TheoryError("ERR_NOT_FOUND", "a plan's address is /world/{tenant}/{plan}", {})
    return plan


def inside(plan: str, path: str) -> str:
    """The plan-relative canonical form of a path in `plan`; `ERR_NOT_FOUND` for another plan's."""
    world = WorldPath(path, root=plan)
    if world.root != plan:
        raise TheoryError("ERR_NOT_FOUND", "the path lies in another plan", {})
    return world.relative


def event_view(event: StoredEvent) -> EventView:
    """A stored event as answers show it."""
    return EventView(event=msgspec.json.decode(event.body, type=LedgerEvent), hash=event.hash)


def artifact_view(plan: str, row: ArtifactRow) -> ArtifactView:
    """An artifact's row as answers show it."""
    return ArtifactView(
        path=row.path,
        uri=WorldPath(row.path, root=plan).uri,
        cid=row.cid,
        size_bytes=row.size_bytes,
        mime=row.mime,
        execution_id=row.execution_id,
        seq=row.seq,
    )


def _summary(row: PlanRow) -> PlanSummary:
    values: dict[str, Any] = {name: getattr(row, name) for name in PlanSummary.__struct_fields__}
    return PlanSummary(**values)


def _transition(row: TransitionRow, executions: list[ExecutionRow]) -> TransitionView:
    return TransitionView(
        transition=row.transition,
        processor_ref=row.processor_ref,
        status=row.status,
        attempt=row.attempt,
        error_code=row.error_code,
        executions=[_execution(execution) for execution in executions],
    )


def _execution(row: ExecutionRow) -> ExecutionView:
    return ExecutionView(
        execution_id=row.execution_id,
        transition=row.transition,
        attempt=row.attempt,
        status=row.status,
        reserved=dict(row.hold),
        spent=None if row.actual is None else dict(row.actual),
        write_prefix=row.write_prefix,
        envelope=row.envelope,
        receipt=row.receipt,
        trace=row.trace,
        started_at=row.started_at,
        ended_at=row.ended_at,
    )
