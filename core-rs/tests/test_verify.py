"""The verifier: every source, every fault, every byte."""

import io
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from theory_core import Chain, Report, TheoryError, verify

VECTORS = Path(__file__).parents[1] / "vectors" / "chain" / "export.json"
CASES = [
    case
    for group in json.loads(VECTORS.read_text(encoding="ascii"))["testGroups"]
    for case in group["tests"]
]


def lines(count: int) -> tuple[list[bytes], list[tuple[int, str]]]:
    """Lines of an export, and the head after each."""
    events = [
        {
            "v": "theory.event.v1",
            "plan": "/world/acme/p1",
            "seq": seq,
            "at": f"2026-11-21T04:25:00.{seq:06d}Z",
            "kind": "budget.reserved",
            "data": {"transition": f"é{seq}", "hold": {"cpu_ms": seq}, "text": '"\\\n'},
        }
        for seq in range(1, count + 1)
    ]
    sealed = Chain().append(events)
    written = [
        b'{"event":' + body + b',"hash":"' + stated.encode() + b'"}\n' for body, stated in sealed
    ]
    return written, [(seq, stated) for seq, (_, stated) in enumerate(sealed, start=1)]


LINES, HEADS = lines(12)
EXPORT = b"".join(LINES)


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"export-{case['tcId']}")
def test_an_export_is_sound_or_names_its_fault(case: dict[str, Any]) -> None:
    def pair(name: str) -> Any:  # noqa: ANN401 - what a case gives
        given = case.get(name)
        return tuple(given) if isinstance(given, list) else given

    report = verify(
        case["export"].encode(),
        expect_head=pair("expect_head"),
        expect_prev=pair("expect_prev"),
        allow_empty=case.get("allow_empty", False),
    )
    assert report.count == case["count"]
    assert report.ok == (case["result"] == "valid")
    if report.fault is None:
        assert (report.head, report.anchored) == (pair("head"), case["anchored"])
        return
    found = {"seq": report.fault.seq, "line": report.fault.line, "reason": report.fault.reason}
    assert found == case["fault"]
    assert not report.anchored
    assert report.fault.reason in report.verdict


@pytest.mark.scenario(23)
def test_without_a_head_from_outside_nothing_is_called_verified() -> None:
    assert verify(EXPORT).verdict == "12 events, internally consistent, not anchored"
    assert verify(LINES[:1]).verdict == "1 event, internally consistent, not anchored"
    anchored = verify(EXPORT, expect_head=HEADS[-1])
    assert anchored.verdict == "12 events, internally consistent, anchored at seq 12"
    broken = verify(EXPORT.replace(b'"cpu_ms":7', b'"cpu_ms":8'))
    assert broken.verdict == "broken at seq 7 (line 7): hash, after 6 events"
    reports = [verify(EXPORT), anchored, broken]
    assert not any("verified" in report.verdict for report in reports)


def sources(folder: Path) -> Iterator[object]:
    path = folder / "export.ndjson"
    path.write_bytes(EXPORT)
    yield path
    yield str(path)
    yield EXPORT
    yield bytearray(EXPORT)
    yield memoryview(EXPORT)
    yield io.BytesIO(EXPORT)
    yield LINES
    yield (line for line in LINES)
    yield [line.removesuffix(b"\n") for line in LINES]
    yield EXPORT.decode().splitlines(keepends=True)


def test_every_source_gives_the_same_report(tmp_path: Path) -> None:
    expected = Report(12, HEADS[-1], anchored=False, fault=None, verdict=verify(EXPORT).verdict)
    for source in sources(tmp_path):
        assert verify(source) == expected  # type: ignore[arg-type]
    with (tmp_path / "export.ndjson").open("rb") as file:
        assert verify(file) == expected


@pytest.mark.parametrize("threads", [None, 1, 2, 64])
def test_threads_never_change_the_report(threads: int | None) -> None:
    many, heads = lines(3000)
    assert verify(many, expect_head=heads[-1], threads=threads).anchored
    many[1999] = many[1999].replace(b'"cpu_ms":2000', b'"cpu_ms":2001')
    fault = verify(b"".join(many), threads=threads).fault
    assert fault is not None
    assert (fault.seq, fault.line, fault.reason) == (2000, 2000, "hash")


