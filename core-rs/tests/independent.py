"""A second verifier of exports: the standard library alone, and no line shared with `theory_core`.

It judges an export by the written rules (spec: canonical JSON, digest, ledger chain), BLAKE3
included: slow, and short enough to be read in one sitting and written anew in any language.
"""

import json
import re
import struct
from datetime import date
from decimal import Decimal
from typing import Any

Head = tuple[int, str]
SAFE, DEPTH, LINE_BYTES, WORD = 2**53 - 1, 256, 8 << 20, 2**32 - 1
NAME = r"(?!\S*\.\.)[a-z0-9][a-z0-9._-]{0,62}"
AT = r"\d{4}-\d\d-\d\dT([01]\d|2[0-3]):[0-5]\d:[0-5]\d\.\d{6}Z"
KIND = r"(?=\S{1,64} )[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)+"
TEXTS = re.compile(f"/world/{NAME}/{NAME} {AT} {KIND} b3:[0-9a-f]{{64}}", re.ASCII)
SHAPE = (tuple, tuple, *"event hash at data kind plan seq v".split(), tuple, int, "theory.event.v1")  # noqa: SIM905
ENDS = "".join(chr(plane << 16 | low) for plane in range(17) for low in (0xFFFE, 0xFFFF))
UNFIT = re.compile(rf"[\ud800-\udfff\ufdd0-\ufdef{ENDS}]")  # surrogates and noncharacters
IV = tuple(int(prime**0.5 * 2**32) & WORD for prime in (2, 3, 5, 7, 11, 13, 17, 19))
MIXES = [[int(at, 16) for at in row] for row in "048c 159d 26ae 37bf 05af 16bc 278d 349e".split()]  # noqa: SIM905


def compress(cv: tuple[int, ...], block: bytes, counter: int, flags: int) -> tuple[int, ...]:
    words = struct.unpack("<16I", block.ljust(64, b"\0"))
    v = [*cv, *IV[:4], counter & WORD, counter >> 32, len(block), flags]
    for _ in range(7):
        for at, (a, b, c, d) in enumerate(MIXES):
            for word, right, left in ((words[2 * at], 16, 12), (words[2 * at + 1], 8, 7)):
                v[a] = (v[a] + v[b] + word) & WORD
                v[d] = ((v[d] ^ v[a]) >> right | (v[d] ^ v[a]) << (32 - right)) & WORD
                v[c] = (v[c] + v[d]) & WORD
                v[b] = ((v[b] ^ v[c]) >> left | (v[b] ^ v[c]) << (32 - left)) & WORD
        words = tuple(words[int(at, 16)] for at in "263a704d1bc59ef8")
    return tuple(low ^ high for low, high in zip(v[:8], v[8:], strict=True))


