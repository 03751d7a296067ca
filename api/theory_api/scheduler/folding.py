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
    committed: int = 0
    """Seq of the last event that the store holds; `state` may be ahead of it."""


async def refold(store: TruthStore, plan: str) -> Folded:
    """Fold a plan from the store.

    Raises `TheoryError` `ERR_CHAIN_BROKEN`, naming the seq, when an event does not follow from the
    one before it, or belongs to another plan.
    """
    state = PlanState(plan=plan)
    previous: StoredEvent | None = None
    while page := await store.events(plan, after=state.seq, limit=PAGE):
        for event in page:
            _verify(previous, event)
            previous = event
        fold(plan, (event.body for event in page), state)
    if previous is None:
        return Folded(state, Chain(plan=plan))
    chain = Chain(prev=(previous.seq, previous.hash, previous.at), plan=plan)
    return Folded(state, chain, previous.at, previous.seq)


def _verify(previous: StoredEvent | None, event: StoredEvent) -> None:
    message = f"event {event.seq} of {event.plan} does not match its hash"
    broken = TheoryError("ERR_CHAIN_BROKEN", message, {"plan": event.plan, "seq": event.seq})
    try:
        expected = event_hash(None if previous is None else previous.hash, event.body)
    except TheoryError as error:
        raise broken from error
    if expected != event.hash:
        raise broken
