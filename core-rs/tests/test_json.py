"""The object door of canonical JSON: Python values, and whatever else gets passed."""

import collections
import decimal
import enum
import gc
import math
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from theory_core import TheoryError, canonicalize, canonicalize_json, inputs_hash, loads_strict

SAFE = 2**53 - 1
NONCHARACTERS = {
    *range(0xFDD0, 0xFDF0),
    *(p + low for p in range(0xFFFE, 0x110000, 0x10000) for low in (0, 1)),
}


class Shade(enum.IntEnum):
    DARK = 3


class Tone(enum.StrEnum):
    LOW = "low"


class Pair(NamedTuple):
    a: int
    b: int


class Text(str):
    """Equal to nothing but itself, so that a dict can hold two of one text."""

    __slots__ = ()

    __hash__ = object.__hash__

    def __eq__(self, other: object) -> bool:
        return self is other


class LyingDict(dict[str, int]):
    def items(self) -> list[tuple[str, int]]:  # type: ignore[override]
        return [("lie", 1)]

    def __iter__(self) -> Iterator[str]:
        return iter(["lie"])


class LyingList(list[int]):
    def __iter__(self) -> Iterator[int]:
        return iter([666])

    def __len__(self) -> int:
        return 0


class LyingStr(str):
    __slots__ = ()

    def __str__(self) -> str:
        return "lie"

    def encode(self, *_: object) -> bytes:
        return b"lie"


class LyingInt(int):
    def __index__(self) -> int:
        return 666

    def __int__(self) -> int:
        return 666


class LyingFloat(float):
    def __float__(self) -> float:
        return math.nan


def nested(depth: int) -> object:
    value: object = 0
    for _ in range(depth):
        value = [value]
    return value


def cycle() -> list[Any]:
    value: list[Any] = []
    value.append({"x": (value,)})
    return value


@pytest.mark.scenario(43)
@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, b"null"),
        (True, b"true"),
        (1.0, b"1"),
        (-0.0, b"0"),
        (1e21, b"1e+21"),
        (2.0**53, b"9007199254740992"),
        (SAFE, b"9007199254740991"),
        (-SAFE, b"-9007199254740991"),
        ((1, [2], ()), b"[1,[2],[]]"),
        ({"b": 1, "a": {"": 0}}, b'{"a":{"":0},"b":1}'),
        ({"\ufb33": 1, "\U0001f600": 2}, '{"\U0001f600":2,"\ufb33":1}'.encode()),
        ('"\\\n\x00\x7f\u2028', '"\\"\\\\\\n\\u0000\x7f\u2028"'.encode()),
        ([Shade.DARK, Tone.LOW, Pair(1, 2)], b'[3,"low",[1,2]]'),
        (collections.OrderedDict(z=1, y=2), b'{"y":2,"z":1}'),
        (collections.defaultdict(int, a=1), b'{"a":1}'),
        (LyingDict(a=1), b'{"a":1}'),
        (LyingList([1, 2]), b"[1,2]"),
        (LyingStr("a"), b'"a"'),
        ({LyingStr("a"): 1}, b'{"a":1}'),
        (LyingInt(7), b"7"),
        (LyingFloat(0.5), b"0.5"),
        (nested(256), b"[" * 256 + b"0" + b"]" * 256),
    ],
    ids=repr,
)
def test_a_value_has_one_canonical_form(value: object, expected: bytes) -> None:
    assert canonicalize(value) == expected
    assert canonicalize_json(expected) == expected