def tree(data: bytes, chunk: int, root: int) -> tuple[int, ...]:
    """Chaining value of the subtree that starts at a chunk; `root` is 8 at the top, else 0."""
    if len(data) <= 1024:
        cv, last = IV, max(len(data) - 1, 0) // 64
        for at in range(last + 1):
            cv = compress(cv, data[64 * at :][:64], chunk, (at == 0) | (at == last) * (2 | root))
        return cv
    left = 1 << (((len(data) - 1) // 1024).bit_length() - 1)
    parts = tree(data[: 1024 * left], chunk, 0) + tree(data[1024 * left :], chunk + left, 0)
    return compress(IV, struct.pack("<16I", *parts), 0, 4 | root)


def digest(data: bytes) -> str:
    return "b3:" + struct.pack("<8I", *tree(data, 0, 8)).hex()


def double(value: float) -> str:
    """A finite double as ECMAScript writes it: Python's shortest digits, placed by its rules."""
    sign, found, exponent = Decimal(repr(value + 0.0)).normalize().as_tuple()
    digits, minus = "".join(map(str, found)), "-" * sign
    dot = len(digits) + int(exponent)
    if 0 < dot <= 21:
        return minus + digits[:dot].ljust(dot, "0") + "." * (len(digits) > dot) + digits[dot:]
    if -6 < dot <= 0:
        return f"{minus}0.{'0' * -dot}{digits}"
    return f"{minus}{digits[0]}{'.' * (len(digits) > 1)}{digits[1:]}e{dot - 1:+d}"


def canonical(value: object) -> str:
    """Canonical text; an object is a tuple of members, sorted by the UTF-16 units of names."""
    if isinstance(value, tuple):
        pairs = sorted(value, key=lambda pair: pair[0].encode("utf-16-be"))
        return (
            "{" + ",".join([f"{canonical(name)}:{canonical(item)}" for name, item in pairs]) + "}"
        )
    if isinstance(value, list):
        return "[" + ",".join([canonical(item) for item in value]) + "]"
    return double(value) if isinstance(value, float) else json.dumps(value, ensure_ascii=False)


def number(literal: str) -> int | float:
    value, whole = float(literal), literal.lstrip("-").isdigit()
    if whole and abs(value) <= SAFE:
        return int(literal)
    if not abs(value) < float("inf") or (whole and double(value) != literal):
        raise ValueError(literal)  # no double, or one that changes the digits of an integer
    return value


def check(value: Any, depth: int, scalars: Any) -> None:  # noqa: ANN401 - JSON
    if isinstance(value, list | tuple):
        if depth == DEPTH or (isinstance(value, tuple) and len(dict(value)) < len(value)):
            raise ValueError(depth)
        for item in value if isinstance(value, list) else [each for pair in value for each in pair]:
            check(item, depth + 1, scalars)
    elif not isinstance(value, scalars) or UNFIT.search(str(value)):
        raise ValueError(value)


def load(text: bytes) -> Any:  # noqa: ANN401 - JSON
    numbers: Any = dict.fromkeys(("parse_int", "parse_float", "parse_constant"), number)
    value = json.loads(text.decode(), object_pairs_hook=tuple, **numbers)
    check(value, 0, object)
    return value


def judge(body: bytes, due: int | None, last: list[str], head: Head | None) -> str | Head:
    """Seq and hash of a line that is sound behind the last plan, time and hash; or its fault."""
    try:
        line = load(body if len(body) <= LINE_BYTES else b"")
    except (ValueError, RecursionError):
        return "syntax"
    if canonical(line).encode() != body:
        return "bytes"
    try:
        (event, members), (hashed, stated) = line
        check(members, 0, int | str | None)
        names, (at, data, kind, plan, seq, v) = zip(*members, strict=True)
        date.fromisoformat(at[:10])
        shape = (type(line), type(members), event, hashed, *names, type(data), type(seq), v)
        if shape != SHAPE or seq < 1 or not TEXTS.fullmatch(f"{plan} {at} {kind} {stated}"):
            return "schema"
    except (TypeError, ValueError):
        return "schema"
    faults = {
        "plan": last[0] not in ("", plan),
        "gap": seq != due if due else seq < 2,
        "order": at < last[1],
        "hash": digest(bytes.fromhex(last[2][3:]) + canonical(members).encode()) != stated,
        "head": head and (seq > head[0] or (seq == head[0] and stated != head[1])),
    }
    last[:] = plan, at, stated
    return next((reason for reason, found in faults.items() if found), (seq, stated))


def verify(
    export: bytes, head: Head | None, prev: tuple[int | None, str], *, empty: bool
) -> tuple[int, Head | None, bool, tuple[int | None, str, int] | None]:
    """Count, head, anchored, fault (seq due, reason, line); `prev` is seq or None, and hash."""
    due, last = None if prev[0] is None else prev[0] + 1, ["", "", prev[1]]
    end, count, (*lines, rest) = None, 0, export.split(b"\n")
    for body in lines:
        found = judge(body, due, last, head)
        if isinstance(found, str):
            return count, end, False, (due, found, count + 1)
        end, due, count = found, found[0] + 1, count + 1
    late = {"syntax": rest, "gap": not (count or empty), "head": head and head != end}
    for reason in (reason for reason, found in late.items() if found):
        return count, end, False, (due, reason, count + 1)
    return count, end, head is not None, None
