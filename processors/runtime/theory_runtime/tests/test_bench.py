"""One run from the command line, without any server."""

from __future__ import annotations

import contextlib
import json
import secrets
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from theory_core import canonicalize, digest
from theory_runtime import kin
from theory_runtime.tests.conftest import MAIN


def bench(tmp_path: Path, payload: object, *more: str) -> subprocess.CompletedProcess[bytes]:
    file = tmp_path / "payload.json"
    file.write_bytes(payload if isinstance(payload, bytes) else json.dumps(payload).encode())
    command = [sys.executable, str(MAIN), "--payload", str(file), "--out", str(tmp_path / "out")]
    return subprocess.run([*command, *more], check=False, capture_output=True)


def deed(what: str, /, **params: object) -> dict[str, Any]:
    return {"schema": "v1", "params": {"do": what, **params}}


def test_a_success_writes_outputs_index_and_receipt(tmp_path: Path) -> None:
    done = bench(tmp_path, deed("tokens", count=2))
    assert done.returncode == 0, done.stderr
    envelope = json.loads(done.stdout)
    assert done.stdout == canonicalize(envelope) + b"\n"
    assert envelope["status"] == "success"
    kinds = [json.loads(line)["kind"] for line in done.stderr.splitlines()]
    assert kinds == ["Token", "Token", "Frame", "Log", "Event"]
    index = (tmp_path / "out" / "outputs.json").read_bytes()
    receipt = json.loads((tmp_path / "out" / "receipt.json").read_bytes())
    assert receipt["outputs_index"] == digest(index)
    assert receipt["written_by"] == "processor"


def test_files_stand_in_for_artifacts(tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_bytes(b"input")
    done = bench(tmp_path, deed("read", artifacts=[{"$file": "in.txt"}]))
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "outputs" / "0").read_bytes() == b"input"
    (entry,) = json.loads(done.stdout)["outputs"]
    assert entry["mime"] == "text/plain"


def test_a_failure_exits_with_1_and_has_a_receipt_too(tmp_path: Path) -> None:
    done = bench(tmp_path, deed("crash", kind="value"))
    assert done.returncode == 1
    envelope = json.loads(done.stdout)
    assert envelope["error"]["code"] == "ERR_INTERNAL"
    assert "Traceback" in envelope["meta"]["stderr_tail"]
    receipt = json.loads((tmp_path / "out" / "receipt.json").read_bytes())
    assert receipt["status"] == "error"


def test_a_dead_worker_is_told_by_its_supervisor(tmp_path: Path) -> None:
    done = bench(tmp_path, deed("leave", code=4))
    assert done.returncode == 1
    receipt = json.loads((tmp_path / "out" / "receipt.json").read_bytes())
    assert receipt["written_by"] == "supervisor"


def test_the_mode_is_told_and_secrets_come_from_a_folder(tmp_path: Path) -> None:
    folder = tmp_path / "secrets"
    folder.mkdir()
    (folder / "API_KEY").write_text("12345678\n")
    payload = {"inputs": deed("tell_secret", name="API_KEY"), "secrets": ["API_KEY"]}
    mocked = bench(tmp_path, payload, "--secrets", str(folder))
    assert json.loads(mocked.stdout)["error"]["code"] == "ERR_MISSING_SECRET"
    (tmp_path / "out" / "receipt.json").unlink()
    done = bench(tmp_path, payload, "--mode", "real", "--secrets", str(folder))
    assert done.returncode == 0, done.stdout
    assert (tmp_path / "out" / "outputs" / "length").read_bytes() == b"8"


@pytest.mark.parametrize("die", [False, True])
def test_nothing_that_a_provider_started_outlives_its_run(tmp_path: Path, *, die: bool) -> None:
    seconds = str(10**6 + secrets.randbelow(10**6))
    done = bench(tmp_path, deed("outlive", seconds=seconds, die=die))
    assert done.returncode == int(die)
    sleeping = [pid for pid, words in commands() if seconds.encode() in words]
    assert sleeping == []


def test_an_interrupted_run_takes_everything_along(tmp_path: Path) -> None:
    file = tmp_path / "payload.json"
    file.write_text(json.dumps(deed("deaf")))
    command = [sys.executable, str(MAIN), "--payload", str(file), "--out", str(tmp_path / "out")]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL) as running:
        assert running.stderr is not None
        assert b"asleep" in running.stderr.readline()
        below = descendants(running.pid)
        assert len(below) == 3
        running.kill()
    for _ in range(100):
        left = below & {pid for pid, words in commands() if words}
        if not left:
            break
        time.sleep(0.02)
    assert left == set()


def commands() -> list[tuple[int, bytes]]:
    """Processes that live, with their command lines; dead ones have none."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            found.append((int(folder.name), (folder / "cmdline").read_bytes()))
    return found


def descendants(pid: int) -> set[int]:
    below = set(kin.children(pid))
    return below.union(*(descendants(child) for child in below))


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        (b"{", b"ERR_JSON_SYNTAX"),
        (b'{"params":{},"params":{}}', b"ERR_JSON_DUPLICATE"),
        ([], b"ERR_INPUTS: invalid inputs payload: payload_invalid"),
        ({}, b"ERR_INPUTS: invalid inputs payload: params_missing"),
        (deed("read", artifacts=[{"$file": "none"}]), b"file_unreadable"),
        ({"inputs": deed("echo"), "mode": "dry"}, b"payload.mode"),
        ({"inputs": deed("echo"), "write_prefix": "/elsewhere/x/"}, b"payload.write_prefix"),
        ({"inputs": deed("echo"), "surprise": 1}, b"ERR_INPUTS"),
    ],
)
def test_a_mistake_is_one_coded_line_and_exit_2(
    tmp_path: Path, payload: object, message: bytes
) -> None:
    done = bench(tmp_path, payload)
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.count(b"\n") == 1
    assert done.stdout == b""


def test_a_folder_that_holds_something_is_not_written_to(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("")
    done = bench(tmp_path, deed("echo"))
    assert done.returncode == 2
    assert b"ERR_CONFLICT" in done.stderr


def test_a_processor_of_another_layout_is_refused(tmp_path: Path) -> None:
    (tmp_path / "main.py").write_bytes(MAIN.read_bytes())
    command = [sys.executable, str(tmp_path / "main.py"), "--serve", str(tmp_path)]
    done = subprocess.run(command, check=False, capture_output=True)
    assert done.returncode == 2
    assert b"ERR_REGISTRY_MISMATCH" in done.stderr


def test_usage_is_told() -> None:
    for arguments in ([], ["--payload", "x"], ["--serve", "x", "--payload", "y"]):
        done = subprocess.run(
            [sys.executable, str(MAIN), *arguments], check=False, capture_output=True
        )
        assert done.returncode == 2
        assert b"usage" in done.stderr
