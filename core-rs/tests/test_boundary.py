"""Whatever Python can pass to a public function: an answer, or `TheoryError` and nothing else."""

import array
import collections
import ctypes
import datetime as dt
import decimal
import enum
import fractions
import io
import itertools
import math
import mmap
import pathlib
import sys
import types
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import theory_core
from theory_core import Chain, Hasher, RunProtocol, Selector, TheoryError, WorldPath

PATH = "/world/acme/p1/artifacts/a/"
ID = "x9cde726e5f7834b68580a5e33f0f1aa0"
EVENT = {
    "v": "theory.event.v1",
    "plan": "/world/acme/p1",
    "seq": 1,
    "at": "2026-11-21T04:25:00.000000Z",
    "kind": "plan.paused",
    "data": {},
}
FINGERPRINT = "cpu:1"
ACK = b'{"content":{"execution_id":"x9cde726e5f7834b68580a5e33f0f1aa0","state":"running"}}'

Call = tuple[Callable[..., object], list[Any], dict[str, Any]]

CALLS: dict[str, Call] = {
    "Chain": (Chain, [None], {"plan": "/world/acme/p1"}),
    "Chain.append": (lambda events: Chain().append(events), [[EVENT]], {}),
    "Chain.append.event": (lambda event: Chain().append([event]), [EVENT], {}),
    "Hasher.update": (lambda data: Hasher().update(data), [b"x"], {}),
    "RunProtocol": (RunProtocol, ["client"], {}),
    "RunProtocol.receive": (lambda frame: RunProtocol("client").receive(frame), [ACK], {}),
    "RunProtocol.send": (
        lambda *given, **named: RunProtocol("client").send(*given, **named),
        ["RunOpen", {"role": "client", "execution_id": ID, "payload": {}}],
        {"seq": None},
    ),
    "Selector": (Selector, ["prefix", PATH, None], {}),
    "Selector.contains": (Selector("prefix", PATH).contains, [Selector("prefix", PATH)], {}),
    "Selector.overlaps": (Selector("prefix", PATH).overlaps, [Selector("prefix", PATH)], {}),
    "Selector.__eq__": (Selector("prefix", PATH).__eq__, [None], {}),
    "WorldPath": (WorldPath, [PATH, None], {}),
    "WorldPath.root": (lambda root: WorldPath("/artifacts/a", root), ["/world/acme/p1"], {}),
    "WorldPath.join": (WorldPath(PATH).join, ["b"], {}),
    "WorldPath.contains": (WorldPath(PATH).contains, [WorldPath(PATH)], {}),
    "WorldPath.overlaps": (WorldPath(PATH).overlaps, [WorldPath(PATH)], {}),
    "WorldPath.__eq__": (WorldPath(PATH).__eq__, [None], {}),
    "canonicalize": (theory_core.canonicalize, [{}], {}),
    "canonicalize_json": (theory_core.canonicalize_json, [b"{}"], {}),
    "check_outputs": (theory_core.check_outputs, [[WorldPath(PATH)]], {}),
    "check_outputs.path": (lambda path: theory_core.check_outputs([path]), [WorldPath(PATH)], {}),
    "check_writable": (theory_core.check_writable, [Selector("prefix", PATH)], {}),
    "digest": (theory_core.digest, [b"x"], {}),
    "digest_file": (theory_core.digest_file, [__file__], {"threads": 1}),
    "encode_frame": (theory_core.encode_frame, ["Token", {"text": "a"}], {"seq": 1}),
    "error_envelope": (
        theory_core.error_envelope,
        [ID, "ERR_INPUTS"],
        {"env_fingerprint": FINGERPRINT, "reason": None, "stderr_tail": None},
    ),
    "event_hash": (theory_core.event_hash, [None, EVENT], {}),
    "execution_id": (theory_core.execution_id, ["/world/acme/p1", "t", 1], {}),
    "expand_prefix": (theory_core.expand_prefix, [PATH + "{execution_id}/", ID, None], {}),
    "inputs_hash": (theory_core.inputs_hash, [{}], {}),
    "is_name": (theory_core.is_name, ["a"], {}),
    "loads_strict": (theory_core.loads_strict, [b"{}"], {}),
    "resolve_outputs": (theory_core.resolve_outputs, [WorldPath(PATH), ["a"]], {}),
    "resolve_outputs.rel": (lambda r: theory_core.resolve_outputs(WorldPath(PATH), [r]), ["a"], {}),
    "success_envelope": (
        theory_core.success_envelope,
        [ID, []],
        {"write_prefix": PATH, "env_fingerprint": FINGERPRINT, "image_digest": None},
    ),
    "success_envelope.output": (
        lambda output: theory_core.success_envelope(
            ID, [output], write_prefix=PATH, env_fingerprint=FINGERPRINT
        ),
        [{}],
        {},
    ),
    "validate_envelope": (
        theory_core.validate_envelope,
        [{}],
        {"execution_id": None, "write_prefix": None, "expected_digest": None},
    ),
    "validate_frame": (theory_core.validate_frame, [ACK], {"direction": "client"}),
    "verify": (
        theory_core.verify,
        [b""],
        {
            "expect_head": None,
            "expect_prev": None,
            "laws": False,
            "allow_empty": False,
            "threads": None,
        },
    ),
}

