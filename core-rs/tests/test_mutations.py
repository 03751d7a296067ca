"""Ledgers damaged in every known way: the wheel and a second verifier name the same fault."""

import itertools
import random
from collections.abc import Callable

import pytest

from theory_core import Chain, Report, event_hash

SAFE = 2**53 - 1
HEX = b"0123456789abcdef"

Lines = list[bytes]
Head = tuple[int, str]
KINDS = ("plan.paused", "budget.reserved", "lease.acquired", "audit.note")


def anything(rng: random.Random, depth: int = 0) -> object:
    match rng.randrange(7 if depth < 3 else 5):
        case 0:
            return rng.choice([None, True, False])
        case 1 | 2:
            return rng.randint(-SAFE, SAFE) >> rng.randrange(54)
        case 3 | 4:
            return "".join(
                rng.choices('ab"\\\n\x00\x7fé\u20ac\ue000\U0001f600', k=rng.randrange(9))
            )
        case 5:
            return [anything(rng, depth + 1) for _ in range(rng.randrange(4))]
        case _:
            return {f"{rng.randrange(99)}\ue000": anything(rng, depth + 1) for _ in range(3)}


def line(body: bytes, stated: str) -> bytes:
    return b'{"event":%s,"hash":"%s"}\n' % (body, stated.encode())


def ledger(plan: str, data: list[tuple[str, object]]) -> tuple[Lines, list[Head]]:
    """Lines of a sound export and the head after each; time stands still now and then."""
    events = [
        {
            "v": "theory.event.v1",
            "plan": plan,
            "seq": seq,
            "at": f"2026-11-21T04:25:00.{seq // 2:06d}Z",
            "kind": kind,
            "data": {"value": value},
        }
        for seq, (kind, value) in enumerate(data, start=1)
    ]
    sealed = Chain().append(events)
    heads = [(seq, stated) for seq, (_, stated) in enumerate(sealed, start=1)]
    return [line(*pair) for pair in sealed], heads


def pool(rng: random.Random) -> list[tuple[Lines, list[Head]]]:
    return [
        ledger(
            f"/world/acme/p{number}",
            [(rng.choice(KINDS), anything(rng)) for _ in range(rng.randint(4, 9))],
        )
        for number in range(12)
    ]


def resealed(lines: Lines, start: int, stated: str | None) -> Lines:
    """The lines, their hashes computed anew from `start` on, behind a stated hash."""
    out = lines[:start]
    for old in lines[start:]:
        body = old[len('{"event":') : -len(',"hash":"b3:"}\n') - 64]
        stated = event_hash(stated, body)
        out.append(line(body, stated))
    return out


Mutated = tuple[bytes, str | None, int | None]
"""The export, the reason that has to be found (empty: none; None: any) and its line."""


def flip(rng: random.Random, lines: Lines, _other: Lines) -> Mutated:
    export = bytearray(b"".join(lines))
    place = rng.randrange(len(export))
    export[place] ^= 1 << rng.randrange(8) if rng.random() < 0.5 else rng.randint(1, 255)
    return bytes(export), None, b"".join(lines)[:place].count(b"\n") + 1


def flip_hex(rng: random.Random, lines: Lines, _other: Lines) -> Mutated:
    at = rng.randrange(len(lines))
    digits = bytearray(lines[at])
    place = len(digits) - 4 - rng.randrange(64)
    digits[place] = rng.choice([digit for digit in HEX if digit != digits[place]])
    return b"".join([*lines[:at], bytes(digits), *lines[at + 1 :]]), "hash", at + 1


def swap(rng: random.Random, lines: Lines, _other: Lines) -> Mutated:
    a, b = sorted(rng.sample(range(len(lines)), 2))
    moved = lines.copy()
    moved[a], moved[b] = moved[b], moved[a]
    return b"".join(moved), "gap", a + 1


def drop(rng: random.Random, lines: Lines, _other: Lines) -> Mutated:
    at = rng.randrange(len(lines) - 1)
    return b"".join(lines[:at] + lines[at + 1 :]), "gap", at + 1


def duplicate(rng: random.Random, lines: Lines, _other: Lines) -> Mutated:
    at = rng.randrange(len(lines))
    return b"".join([*lines[: at + 1], *lines[at:]]), "gap", at + 2


