"""The proof that no ledger is altered unnoticed: flip one byte of a copy, and be told where."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass

from theory_core import TheoryError, verify


@dataclass(frozen=True, slots=True)
class Proof:
    """One altered byte, and what the verifier said of the altered copy."""

    offset: int
    """Of the byte, from 0."""
    mask: int
    """Which of its bits were flipped."""
    seq: int
    """Of the event in whose line the byte lies."""
    reported: int | None
    """The seq that the verifier names; None if it noticed nothing."""
    reason: str | None
    verdict: str

    @property
    def ok(self) -> bool:
        """Whether the verifier named the altered line."""
        return self.reported == self.seq


def tamper(export: bytes, *, draw: Callable[[int], int] = secrets.randbelow) -> Proof:
    """Flip a byte of a copy of a sound export that starts at seq 1; `draw(n)` is below `n`.

    Raises `TheoryError` `ERR_CHAIN_BROKEN` for an export that is not sound to begin with.
    """
    before = verify(export)
    if not before.ok:
        raise TheoryError("ERR_CHAIN_BROKEN", f"the ledger is not sound: {before.verdict}", {})
    offset, mask = draw(len(export)), 1 + draw(255)
    copy = bytearray(export)
    copy[offset] ^= mask
    after = verify(bytes(copy))
    fault = after.fault
    return Proof(
        offset=offset,
        mask=mask,
        # One line an event, from seq 1 on: a line's number is its seq. A line owns its newline.
        seq=export.count(b"\n", 0, offset) + 1,
        reported=None if fault is None else fault.seq,
        reason=None if fault is None else fault.reason,
        verdict=after.verdict,
    )