NO_INPUT = {"ErrorCode", "Fault", "Report", "TheoryError"}
"""What the core answers with; it alone fills them."""


class Shout(Exception):  # noqa: N818 - what hostile code raises
    """Never to be seen behind a public function."""


def shout(*_: object, **__: object) -> Any:  # noqa: ANN401 - never returns
    raise Shout


LOUD = (
    *("__iter__", "__next__", "__len__", "__getitem__", "__contains__", "__bool__", "__call__"),
    *("__eq__", "__ne__", "__lt__", "__str__", "__repr__", "__format__", "__bytes__", "__fspath__"),
    *("__index__", "__int__", "__float__", "keys", "items", "values", "read", "encode", "decode"),
)


def loud(base: type, *given: Any) -> object:  # noqa: ANN401 - any arguments
    """An instance of a subclass each of whose methods raises."""
    methods = dict.fromkeys(LOUD, shout) | {"__hash__": base.__hash__}
    return type(f"Loud{base.__name__}", (base,), methods)(*given)


Liar = type("Liar", (), {"__class__": property(lambda _: str)})
ClassShouts = type("ClassShouts", (), {"__class__": property(shout)})


class Shade(enum.IntEnum):
    DARK = 3


def nest(depth: int, wrap: Callable[[object], object]) -> object:
    value: object = 0
    for _ in range(depth):
        value = wrap(value)
    return value


def cyclic() -> list[object]:
    value: list[object] = []
    value.append({"x": (value,)})
    return value


def released() -> memoryview:
    view = memoryview(b"abc")
    view.release()
    return view


def closed(file: Any) -> object:  # noqa: ANN401 - any file object
    file.close()
    return file


def raising() -> Iterator[object]:
    yield b"x"
    raise Shout


class Reader:
    def __init__(self, answer: object) -> None:
        self.answer = answer

    def read(self, _size: int, /) -> object:
        answer, self.answer = self.answer, b""
        return answer


class PathTo:
    def __init__(self, answer: object) -> None:
        self.answer = answer

    def __fspath__(self) -> object:
        return self.answer