@pytest.mark.scenario(21)
@settings(deadline=None)
@given(place=st.integers(0, len(EXPORT) - 1), mask=st.integers(1, 255), anchor=st.booleans())
def test_any_changed_byte_names_the_seq_of_its_line(place: int, mask: int, anchor: bool) -> None:  # noqa: FBT001 - drawn
    damaged = bytearray(EXPORT)
    damaged[place] ^= mask
    seq = EXPORT[:place].count(b"\n") + 1
    report = verify(bytes(damaged), expect_head=HEADS[-1] if anchor else None)
    assert report.fault is not None
    assert (report.fault.seq, report.fault.line, report.count) == (seq, seq, seq - 1)


@settings(deadline=None)
@given(st.binary(max_size=300))
def test_bytes_that_are_no_export_are_a_fault(data: bytes) -> None:
    assert not verify(data).ok


def test_a_line_feed_inside_a_line_is_a_fault_of_that_line() -> None:
    fault = verify([LINES[0], LINES[1] + LINES[2]]).fault
    assert fault is not None
    assert (fault.seq, fault.reason) == (2, "syntax")


def test_a_lone_surrogate_in_a_line_is_a_fault_of_the_export() -> None:
    fault = verify([LINES[0].decode(), "\ud800"]).fault
    assert fault is not None
    assert (fault.seq, fault.reason) == (2, "syntax")


def test_reading_stops_at_the_first_fault() -> None:
    def endless() -> Iterator[bytes]:
        yield LINES[0]
        while True:
            yield LINES[2] * 40_000

    fault = verify(endless()).fault
    assert fault is not None
    assert fault.seq == 2


@pytest.mark.parametrize(
    "source",
    [None, 7, io.StringIO("text"), [7], object()],
    ids=lambda source: type(source).__name__,
)
def test_a_source_that_is_none_is_refused(source: object) -> None:
    with pytest.raises(TheoryError) as refusal:
        verify(source)  # type: ignore[arg-type]
    assert refusal.value.code == "ERR_INPUTS"


@pytest.mark.parametrize(
    "options",
    [
        {"expect_head": "b3:" + "17" * 32},
        {"expect_head": (0, "b3:" + "17" * 32)},
        {"expect_head": (1, "17" * 32)},
        {"expect_prev": 7},
        {"expect_prev": (1, 2)},
        {"threads": 0},
        {"threads": -1},
        {"threads": "2"},
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(TheoryError) as refusal:
        verify(EXPORT, **options)
    assert refusal.value.code == "ERR_INPUTS"


def test_a_file_that_cannot_be_read_is_no_verdict(tmp_path: Path) -> None:
    for path, code in (
        (tmp_path / "none", "ERR_NOT_FOUND"),
        (tmp_path, "ERR_STORAGE"),
        ("a\0b", "ERR_STORAGE"),
    ):
        with pytest.raises(TheoryError) as refusal:
            verify(path)
        assert refusal.value.code == code


def test_a_reader_that_fails_is_no_verdict() -> None:
    class Failing(io.RawIOBase):
        def read(self, size: int = -1, /) -> bytes:
            raise OSError(size)

    with pytest.raises(TheoryError) as refusal:
        verify(Failing())
    assert refusal.value.code == "ERR_STORAGE"


def test_a_large_export_is_read_in_bounded_memory(tmp_path: Path) -> None:
    path = tmp_path / "large.ndjson"
    path.write_bytes(b"".join(lines(150_000)[0]))
    program = (
        "import resource, sys, theory_core\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "report = theory_core.verify(sys.argv[1], threads=2)\n"
        "after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "print(report.count, after - before)\n"
    )
    answer = subprocess.run(
        [sys.executable, "-c", program, str(path)], check=True, capture_output=True, text=True
    )
    count, grown_kib = map(int, answer.stdout.split())
    assert count == 150_000
    assert path.stat().st_size > 40 << 20
    assert grown_kib < 24 << 10


def test_a_process_verifies_after_a_fork_of_one_that_did() -> None:
    program = (
        "import os, sys, theory_core\n"
        "data = sys.stdin.buffer.read()\n"
        "assert theory_core.verify(data).ok\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    os._exit(0 if theory_core.verify(data).ok else 1)\n"
        "sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))\n"
    )
    data = b"".join(lines(2000)[0])
    subprocess.run([sys.executable, "-c", program], input=data, check=True, timeout=30)
