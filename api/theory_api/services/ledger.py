"""A plan's ledger as others take it away: the export, and what the verifier says of it."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator
from typing import Final

from theory_api.ports.truth import ReadModel, StoredEvent
from theory_api.services.heads import export
from theory_api.services.views import FaultView, HeadView, VerdictView
from theory_core import TheoryError, verify

_PAGE: Final = 1000
_IN_MEMORY: Final = 4 * 1024 * 1024


class Ledgers:
    """Exports and verifies ledgers; needs no scheduler.

    Raises `TheoryError`: `ERR_NOT_FOUND`, `ERR_UNAVAILABLE`.
    """

    def __init__(self, read: ReadModel) -> None:
        self._read = read

    async def export(self, plan: str, *, after: int = 0) -> AsyncIterator[bytes]:
        """NDJSON from `after` + 1 to the head as of the first line (spec: ledger, export).

        The stored bytes of each event stand in its line as they were hashed.
        """
        head = (await self._read.plan(plan)).head_seq
        seq = after
        while seq < head:
            page = await self._read.events(plan, after=seq, limit=min(_PAGE, head - seq))
            if not page:
                message = f"event {seq + 1} of {plan} is missing"
                raise TheoryError("ERR_CHAIN_BROKEN", message, {"seq": seq + 1})
            for event in page:
                yield line(event)
            seq = page[-1].seq

    def heads(self) -> AsyncIterator[bytes]:
        """The head of every plan, one line of canonical JSON each, to be kept elsewhere."""
        return export(self._read)

    async def verify(
        self, plan: str, *, expect_head: tuple[int, str] | None = None, laws: bool = False
    ) -> VerdictView:
        """The verifier's report on the export; anchored only with a head from outside.

        With `laws`, the laws of plans and budgets are judged too, at every prefix.
        """
        row = await self._read.plan(plan)
        with tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY) as copy:
            async for exported in self.export(plan):
                copy.write(exported)
            copy.seek(0)
            report = await asyncio.to_thread(verify, copy, expect_head=expect_head, laws=laws)
        seq, digest = report.head or (0, "")
        found = report.fault
        fault = None
        if found is not None:
            fault = FaultView(
                seq=found.seq,
                line=found.line,
                reason=found.reason,
                law=found.law,
                member=found.member,
            )
        return VerdictView(
            plan=plan,
            count=report.count,
            head=HeadView(plan=plan, seq=seq, hash=digest, at=row.updated_at),
            anchored=report.anchored,
            fault=fault,
            laws=report.laws,
            verdict=report.verdict,
        )


def line(event: StoredEvent) -> bytes:
    """One line of the export. Its members stand in canonical order: `event` before `hash`."""
    return b'{"event":%b,"hash":"%b"}\n' % (event.body, event.hash.encode())