HOSTILE: dict[str, Callable[[], object]] = {
    "none": lambda: None,
    "true": lambda: True,
    "minus one": lambda: -1,
    "2**53": lambda: 2**53,
    "2**63": lambda: 2**63,
    "2**64": lambda: 2**64,
    "huge": lambda: 10**5000,
    "minus huge": lambda: -(10**400),
    "minus zero": lambda: -0.0,
    "nan": lambda: math.nan,
    "infinity": lambda: math.inf,
    "complex": lambda: 1j,
    "empty str": str,
    "surrogate": lambda: "/artifacts/\ud800",
    "nul": lambda: "a\0b",
    "long str": lambda: "x" * 100_000,
    "long path": lambda: PATH + "\u0301" * 5000,
    "empty bytes": bytes,
    "no utf-8": lambda: b"\xff" * 40,
    "bytearray": lambda: bytearray(b"{}"),
    "view": lambda: memoryview(b"{}"),
    "strided view": lambda: memoryview(b"{ }x")[::2],
    "wide view": lambda: memoryview(array.array("d", [1.0])),
    "released view": released,
    "array": lambda: array.array("u", "ab"),
    "ctypes": ctypes.c_int * 3,
    "mmap": lambda: mmap.mmap(-1, 16),
    "empty list": list,
    "list of none": lambda: [None],
    "mixed list": lambda: ["a", b"b", 1, None],
    "cycle": cyclic,
    "deep list": lambda: nest(10_000, lambda inner: [inner]),
    "deep tuple": lambda: nest(10_000, lambda inner: (inner,)),
    "deep dict": lambda: nest(10_000, lambda inner: {"a": inner}),
    "deep text": lambda: b"[" * 10_000,
    "surrogate key": lambda: {"\udfff": 1},
    "int key": lambda: {1: 1, None: 2},
    "generator": lambda: (item for item in [b"x"]),
    "raising generator": raising,
    "endless": lambda: itertools.repeat(7),
    "set": lambda: {1, "a"},
    "range": lambda: range(3),
    "deque": lambda: collections.deque([1]),
    "proxy": lambda: types.MappingProxyType({"a": 1}),
    "user dict": lambda: collections.UserDict(a=1),
    "object": object,
    "class": lambda: int,
    "function": lambda: shout,
    "module": lambda: sys,
    "exception": Shout,
    "ellipsis": lambda: ...,
    "not implemented": lambda: NotImplemented,
    "decimal": lambda: decimal.Decimal("1.5"),
    "fraction": lambda: fractions.Fraction(1, 3),
    "datetime": lambda: dt.datetime(2026, 1, 1, tzinfo=dt.UTC),
    "enum": lambda: Shade.DARK,
    "pathlib": lambda: pathlib.Path("/nowhere/at/all"),
    "fspath of int": lambda: PathTo(7),
    "fspath of bytes": lambda: PathTo(b"/nowhere"),
    "fspath of surrogate": lambda: PathTo("/nowhere\ud800"),
    "text file": lambda: io.StringIO("x"),
    "closed file": lambda: closed(io.BytesIO(b"x")),
    "reader of str": lambda: Reader("x"),
    "reader of none": lambda: Reader(None),
    "world path": lambda: WorldPath(PATH),
    "selector": lambda: Selector("prefix", PATH),
    "pair": lambda: (1, "b3:" + "17" * 32),
    "odd pair": lambda: (10**400, "\ud800"),
    "liar": Liar,
    "class shouts": ClassShouts,
    "loud object": lambda: loud(object),
    "loud str": lambda: loud(str, "a"),
    "loud bytes": lambda: loud(bytes, b"a"),
    "loud int": lambda: loud(int, 1),
    "loud float": lambda: loud(float, 1.5),
    "loud list": lambda: loud(list, [1]),
    "loud tuple": lambda: loud(tuple, (1, "b3:" + "17" * 32)),
    "loud dict": lambda: loud(dict, EVENT),
    "loud bytearray": lambda: loud(bytearray, b"{}"),
    "loud path": lambda: loud(pathlib.PurePosixPath, "/nowhere"),
}


def only_theory_errors(call: Callable[..., object], *given: object, **named: object) -> None:
    codes = theory_core.ERROR_CODES.keys()
    try:
        call(*given, **named)
    except TheoryError as refusal:
        code = refusal.code
    else:
        return
    assert code in codes


