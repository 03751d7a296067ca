"""What streamed in a plan, as its ledger sealed it."""

from __future__ import annotations

from typing import Any, Final

from theory_api.domain.events import StreamSealed
from theory_api.domain.kinds import from_data
from theory_api.ports.truth import ReadModel, StoredEvent
from theory_api.services.queries import event_view
from theory_api.services.views import StreamPage, StreamView
from theory_core import LIMITS, TheoryError, WorldPath

PAGE: Final = LIMITS["page_items"]
"""Seals of one page, and of one look into the ledger."""
_LOOKS: Final = 10
"""Looks of one question; what was not looked at by then is for the next page."""


async def sealed(read: ReadModel, asked: WorldPath, after: str = "") -> StreamPage:
    """Seals of the stream at `asked`, or of all below it, in the order of the ledger.

    `after` is a `next_after`, or empty. Raises `TheoryError`: `ERR_INPUTS` (no such number),
    `ERR_NOT_FOUND` (no such plan; or nothing was sealed at an exact path).
    """
    row = await read.plan(asked.root)
    since, found = _seq(after), list[StreamView]()
    for _ in range(_LOOKS):
        events = await read.events(asked.root, after=since, limit=PAGE, kind=StreamSealed.KIND)
        for event in events:
            view = _view(event)
            if asked.contains(WorldPath(view.path, root=asked.root)):
                found.append(view)
                if len(found) == PAGE:
                    return _page(found, event.seq if event.seq < row.head_seq else None)
        if len(events) < PAGE:
            if not (found or asked.is_prefix or after):
                message = "nothing streamed at this address, or not to its end"
                raise TheoryError("ERR_NOT_FOUND", message, {})
            return _page(found, None)
        since = events[-1].seq
    return _page(found, since)


def _page(found: list[StreamView], next_after: int | None) -> StreamPage:
    return StreamPage(streams=found, next_after=None if next_after is None else str(next_after))


def _seq(after: str) -> int:
    if not after:
        return 0
    if after.isascii() and after.isdigit() and len(after) < 16:  # noqa: PLR2004 - within 2^53
        return int(after)
    raise TheoryError("ERR_INPUTS", "after is the next_after of a page", {"reason": "after"})


def _view(event: StoredEvent) -> StreamView:
    stated = event_view(event).event
    seal: Any = from_data(stated.kind, stated.data)
    return StreamView(
        path=seal.path,
        uri=WorldPath(seal.path, root=event.plan).uri,
        digest=seal.digest,
        frames=seal.count,
        size_bytes=seal.bytes,
        execution_id=seal.execution_id,
        transition=seal.transition,
        attempt=seal.attempt,
        seq=event.seq,
        at=event.at,
    )
