"""Digests of bytes, files and inputs."""

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from theory_core import (
    HASH_SCHEMA,
    LIMITS,
    Hasher,
    TheoryError,
    canonicalize,
    digest,
    digest_file,
    inputs_hash,
)

BIG = bytes(range(256)) * 50_000


def test_the_schema_names_canonical_form_and_hash() -> None:
    assert HASH_SCHEMA == "rfc8785-blake3-v1"


def test_an_inputs_hash_is_the_digest_of_the_canonical_bytes() -> None:
    inputs = {"schema": "v1", "params": {"n": 100.0, "text": "é"}}
    assert inputs_hash(inputs) == digest(canonicalize(inputs))
    assert inputs_hash(inputs) == inputs_hash({"params": {"text": "é", "n": 100}, "schema": "v1"})


@pytest.mark.parametrize("threads", [None, 1, 2, 5])
def test_threads_never_change_the_digest_of_a_file(threads: int | None, tmp_path: Path) -> None:
    path = tmp_path / "big"
    path.write_bytes(BIG)
    assert digest_file(path, threads=threads) == digest(BIG)
    assert digest_file(str(path), threads=threads) == digest(BIG)


def test_every_buffer_of_the_same_bytes_has_the_same_digest() -> None:
    expected = digest(BIG)
    assert digest(bytearray(BIG)) == expected
    assert digest(memoryview(BIG)) == expected
    assert digest(memoryview(BIG + b"tail")[: len(BIG)]) == expected


def test_a_child_made_by_fork_still_digests_with_threads(tmp_path: Path) -> None:
    (tmp_path / "big").write_bytes(BIG)
    script = (
        "import os, sys, theory_core\n"
        "expected = theory_core.digest_file(sys.argv[1])\n"
        "child = os.fork()\n"
        "if not child:\n"
        "    os._exit(theory_core.digest_file(sys.argv[1]) != expected)\n"
        "sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "big")]
    assert subprocess.run(command, timeout=30, check=False).returncode == 0


@pytest.mark.parametrize("data", ["text", None, 5, ["a"], memoryview(b"12345678").cast("Q")])
def test_what_is_no_bytes_is_refused(data: object) -> None:
    for call in (digest, Hasher().update):
        with pytest.raises(TheoryError, match="ERR_INPUTS"):
            call(data)  # type: ignore[arg-type]


def test_a_file_that_cannot_be_read_is_refused_with_a_code(tmp_path: Path) -> None:
    for path, code in [(tmp_path / "none", "ERR_NOT_FOUND"), (tmp_path, "ERR_STORAGE")]:
        with pytest.raises(TheoryError) as refusal:
            digest_file(path)
        assert refusal.value.code == code
        assert str(tmp_path) not in str(refusal.value)


@pytest.mark.parametrize("threads", [0, -1, "2", 2**80])
def test_a_senseless_number_of_threads_is_refused(threads: object, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(TheoryError, match="ERR_INPUTS"):
        digest_file(tmp_path / "file", threads=threads)  # type: ignore[arg-type]


@pytest.mark.parametrize("path", [None, 5, [], "nul\0"])
def test_a_path_that_is_none_is_refused(path: object) -> None:
    with pytest.raises(TheoryError):
        digest_file(path)  # type: ignore[arg-type]


def test_a_hasher_may_be_shared_by_threads_and_read_at_any_time() -> None:
    hasher = Hasher()
    assert hasher.digest() == digest(b"")
    block = b"x" * 100_000
    threads = [threading.Thread(target=hasher.update, args=(block,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert hasher.digest() == digest(block * 8)
    assert hasher.digest() == digest(block * 8)


def test_the_limits_are_the_documented_ones_and_cannot_be_changed() -> None:
    assert LIMITS["request_body_bytes"] == 8 << 20
    assert LIMITS["json_in_truth_bytes"] == 256 << 10
    assert LIMITS["frame_bytes"] == 8 << 20
    assert LIMITS["line_bytes"] == 64 << 10
    assert LIMITS["stderr_tail_bytes"] == 2 << 10
    assert LIMITS["outputs_per_execution"] == 100_000
    assert LIMITS["output_bytes"] == 64 << 30
    assert LIMITS["transitions_per_plan"] == 100_000
    assert LIMITS["headers_bytes"] == 16 << 10
    assert LIMITS["page_items"] == 1_000
    with pytest.raises(TypeError):
        LIMITS["page_items"] = 1  # type: ignore[index]