def places() -> list[Any]:
    return [
        pytest.param(name, place, id=f"{name}-{place}")
        for name, (_, given, named) in CALLS.items()
        for place in [*range(len(given)), *named]
    ]


def pass_at(name: str, place: int | str, hostile: object) -> None:
    call, given, named = CALLS[name]
    given, named = given.copy(), named.copy()
    if isinstance(place, int):
        given[place] = hostile
    else:
        named[place] = hostile
    only_theory_errors(call, *given, **named)


def test_every_public_name_that_takes_something_is_attacked() -> None:
    takes = {
        name
        for name in theory_core.__all__
        if callable(getattr(theory_core, name)) and name not in NO_INPUT
    }
    assert takes - {"Hasher"} <= CALLS.keys()
    for kind in (Chain, Hasher, RunProtocol, Selector, WorldPath):
        methods = {f"{kind.__name__}.{name}" for name in vars(kind) if not name.startswith("_")}
        data = {f"{kind.__name__}.{name}" for name, it in vars(kind).items() if not callable(it)}
        assert methods - data - {"Hasher.digest"} <= CALLS.keys()


@pytest.mark.scenario(45)
@pytest.mark.parametrize(("name", "place"), places())
def test_one_exception_type_comes_out(name: str, place: int | str) -> None:
    for hostile in HOSTILE.values():
        pass_at(name, place, hostile())


@pytest.mark.parametrize("hostile", HOSTILE.values(), ids=HOSTILE)
def test_one_exception_type_comes_out_of_the_inside_too(hostile: Callable[[], object]) -> None:
    for wrap in (
        lambda inner: [inner],
        lambda inner: {"a": inner},
        lambda inner: EVENT | {"data": {"a": inner}},
        lambda inner: EVENT | {"seq": inner},
        lambda inner: {"content": inner},
    ):
        for name in ("canonicalize", "Chain.append.event", "event_hash", "validate_envelope"):
            pass_at(name, len(CALLS[name][1]) - 1, wrap(hostile()))
        pass_at("encode_frame", 1, wrap(hostile()))


def numpy_values() -> list[object]:
    numpy = pytest.importorskip("numpy", reason="numpy is not installed: its scalars go untested")
    scalars = [kind(1) for kind in (numpy.int8, numpy.uint64, numpy.float16, numpy.float32)]
    scalars += [numpy.float64(math.nan), numpy.float64(0.5), numpy.bool_(1), numpy.str_("a")]
    scalars += [numpy.bytes_(b"{}"), numpy.datetime64("2026-01-01"), numpy.longdouble(1)]
    arrays = [numpy.zeros(3), numpy.zeros((2, 2), dtype="u1"), numpy.zeros(4, dtype="u1")[::2]]
    return [*scalars, *arrays, numpy.array([object()]), numpy.array(7), numpy.ma.masked]


@pytest.mark.scenario(40)
@pytest.mark.parametrize(("name", "place"), places())
def test_numpy_is_no_exception(name: str, place: int | str) -> None:
    for hostile in numpy_values():
        pass_at(name, place, hostile)


def test_numpy_scalars_count_as_the_base_that_they_are() -> None:
    numpy = pytest.importorskip("numpy", reason="numpy is not installed: its scalars go untested")
    assert theory_core.canonicalize([numpy.float64(0.5), numpy.str_("a")]) == b'[0.5,"a"]'
    for other in (numpy.int64(1), numpy.float32(1), numpy.bool_(1), numpy.zeros(1)):
        with pytest.raises(TheoryError, match="ERR_JSON_TYPE"):
            theory_core.canonicalize(other)
    with pytest.raises(TheoryError, match="ERR_JSON_NUMBER"):
        theory_core.canonicalize(numpy.float64(math.nan))


def test_a_wrong_number_of_arguments_is_the_one_type_error() -> None:
    for name in ("canonicalize", "digest", "verify", "validate_frame"):
        with pytest.raises(TypeError):
            CALLS[name][0]()
