"""Decided events become the bytes that are stored: stamped, numbered, chained."""

from __future__ import annotations

from collections.abc import Callable

from theory_api.domain import events as ev
from theory_api.ports.truth import StoredEvent
from theory_api.scheduler.folding import Folded
from theory_core import EVENT_VERSION


def seal(folded: Folded, events: tuple[ev.Event, ...], now: Callable[[], str]) -> list[StoredEvent]:
    """Chain events onto a plan, all or none; raises what the core's chain raises.

    Law: `at` never decreases within a plan.
    """
    if not events:
        return []
    state = folded.state
    plan, first = state.plan, state.seq + 1
    at = max(now(), folded.at)
    sealed = folded.chain.append(
        [
            {
                "v": EVENT_VERSION,
                "plan": plan,
                "seq": seq,
                "at": at,
                "kind": event.KIND,
                "data": event.data(),
            }
            for seq, event in enumerate(events, start=first)
        ]
    )
    folded.at = at
    return [
        StoredEvent(plan, seq, event.KIND, at, body, digest)
        for seq, (event, (body, digest)) in enumerate(zip(events, sealed, strict=True), start=first)
    ]
