"""`theory-core verify`, run as a process."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from theory_core import Chain

PROGRAM = "import sys; from theory_core.cli import main; sys.exit(main())"


def run(*arguments: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-W", "error", "-c", PROGRAM, "verify", *arguments]
    return subprocess.run(command, input=stdin, capture_output=True, check=False)


def export(folder: Path) -> tuple[Path, list[str]]:
    events = [
        {
            "v": "theory.event.v1",
            "plan": "/world/acme/p1",
            "seq": seq,
            "at": "2026-11-21T04:25:00.123456Z",
            "kind": "plan.paused",
            "data": {"by": "local", "reason": "because"},
        }
        for seq in range(1, 4)
    ]
    sealed = Chain().append(events)
    lines = [b'{"event":%s,"hash":"%s"}\n' % (body, stated.encode()) for body, stated in sealed]
    path = folder / "export.ndjson"
    path.write_bytes(b"".join(lines))
    return path, [stated for _, stated in sealed]


def test_a_sound_export_is_consistent_but_not_anchored(tmp_path: Path) -> None:
    path, _ = export(tmp_path)
    for result in (run(str(path)), run("-", stdin=path.read_bytes())):
        assert (result.returncode, result.stderr) == (0, b"")
        assert result.stdout == b"3 events, internally consistent, not anchored\n"


def test_a_head_from_outside_anchors(tmp_path: Path) -> None:
    path, hashes = export(tmp_path)
    result = run(str(path), "--expect-head", f"3:{hashes[2]}", "--threads", "1", "--json")
    assert result.returncode == 0
    assert json.loads(result.stdout) == {
        "anchored": True,
        "count": 3,
        "fault": None,
        "head": [3, hashes[2]],
        "laws": "not asked",
        "verdict": "3 events, internally consistent, anchored at seq 3",
    }


@pytest.mark.scenario(21)
def test_a_broken_export_names_the_seq(tmp_path: Path) -> None:
    path, _ = export(tmp_path)
    data = path.read_bytes().replace(b'"seq":2', b'"seq":4')
    result = run("-", stdin=data)
    assert (result.returncode, result.stderr) == (1, b"")
    assert result.stdout == (
        b"broken at seq 2 (line 2): gap (the line is of seq 4), after 1 event\n"
    )
    answer = json.loads(run("-", "--json", stdin=data).stdout)
    assert answer["fault"] == {
        "law": None,
        "line": 2,
        "member": None,
        "reason": "gap",
        "seq": 2,
    }


def test_laws_are_judged_when_asked_for(tmp_path: Path) -> None:
    path, hashes = export(tmp_path)
    result = run(str(path), "--laws")
    words = b"law plan-created (a ledger begins with its one plan.created)"
    assert (result.returncode, result.stderr) == (1, b"")
    assert result.stdout == b"broken at seq 1 (line 1): " + words + b", after 0 events\n"
    answer = json.loads(run(str(path), "--laws", "--json").stdout)
    assert answer["laws"] == "judged"
    assert (answer["fault"]["seq"], answer["fault"]["law"]) == (1, "plan-created")
    refused = run(str(path), "--laws", "--expect-prev", hashes[0])
    assert (refused.returncode, refused.stdout) == (2, b"")
    assert b"--laws judges from the first event on" in refused.stderr


def test_a_part_is_judged_behind_the_event_before_it(tmp_path: Path) -> None:
    path, hashes = export(tmp_path)
    part = path.read_bytes().split(b"\n", 1)[1]
    words = b"a part from seq 2 on needs the hash before it, and laws need the first event"
    for laws in ((), ("--laws",)):
        broken = run("-", *laws, stdin=part)
        assert broken.returncode == 1
        assert broken.stdout == b"broken at seq 1 (line 1): gap (" + words + b"), after 0 events\n"
    for prev in (hashes[0], f"1:{hashes[0]}"):
        assert run("-", "--expect-prev", prev, stdin=part).returncode == 0


@pytest.mark.scenario(35)
def test_zero_events_are_sound_only_when_asked_for() -> None:
    assert run("-").returncode == 1
    result = run("-", "--allow-empty")
    assert (result.returncode, result.stdout) == (
        0,
        b"0 events, internally consistent, not anchored\n",
    )


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("-", "--expect-head", "3"),
        ("-", "--expect-head", "0:b3:" + "17" * 32),
        ("-", "--expect-head", "3:" + "17" * 32),
        ("-", "--expect-prev", "b3:17"),
        ("-", "--threads", "many"),
        ("/nowhere/export.ndjson",),
    ],
)
def test_what_cannot_be_judged_is_no_verdict(arguments: tuple[str, ...]) -> None:
    result = run(*arguments)
    assert (result.returncode, result.stdout) == (2, b"")
    assert result.stderr
    assert b"Traceback" not in result.stderr
