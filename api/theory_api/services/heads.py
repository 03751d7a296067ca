"""Heads that somebody keeps elsewhere: written down, read back, and held against a store."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from theory_api.ports.truth import ReadModel
from theory_api.scheduler.plans import regression
from theory_core import LIMITS, TheoryError, WorldPath, canonicalize, loads_strict

_PAGE: Final = 1000
_DIGEST_CHARACTERS: Final = 67


@dataclass(frozen=True, slots=True)
class KeptHead:
    """One event that a ledger had: its newest, when it was written down."""

    plan: str
    seq: int
    hash: str

    def line(self) -> bytes:
        """Canonical JSON and a line feed."""
        return canonicalize({"plan": self.plan, "seq": self.seq, "hash": self.hash}) + b"\n"


async def export(read: ReadModel) -> AsyncIterator[bytes]:
    """The head of every plan, one line each, ordered by plan."""
    after = ""
    while rows := await read.plans(after=after, limit=_PAGE):
        for row in rows:
            yield KeptHead(row.plan, row.head_seq, row.head_hash).line()
        after = rows[-1].plan


def parse(data: bytes) -> list[KeptHead]:
    """The heads of an export; none of nothing.

    Raises `TheoryError` `ERR_INPUTS`, naming the line, for anything else: what cannot be read
    cannot be compared, and is not passed over.
    """
    kept = []
    for number, text in enumerate(data.splitlines(), start=1):
        try:
            kept.append(_head(loads_strict(text)))
        except (TheoryError, KeyError, TypeError) as error:
            message = f'line {number} of the kept heads is not {{"hash","plan","seq"}}'
            raise TheoryError("ERR_INPUTS", message, {"line": number}) from error
    return kept


async def compare(read: ReadModel, kept: Sequence[KeptHead]) -> None:
    """Hold heads against a store that may have moved on since.

    Raises `TheoryError` `ERR_CHAIN_REGRESSION`, naming plan and both seqs, when one of them is not
    there, or another event stands in its place; `ERR_UNAVAILABLE`.
    """
    for start in range(0, len(kept), _PAGE):
        group = kept[start : start + _PAGE]
        found = await read.heads([(head.plan, head.seq) for head in group])
        there = {(head.plan, head.seq): head.hash for head in found}
        for head in group:
            if there.get((head.plan, head.seq)) != head.hash:
                newest = await _newest(read, head)
                raise regression(head.plan, head.seq, newest)


async def _newest(read: ReadModel, head: KeptHead) -> int:
    """Seq of the newest event up to the kept one; what the ledger holds, not what a row says."""
    low, high = 0, head.seq
    while low < high:
        middle = (low + high + 1) // 2
        if await read.events(head.plan, after=middle - 1, limit=1):
            low = middle
        else:
            high = middle - 1
    return low


def _head(stated: Any) -> KeptHead:  # noqa: ANN401 - any JSON
    if set(stated) != {"plan", "seq", "hash"}:
        raise TypeError
    plan, seq, digest = stated["plan"], stated["seq"], stated["hash"]
    whole = type(seq) is int and 1 <= seq <= LIMITS["integer_max"]
    written = type(digest) is str and len(digest) == _DIGEST_CHARACTERS and digest[:3] == "b3:"
    if not (whole and written and str(WorldPath(f"{plan}/plan")) == f"{plan}/plan"):
        raise TypeError
    return KeptHead(plan, seq, digest)