@pytest.mark.scenario(40, 43)
@pytest.mark.parametrize(
    ("value", "code"),
    [
        (math.nan, "ERR_JSON_NUMBER"),
        (math.inf, "ERR_JSON_NUMBER"),
        ([-math.inf], "ERR_JSON_NUMBER"),
        (SAFE + 1, "ERR_JSON_NUMBER"),
        (-SAFE - 1, "ERR_JSON_NUMBER"),
        (2**63, "ERR_JSON_NUMBER"),
        (10**400, "ERR_JSON_NUMBER"),
        (b"bytes", "ERR_JSON_TYPE"),
        (bytearray(), "ERR_JSON_TYPE"),
        ({1, 2}, "ERR_JSON_TYPE"),
        (frozenset(), "ERR_JSON_TYPE"),
        (1j, "ERR_JSON_TYPE"),
        (decimal.Decimal(1), "ERR_JSON_TYPE"),
        (object(), "ERR_JSON_TYPE"),
        ((x for x in [1]), "ERR_JSON_TYPE"),
        (range(3), "ERR_JSON_TYPE"),
        ({"a": 1}.items(), "ERR_JSON_TYPE"),
        (int, "ERR_JSON_TYPE"),
        ({1: 2}, "ERR_JSON_TYPE"),
        ({None: 2}, "ERR_JSON_TYPE"),
        ({("a",): 2}, "ERR_JSON_TYPE"),
        ({b"a": 2}, "ERR_JSON_TYPE"),
        ("\ud800", "ERR_JSON_UNICODE"),
        ({"\udfff": 1}, "ERR_JSON_UNICODE"),
        ("\ud83d\ude00", "ERR_JSON_UNICODE"),
        ("a\ufffe", "ERR_JSON_UNICODE"),
        ({"\U0010ffff": 1}, "ERR_JSON_UNICODE"),
        ({Text("a"): 1, Text("a"): 2}, "ERR_JSON_DUPLICATE"),
        (nested(257), "ERR_JSON_DEPTH"),
        (nested(100_000), "ERR_JSON_DEPTH"),
        (cycle(), "ERR_JSON_DEPTH"),
    ],
    ids=lambda value: value if isinstance(value, str) and value.isupper() else type(value).__name__,
)
def test_a_value_without_a_form_is_refused_with_its_code(value: object, code: str) -> None:
    for door in (canonicalize, inputs_hash):
        with pytest.raises(TheoryError) as refusal:
            door(value)
        assert refusal.value.code == code
        assert isinstance(refusal.value, ValueError)


@pytest.mark.parametrize("data", [None, 1, [], {}, object(), bytearray(b"1"), memoryview(b"1")])
def test_the_text_door_takes_bytes_and_str_only(data: object) -> None:
    for door in (canonicalize_json, loads_strict):
        with pytest.raises(TheoryError, match="ERR_JSON_TYPE"):
            door(data)  # type: ignore[arg-type]


def test_a_str_with_a_lone_surrogate_is_refused_at_the_text_door() -> None:
    with pytest.raises(TheoryError, match="ERR_JSON_UNICODE"):
        canonicalize_json('"\ud800"')


@pytest.mark.scenario(43)
def test_a_metaclass_that_raises_changes_nothing() -> None:
    class Meta(type):
        @property
        def __name__(cls) -> str:  # type: ignore[override]
            raise RuntimeError

    class Odd(metaclass=Meta):
        pass

    with pytest.raises(TheoryError, match="ERR_JSON_TYPE"):
        canonicalize([Odd()])


@pytest.mark.scenario(38)
def test_errors_repeat_no_input() -> None:
    canary = "CANARY"
    for value in ({canary: math.nan}, [canary, b"CANARY"], {canary: "\ud800"}):
        with pytest.raises(TheoryError) as refusal:
            canonicalize(value)
        assert canary not in f"{refusal.value} {refusal.value.detail}"
    with pytest.raises(TheoryError) as refusal:
        canonicalize_json(f'{{"{canary}":1,"{canary}":2}}')
    assert canary not in f"{refusal.value} {refusal.value.detail}"


def test_loaded_values_have_plain_python_types_in_the_order_read() -> None:
    value = loads_strict(b'{"b":[1,2.0,null,true,"\\u00e9"],"a":{},"c":9007199254740992}')
    assert list(value) == ["b", "a", "c"]
    assert [type(item) for item in value["b"]] == [int, float, type(None), bool, str]
    assert isinstance(value["c"], float)
    assert value == {"b": [1, 2.0, None, True, "é"], "a": {}, "c": 2.0**53}


