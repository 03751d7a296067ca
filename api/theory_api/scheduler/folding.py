"""From stored events to a folded plan, its chain verified on the way."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from theory_api.domain.evolve import fold
from theory_api.domain.state import PlanState
from theory_api.ports.truth import StoredEvent, TruthStore
from theory_core import Chain, TheoryError, event_hash

PAGE: Final = 2_000


@dataclass(slots=True)
class Folded:
    """A plan as its writer holds it: state, chain, and the time of its last event."""

    state: PlanState
    chain: Chain
    at: str = ""


async def refold(store: TruthStore, plan: str) -> Folded:
    """Fold a plan from the store.

    Raises `TheoryError` `ERR_CHAIN_BROKEN`, naming the seq, when an event does not follow from the
    one before it.
    """
    state = PlanState(plan=plan)
    previous: StoredEvent | None = None
    while True:
        page = await store.events(plan, after=state.seq, limit=PAGE)
        for event in page:
            _verify(previous, event)
            previous = event
        fold(plan, (event.body for event in page), state)
        if len(page) < PAGE:
            break
    if previous is None:
        return Folded(state, Chain())
    chain = Chain(prev=(previous.seq, previous.hash))
    return Folded(state, chain, previous.at)


def _verify(previous: StoredEvent | None, event: StoredEvent) -> None:
    expected = event_hash(None if previous is None else previous.hash, event.body)
    if expected != event.hash:
        message = f"event {event.seq} of {event.plan} does not match its hash"
        raise TheoryError("ERR_CHAIN_BROKEN", message, {"plan": event.plan, "seq": event.seq})
