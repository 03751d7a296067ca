"""Whatever byte of an export is altered, the verifier names the line that it belongs to."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from theory_api.cli.tamper import tamper
from theory_core import Chain, TheoryError

PLAN = "/world/local/p"


@pytest.fixture(scope="module")
def export() -> bytes:
    events = [
        {
            "v": "theory.event.v1",
            "plan": PLAN,
            "seq": seq,
            "at": f"2026-11-21T04:25:{seq:02d}.000000Z",
            "kind": "plan.paused",
            "data": {"by": "local", "reason": "ночь " * (seq % 7)},
        }
        for seq in range(1, 41)
    ]
    sealed = Chain(plan=PLAN).append(events)
    return b"".join(b'{"event":%b,"hash":"%b"}\n' % (body, sum_.encode()) for body, sum_ in sealed)


def drawing(offset: int, mask: int) -> Callable[[int], int]:
    """A draw that answers these two numbers."""
    answers = iter((offset, mask - 1))
    return lambda _below: next(answers)


@pytest.mark.scenario(21)
def test_flips_at_two_hundred_drawn_offsets_each_name_the_right_seq(export: bytes) -> None:
    seed = random.SystemRandom().randrange(2**32)
    draw = random.Random(seed)  # noqa: S311 - chance, not a secret
    for _ in range(200):
        proof = tamper(export, draw=draw.randrange)
        assert proof.ok, (seed, proof)


@pytest.mark.parametrize("mask", [1, 0x80, 0xFF, 0x2A])
def test_line_ends_belong_to_their_line(export: bytes, mask: int) -> None:
    for offset in [place for place, byte in enumerate(export) if byte == ord("\n")]:
        proof = tamper(export, draw=drawing(offset, mask))
        assert proof.ok, proof


def test_a_byte_that_becomes_a_line_end_is_found_in_its_line(export: bytes) -> None:
    for offset in range(0, len(export), 97):
        mask = export[offset] ^ ord("\n")
        if mask:
            proof = tamper(export, draw=drawing(offset, mask))
            assert proof.ok, proof


def test_an_export_that_was_altered_before_is_refused(export: bytes) -> None:
    with pytest.raises(TheoryError) as caught:
        tamper(export.replace(b"plan.paused", b"plan.Paused", 1))
    assert caught.value.code == "ERR_CHAIN_BROKEN"


def test_a_missed_alteration_would_be_told(export: bytes) -> None:
    proof = tamper(export)
    assert proof.seq == export.count(b"\n", 0, proof.offset) + 1
    assert proof.reason in {"syntax", "bytes", "schema", "plan", "gap", "order", "hash"}
