"""The text of doubles against three other writers: PyPI rfc8785, node, and the second verifier.

The doubles are seeded: all edges, integers near powers of two and ten, decimals, random bits.
"""

import itertools
import json
import math
import random
import shutil
import struct
import subprocess
from collections.abc import Iterator
from types import ModuleType

import pytest

from theory_core import canonicalize, canonicalize_json, loads_strict

QUICK, FULL = 20_000, 1_000_000

NODE = """
const data = require("fs").readFileSync(0);
const out = [];
for (let at = 0; at < data.length; at += 8) out.push(data.readDoubleBE(at));
process.stdout.write(JSON.stringify(out));
"""


def neighbours(value: float) -> Iterator[float]:
    yield from (value, math.nextafter(value, math.inf), math.nextafter(value, -math.inf))


def edges() -> Iterator[float]:
    """Doubles around which writers are wrong: limits, powers, and where notations change."""
    powers = [math.ldexp(1.0, power) for power in range(-1074, 1024)]
    tens = [float(f"1e{power}") for power in range(-323, 309)]
    wholes = [float(10**power + low) for power in range(23) for low in (-1, 1)]
    halves = [0.5, 1.5, 2.5, 0.1, 0.2, 0.3, 1 / 3, 2 / 3, 5e-324, 2.2250738585072011e-308]
    safe = [float(2**53 + low) for low in range(-4, 5)]
    for value in itertools.chain(powers, tens, wholes, halves, safe, [0.0, 1.7976931348623157e308]):
        for near in neighbours(value):
            yield from (near, -near)


def doubles(count: int) -> list[float]:
    """Edges and seeded doubles, finite, at least `count` of them."""
    rng = random.Random(8785)  # noqa: S311 - repeatable on purpose
    found = [value for value in edges() if math.isfinite(value)]
    while len(found) < count:
        (value,) = struct.unpack(">d", rng.randbytes(8))
        if math.isfinite(value):
            found.append(value)
        found.append(float(rng.randint(-(10 ** rng.randint(1, 22)), 10 ** rng.randint(1, 22))))
        found.append(round(rng.uniform(-1e6, 1e6), rng.randrange(12)))
    return found


def ours(values: list[float]) -> list[bytes]:
    written = canonicalize(values)
    assert canonicalize_json(written) == written
    return written[1:-1].split(b",")


def compare_with_rfc8785(count: int) -> None:
    other = pytest.importorskip("rfc8785", reason="rfc8785 is not installed: no second writer")
    values = doubles(count)
    for value, text in zip(values, ours(values), strict=True):
        if value.is_integer() and abs(value) < 2**53:
            assert other.dumps(int(value)) == text
        assert other.dumps(value) == text, value.hex()


def compare_with_node(count: int) -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed: the inventors of the rule go unasked")
    values = doubles(count)
    data = struct.pack(f">{len(values)}d", *values)
    answer = subprocess.run([node, "-e", NODE], input=data, capture_output=True, check=True)
    theirs = answer.stdout[1:-1].split(b",")
    assert len(theirs) == len(values)
    for value, text, their in zip(values, ours(values), theirs, strict=True):
        assert text == their, value.hex()


def compare_with_the_second_verifier(independent: ModuleType, count: int) -> None:
    values = doubles(count)
    for value, text in zip(values, ours(values), strict=True):
        assert independent.double(value).encode() == text, value.hex()
        if "e" in (literal := repr(value)) or "." in literal:
            assert loads_strict(literal) == value


def test_doubles_are_written_as_by_rfc8785() -> None:
    compare_with_rfc8785(QUICK)


def test_doubles_are_written_as_by_node() -> None:
    compare_with_node(QUICK)


def test_doubles_are_written_as_by_the_second_verifier(independent: ModuleType) -> None:
    compare_with_the_second_verifier(independent, QUICK)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_million_doubles_are_written_as_by_rfc8785() -> None:
    compare_with_rfc8785(FULL)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_million_doubles_are_written_as_by_node() -> None:
    compare_with_node(FULL)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_million_doubles_are_written_as_by_the_second_verifier(independent: ModuleType) -> None:
    compare_with_the_second_verifier(independent, FULL)


def test_documents_are_written_as_by_rfc8785() -> None:
    other = pytest.importorskip("rfc8785", reason="rfc8785 is not installed: no second writer")
    rng = random.Random(42)  # noqa: S311 - repeatable on purpose
    alphabet = 'ab"\\\n\x00\x1f\x7f\u00e9\u20ac\u2028\ud7ff\ue000\ufb33\U0001f600\U0010fffd'
    for _ in range(2_000):
        names = ["".join(rng.choices(alphabet, k=rng.randrange(5))) for _ in range(8)]
        value = {name: [rng.random(), name, None, {name: True}] for name in names}
        data = canonicalize(value)
        assert data == other.dumps(value)
        assert json.loads(data) == value