@pytest.mark.scenario(41)
def test_a_hostile_text_is_refused_quickly() -> None:
    hostile = [b"[" * 10_000, b'{"a":' * 10_000, b"1" * 1_000_000, b"0." + b"1" * 1_000_000 + b"e"]
    for text in hostile:
        start = time.process_time()
        with pytest.raises(TheoryError):
            canonicalize_json(text)
        assert time.process_time() - start < 0.5


@pytest.mark.scenario(41)
def test_many_members_and_long_texts_are_no_problem() -> None:
    members = {f"n{index}": index for index in range(100_000)}
    assert loads_strict(canonicalize(members)) == members
    text = "x" * (16 << 20)
    assert canonicalize(text) == f'"{text}"'.encode()


@pytest.mark.scenario(44)
def test_values_that_others_change_meanwhile_give_bytes_or_an_error() -> None:
    shared: dict[str, Any] = {"list": list(range(50)), "dict": {}}
    stop = threading.Event()

    def change() -> None:
        count = 0
        while not stop.is_set():
            count += 1
            shared["list"].append({"x": "y" * 50})
            shared["dict"][f"k{count % 97}"] = [count]
            if count % 61 == 0:
                shared["list"] = []
                shared["dict"].clear()

    switch = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    threads = [threading.Thread(target=change) for _ in range(2)]
    try:
        for thread in threads:
            thread.start()
        for _ in range(2_000):
            data = canonicalize(shared)
            assert canonicalize_json(data) == data
    finally:
        stop.set()
        for thread in threads:
            thread.join()
        sys.setswitchinterval(switch)


def test_references_are_given_back() -> None:
    item = object()
    name = "a name that is not interned"
    value = {name: [item]}
    before = sys.getrefcount(item), sys.getrefcount(name)
    for _ in range(100):
        with pytest.raises(TheoryError):
            canonicalize(value)
    gc.collect()
    assert (sys.getrefcount(item), sys.getrefcount(name)) == before


texts = st.text().filter(lambda text: not any(ord(c) in NONCHARACTERS for c in text))
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-SAFE, SAFE)
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts
)
values = st.recursive(
    scalars, lambda inner: st.lists(inner) | st.dictionaries(texts, inner), max_leaves=30
)


@given(values)
def test_both_doors_agree_on_every_value(value: object) -> None:
    data = canonicalize(value)
    assert canonicalize_json(data) == data
    assert canonicalize(loads_strict(data)) == data
    assert loads_strict(data) == value


anything = st.recursive(
    scalars
    | st.integers()
    | st.floats()
    | st.binary()
    | st.text(st.characters(exclude_categories=())),
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(st.text(st.characters(exclude_categories=())) | st.integers(), inner)
        | st.sets(st.integers())
    ),
    max_leaves=10,
)


def outcome(door: Callable[..., bytes], value: object) -> bytes | str:
    """Bytes, or the code of the refusal; any other exception passes through."""
    try:
        return door(value)
    except TheoryError as refusal:
        return refusal.code


@given(anything)
def test_whatever_is_passed_gives_bytes_or_the_one_exception(value: object) -> None:
    data = outcome(canonicalize, value)
    if isinstance(data, str):
        assert data.startswith("ERR_JSON_")
    else:
        assert canonicalize_json(data) == data


@pytest.mark.scenario(45)
@given(st.binary() | st.text(st.characters(exclude_categories=())))
def test_whatever_text_is_read_gives_bytes_or_the_one_exception(text: bytes | str) -> None:
    data = outcome(canonicalize_json, text)
    if isinstance(data, str):
        assert data.startswith("ERR_JSON_")
    else:
        assert canonicalize(loads_strict(text)) == data
