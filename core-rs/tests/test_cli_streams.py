"""`theory-core` on long pipes, on a terminal, and with streams that are gone."""

import io
import os
import pty
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from theory_core import Chain, Hasher
from theory_core.progress import Progress, bar, written

PROGRAM = "import sys; from theory_core.cli import main; sys.exit(main())"
COMMAND = [sys.executable, "-W", "error", "-c", PROGRAM]
MIB = 1 << 20
MEASURED = (
    "import resource, sys\nfrom theory_core.cli import main\n"
    "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
    "code = main()\n"
    "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, file=sys.stderr)\n"
    "sys.exit(code)\n"
)


def ledger(size: int) -> Iterator[bytes]:
    """Lines of a sound export, at least `size` bytes of them."""
    chain, text, total, seq = Chain(), "x" * (200 << 10), 0, 0
    while total < size:
        seq += 1
        event = {
            "v": "theory.event.v1",
            "plan": "/world/acme/p1",
            "seq": seq,
            "at": "2026-11-21T04:25:00.000000Z",
            "kind": "audit.note",
            "data": {"text": text},
        }
        ((body, stated),) = chain.append([event])
        line = b'{"event":%s,"hash":"%s"}\n' % (body, stated.encode())
        total += len(line)
        yield line


def piped(pieces: Iterator[bytes], *arguments: str) -> tuple[int, bytes, int]:
    """Exit code, stdout and how many KiB the process grew while it read the pieces."""
    command = [sys.executable, "-c", MEASURED, *arguments]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        for piece in pieces:
            process.stdin.write(piece)
        process.stdin.close()
        answer, grown = process.stdout.read(), int(process.stderr.read())
    return process.returncode, answer, grown


def hash_of_a_pipe(size: int) -> None:
    hasher = Hasher()
    piece = bytes(range(256)) * 4096
    for _ in range(size // len(piece)):
        hasher.update(piece)
    code, answer, grown = piped((piece for _ in range(size // len(piece))), "hash", "-")
    assert (code, answer) == (0, f"{hasher.digest()}\n".encode())
    assert grown < 16 << 10


def verdict_on_a_pipe(size: int) -> None:
    code, answer, grown = piped(ledger(size), "verify", "-")
    assert code == 0
    assert answer.endswith(b"events, internally consistent, not anchored\n")
    assert grown < 48 << 10


def test_a_long_pipe_is_hashed_in_constant_memory() -> None:
    hash_of_a_pipe(128 * MIB)


def test_a_long_pipe_is_verified_in_constant_memory() -> None:
    verdict_on_a_pipe(128 * MIB)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_gigabytes_are_hashed_in_constant_memory() -> None:
    hash_of_a_pipe(3072 * MIB)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_gigabytes_are_verified_in_constant_memory() -> None:
    verdict_on_a_pipe(2048 * MIB)


def on_terminal(stdin: int, *arguments: str) -> tuple[int, bytes, bytes]:
    """Exit code, stdout, and what a terminal on stderr saw."""
    near, far = pty.openpty()
    seen: list[bytes] = []

    def watch() -> None:
        try:
            while piece := os.read(near, 4096):
                seen.append(piece)
        except OSError:  # the other end is closed
            return

    with subprocess.Popen(
        [*COMMAND, *arguments], stdin=stdin, stdout=subprocess.PIPE, stderr=far
    ) as process:
        os.close(far)
        watcher = threading.Thread(target=watch)
        watcher.start()
        answer, _ = process.communicate()
        watcher.join()
    os.close(near)
    return process.returncode, answer, b"".join(seen)


@pytest.mark.parametrize("command", ["hash", "verify"])
def test_a_terminal_sees_how_far_a_slow_pipe_is_and_then_nothing(command: str) -> None:
    out, into = os.pipe()

    def feed() -> None:
        with open(into, "wb", buffering=0) as pipe:  # noqa: PTH123 - a descriptor
            for line in ledger(6 * MIB):
                pipe.write(line)
                time.sleep(0.04)

    feeder = threading.Thread(target=feed)
    feeder.start()
    code, answer, seen = on_terminal(out, command, "-")
    feeder.join()
    os.close(out)
    assert (code, answer.count(b"\n")) == (0, 1)
    assert f"{command} ".encode() in seen
    assert b"MiB/s" in seen
    assert seen.endswith(b"\r\x1b[K")


def test_a_terminal_sees_nothing_of_what_is_done_at_once(tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(b"x" * 1000)
    code, answer, seen = on_terminal(subprocess.DEVNULL, "hash", str(tmp_path / "data"))
    assert (code, answer[:3], seen) == (0, b"b3:", b"")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_file_of_known_size_has_a_bar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data").write_bytes(b"x" * 4 * MIB)
    now = iter(range(100))
    monkeypatch.setattr("theory_core.progress.time.monotonic", lambda: float(next(now)))
    screen = Terminal()
    with (tmp_path / "data").open("rb") as file, Progress(file, "hash", screen) as reader:
        assert len(reader.read(MIB)) == MIB
        shown = screen.getvalue()
    assert shown == f"\r\x1b[Khash [{'#' * 7}{' ' * 23}]  25%  1.0 MiB of 4.0 MiB  1.0 MiB/s"
    assert screen.getvalue() == shown + "\r\x1b[K"


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (5 << 30, "5.0 GiB"),
        (1 << 52, "4096.0 TiB"),
    ],
)
def test_sizes_are_written_with_their_unit(count: int, text: str) -> None:
    assert written(count) == text


def test_a_file_that_grows_never_passes_its_end() -> None:
    assert bar(30, 10).startswith("[" + "#" * 30 + "] 100%")
    assert bar(7, 0) == "7 B"


def test_no_terminal_means_no_word(tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(b"x" * MIB)
    result = subprocess.run(
        [*COMMAND, "hash", str(tmp_path / "data")], capture_output=True, check=True
    )
    assert result.stderr == b""


@pytest.mark.parametrize("command", ["canon", "hash", "verify"])
def test_stdin_that_cannot_be_read_is_said_without_a_traceback(command: str) -> None:
    for shell in (f'"$@" {command} - 0> /dev/null', f'"$@" {command} - <&-'):
        result = subprocess.run(
            ["sh", "-c", shell, "sh", *COMMAND], capture_output=True, check=False
        )
        assert (result.returncode, result.stdout) == (1, b"")
        assert b"ERR_STORAGE" in result.stderr
        assert b"Traceback" not in result.stderr


def test_a_reader_that_goes_away_is_no_traceback() -> None:
    script = '"$@" canon - | true; exit 0'
    text = b'"' + b"x" * (4 * MIB) + b'"'
    result = subprocess.run(
        ["sh", "-c", script, "sh", *COMMAND], input=text, capture_output=True, check=False
    )
    assert result.stderr == b""


@pytest.fixture
def heard() -> Iterator[None]:
    """SIGINT reaches children: a job in the background of a shell inherits it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("heard")
def test_an_interrupt_ends_quietly() -> None:
    pipe = subprocess.PIPE
    command = [*COMMAND, "hash", "-"]
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe) as process:
        assert process.stdin is not None
        assert process.stderr is not None
        process.stdin.write(b"x" * (4 * MIB))  # more than a pipe holds: it reads by now
        process.stdin.flush()
        process.send_signal(signal.SIGINT)
        assert process.stderr.read() == b""
    assert process.returncode == 130