def splice(rng: random.Random, lines: Lines, other: Lines) -> Mutated:
    at = rng.randrange(1, min(len(lines), len(other)))
    tail = other[at:] if rng.random() < 0.5 else [other[at], *lines[at + 1 :]]
    return b"".join([*lines[:at], *tail]), "plan", at + 1


def splice_resealed(rng: random.Random, lines: Lines, other: Lines) -> Mutated:
    at = rng.randrange(1, min(len(lines), len(other)))
    stated = lines[at - 1][-70:-3].decode()
    return b"".join(resealed([*lines[:at], *other[at:]], at, stated)), "plan", at + 1


def truncate_lines(rng: random.Random, lines: Lines, _other: Lines) -> Mutated:
    at = rng.randrange(1, len(lines))
    return b"".join(lines[:at]), "", at + 1


def truncate_bytes(rng: random.Random, lines: Lines, _other: Lines) -> Mutated:
    at = rng.randrange(len(lines))
    kept = rng.randrange(1, len(lines[at]))
    return b"".join(lines[:at]) + lines[at][:kept], "syntax", at + 1


def edit(rng: random.Random, lines: Lines, _other: Lines) -> Mutated:
    at = rng.randrange(len(lines))
    edited = lines[at].replace(b'"value":', b'"another":', 1)
    return b"".join([*lines[:at], edited, *lines[at + 1 :]]), "hash", at + 1


def edit_one_resealed(rng: random.Random, lines: Lines, _other: Lines) -> Mutated:
    at = rng.randrange(len(lines) - 1)
    edited = [*lines[:at], lines[at].replace(b'"value":', b'"another":', 1)]
    stated = lines[at - 1][-70:-3].decode() if at else None
    return b"".join([*resealed(edited, at, stated), *lines[at + 1 :]]), "hash", at + 2


def recompute_suffix(rng: random.Random, lines: Lines, _other: Lines) -> Mutated:
    at = rng.randrange(len(lines))
    edited = lines.copy()
    edited[at] = edited[at].replace(b'"value":', b'"another":', 1)
    stated = lines[at - 1][-70:-3].decode() if at else None
    return b"".join(resealed(edited, at, stated)), "", len(lines)


def step_back(rng: random.Random, lines: Lines, _other: Lines) -> Mutated:
    at = rng.randrange(1, len(lines))
    edited = lines.copy()
    edited[at] = edited[at].replace(b'"at":"2026', b'"at":"2025', 1)
    return b"".join(resealed(edited, at, lines[at - 1][-70:-3].decode())), "order", at + 1


def loosen(rng: random.Random, lines: Lines, _other: Lines) -> Mutated:
    at = rng.randrange(len(lines))
    edited = lines[at].replace(b'{"event":', rng.choice([b'{ "event":', b'{"\\u0065vent":']), 1)
    return b"".join([*lines[:at], edited, *lines[at + 1 :]]), "bytes", at + 1


MUTATIONS: list[Callable[[random.Random, Lines, Lines], Mutated]] = [
    flip,
    flip_hex,
    swap,
    drop,
    duplicate,
    splice,
    splice_resealed,
    truncate_lines,
    truncate_bytes,
    edit,
    edit_one_resealed,
    recompute_suffix,
    step_back,
    loosen,
]


def judge_mutations(both: Callable[..., Report], seed: int, count: int) -> None:
    """Mutate sound ledgers; both verifiers find what each mutation has to be found as.

    Without a head from outside a cut or recomputed tail is sound: a chain alone cannot know.
    """
    rng = random.Random(seed)  # noqa: S311 - repeatable on purpose
    ledgers = pool(rng)
    for mutate, _ in zip(itertools.cycle(MUTATIONS), range(count), strict=False):
        (lines, heads), (other, _heads) = rng.sample(ledgers, 2)
        export, reason, place = mutate(rng, lines, other)
        anchored = rng.random() < 0.5
        report = both(export, heads[-1] if anchored else None)
        fault = report.fault
        if reason == "" and not anchored:
            assert fault is None
            continue
        assert fault is not None
        assert fault.line == place
        if reason is not None:
            assert fault.reason == (reason or "head"), mutate.__name__


def test_both_give_five_hundred_mutated_ledgers_the_same_fault(both: Callable[..., Report]) -> None:
    judge_mutations(both, seed=1, count=500)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_both_give_ten_thousand_mutated_ledgers_the_same_fault(both: Callable[..., Report]) -> None:
    judge_mutations(both, seed=2, count=10_000)
