"""From stored events to a folded plan, its chain verified on the way; kept folds shorten it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec
import structlog

from theory_api.domain.encoding import absorb, frames, layout
from theory_api.domain.evolve import fold
from theory_api.domain.state import PlanState
from theory_api.ports.folds import Fold, FoldStore
from theory_api.ports.truth import ReadModel, StoredEvent, TruthStore
from theory_api.scheduler.turns import Turn
from theory_core import Chain, TheoryError, digest, event_hash

log = structlog.get_logger(__name__)

PAGE: Final = 2_000
"""Events read at once."""

SLICE: Final = 100
"""Events folded, or frames decoded, before everybody else has a turn."""

GROUP: Final = 64
"""Plans whose kept folds are in memory at once while many are folded."""

ABREAST: Final = 16
"""Plans that are folded at once: one is read while another is folded."""

_DIGEST: Final = 67
"""Characters of a written digest."""


@dataclass(slots=True)
class Folded:
    """A plan as its writer holds it: state, chain, and the time of its last event."""

    state: PlanState
    chain: Chain
    at: str = ""
    committed: int = 0
    """Seq of the last event that the store holds; `state` may be ahead of it."""
    hash: str = ""
    """Hash of that event."""
    kept: int = 0
    """Seq of the newest fold that the store keeps of this plan; 0 without one."""


class Folding:
    """Folds plans of one store; a fold that was kept is used where the ledger confirms it."""

    def __init__(self, store: TruthStore, folds: FoldStore | None = None) -> None:
        self._store = store
        self._folds = folds

    async def plan(self, plan: str) -> Folded:
        """Fold one plan; raises what `refold` raises."""
        kept = await self._newest([plan])
        return await self._fold(plan, kept.get(plan))

    async def many(self, plans: Sequence[str]) -> AsyncIterator[tuple[str, Folded | TheoryError]]:
        """Fold plans; each as it is, or with the fault that keeps it from being folded."""
        for start in range(0, len(plans), GROUP):
            group = plans[start : start + GROUP]
            kept = await self._newest(group)
            for first in range(0, len(group), ABREAST):
                few = group[first : first + ABREAST]
                folds = (self._settled(plan, kept.get(plan)) for plan in few)
                for plan, found in zip(few, await asyncio.gather(*folds), strict=True):
                    yield plan, found

    async def _settled(self, plan: str, kept: Fold | None) -> Folded | TheoryError:
        try:
            return await self._fold(plan, kept)
        except TheoryError as error:
            return error

    async def _newest(self, plans: Sequence[str]) -> Mapping[str, Fold]:
        """Law: folds are a cache; a store that cannot give them costs time, nothing else."""
        if self._folds is None:
            return {}
        try:
            return await self._folds.newest(plans)
        except TheoryError as error:
            log.warning("fold.unread", code=error.code, reason=error.message)
            return {}

    async def _fold(self, plan: str, kept: Fold | None) -> Folded:
        if kept is not None:
            begun = await self._begun(kept)
            if begun is not None:
                folded, page = begun
                return await _follow(self._store, folded, page[1:], more=len(page) == PAGE)
        return await refold(self._store, plan)

    async def _begun(self, kept: Fold) -> tuple[Folded, list[StoredEvent]] | None:
        """The state of a kept fold and the events from its own on; None for one of no use."""
        page = await self._store.events(kept.plan, after=kept.seq - 1, limit=PAGE)
        reason = "the ledger has another event there"
        if page and (page[0].seq, page[0].hash) == (kept.seq, kept.hash):
            try:
                return await thaw(kept), page
            except TheoryError as error:
                reason = error.message
        log.warning("fold.ignored", plan=kept.plan, seq=kept.seq, reason=reason)
        if self._folds is not None:
            await _forget(self._folds, kept.plan)
        return None


async def refold(store: TruthStore | ReadModel, plan: str) -> Folded:
    """Fold a plan from its first event.

    Raises `TheoryError` `ERR_CHAIN_BROKEN`, naming plan and seq, when an event does not follow from
    the one before it, belongs to another plan, or cannot have happened; `ERR_UNAVAILABLE`.
    """
    empty = Folded(PlanState(plan=plan), Chain(plan=plan))
    page = await store.events(plan, limit=PAGE)
    return await _follow(store, empty, page, more=len(page) == PAGE)


async def _follow(
    store: TruthStore | ReadModel, folded: Folded, page: list[StoredEvent], *, more: bool
) -> Folded:
    """Fold what comes after, beginning with a page that was read; `more` may be there after it."""
    state = folded.state
    while True:
        for start in range(0, len(page), SLICE):
            part = page[start : start + SLICE]
            for event in part:
                _verify(folded, event)
            _apply(state, part)
            await Turn()
        if not more:
            break
        page = await store.events(state.plan, after=state.seq, limit=PAGE)
        more = len(page) == PAGE
    folded.committed = state.seq
    if state.seq:
        folded.chain = Chain(prev=(state.seq, folded.hash, folded.at), plan=state.plan)
    return folded


MISMATCH: Final = "does not match its hash"


def _verify(folded: Folded, event: StoredEvent) -> None:
    """Law: the hash of each event is that of its bytes on top of the hash before."""
    try:
        expected = event_hash(folded.hash or None, event.body)
    except TheoryError as error:
        raise _broken(event, MISMATCH) from error
    if expected != event.hash:
        raise _broken(event, MISMATCH)
    folded.hash, folded.at = event.hash, event.at


def _apply(state: PlanState, part: Iterable[StoredEvent]) -> None:
    for event in part:
        try:
            fold(state.plan, (event.body,), state)
        except (TheoryError, LookupError, TypeError, ValueError) as error:
            raise _broken(event, "cannot have happened where it stands") from error


def _broken(event: StoredEvent, how: str) -> TheoryError:
    message = f"event {event.seq} of {event.plan} {how}"
    return TheoryError("ERR_CHAIN_BROKEN", message, {"plan": event.plan, "seq": event.seq})


# -- kept folds -------------------------------------------------------------------------------


def freeze(folded: Folded) -> Fold:
    """A fold to keep, at once; the store must hold all of the state."""
    return _sealed(folded, list(frames(folded.state)))


async def freeze_slowly(folded: Folded) -> Fold:
    """As `freeze`, with turns for everybody else, of a state that nobody changes meanwhile."""
    made: list[bytes] = []
    for frame in frames(folded.state):
        made.append(frame)
        await Turn()
    return _sealed(folded, made)


async def thaw(kept: Fold) -> Folded:
    """The plan as it was when it was frozen.

    Raises `TheoryError` `ERR_STORAGE` for a fold of another version, or one that is not whole.
    """
    if kept.version != layout():
        raise _unreadable("it is of another version")
    payload = kept.body[_DIGEST:]
    if kept.body[:_DIGEST] != _check(kept.plan, kept.seq, kept.hash, kept.at, payload):
        raise _unreadable("it is not as it was written")
    state = PlanState(plan=kept.plan)
    pieces: list[bytes] = msgspec.msgpack.decode(payload, type=list[bytes])
    for place, frame in enumerate(pieces, start=1):
        absorb(state, frame)
        if not place % SLICE:
            await Turn()
    if (state.plan, state.seq) != (kept.plan, kept.seq):
        raise _unreadable("it is of another plan or event")
    chain = Chain(prev=(kept.seq, kept.hash, kept.at), plan=kept.plan)
    return Folded(state, chain, kept.at, kept.seq, kept.hash, kept.seq)


def _sealed(folded: Folded, pieces: list[bytes]) -> Fold:
    plan, seq, hashed, at = folded.state.plan, folded.committed, folded.hash, folded.at
    payload = msgspec.msgpack.encode(pieces)
    body = _check(plan, seq, hashed, at, payload) + payload
    return Fold(plan, seq, hashed, at, layout(), body)


def _check(plan: str, seq: int, hashed: str, at: str, payload: bytes) -> bytes:
    """Binds a fold to its event: bytes that rot, or stand at another plan, are not believed."""
    head = f"{plan}\n{seq}\n{hashed}\n{at}\n".encode()
    return digest(head + payload).encode()


def _unreadable(how: str) -> TheoryError:
    return TheoryError("ERR_STORAGE", f"storage unavailable: a kept fold is of no use: {how}")


async def _forget(folds: FoldStore, plan: str) -> None:
    try:
        await folds.drop([plan])
    except TheoryError as error:
        log.warning("fold.undropped", plan=plan, code=error.code, reason=error.message)
