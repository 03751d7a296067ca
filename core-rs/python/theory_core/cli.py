"""The command `theory-core`: canonical bytes, digests, paths and the verifier, for the shell.

Exit codes: 0 sound, 1 refused or broken, 2 usage, 130 interrupted. With `--json`, stdout is one
canonical JSON line. Digests and verification take pipes of any length in constant memory.
"""

import argparse
import os
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from theory_core import (
    Hasher,
    TheoryError,
    WorldPath,
    canonicalize,
    canonicalize_json,
    digest,
    digest_file,
    verify,
)
from theory_core.progress import Progress

_CHUNK_BYTES = 1 << 20

_HASH = re.compile("b3:[0-9a-f]{64}")
_SEQ = re.compile("[1-9][0-9]{0,15}")

_NOT_JUDGED = frozenset({"ERR_NOT_FOUND", "ERR_UNAVAILABLE"})
"""Codes that say nothing about the input: exit 2."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; `arguments` default to the process's own."""
    options = _parser().parse_args(arguments)
    try:
        return int(options.run(options))
    except TheoryError as error:
        if options.json:
            _say_json({"code": error.code, "detail": error.detail, "message": error.message})
        else:
            facts = ", ".join(f"{key} {fact}" for key, fact in error.detail.items())
            place = f" ({facts})" if facts else ""
            sys.stderr.write(f"theory-core: {error}{place}\n")
        return 2 if error.code in _NOT_JUDGED else 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # Whoever read the answer has gone; nothing is left to be flushed when the process ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="theory-core", description="Byte rules of Theory: canonical JSON, digests, paths."
    )
    parser.add_argument("--json", action="store_true", help="answer with one JSON line")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    canon = commands.add_parser("canon", help="canonical bytes of a JSON text")
    canon.add_argument("file", metavar="FILE|-", help="the JSON text; - reads stdin")
    canon.set_defaults(run=_canon)
    hashing = commands.add_parser("hash", help="b3 digest of a file's bytes")
    hashing.add_argument("file", metavar="FILE|-", help="any file; - reads stdin")
    hashing.set_defaults(run=_hash)
    path = commands.add_parser("path", help="canonical form of a WorldPath")
    path.add_argument("text", metavar="PATH", help="absolute, world:// or plan-relative path")
    path.add_argument("--root", metavar="PLAN", help="plan of a relative path: /world/TENANT/PLAN")
    path.set_defaults(run=_path)
    verifying = _verify_parser(commands)
    for command in (canon, hashing, path, verifying):
        command.add_argument("--json", action="store_true", default=argparse.SUPPRESS)
    return parser


def _verify_parser(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]",
) -> argparse.ArgumentParser:
    command = commands.add_parser("verify", help="judge an export of a plan's ledger")
    command.add_argument("file", metavar="FILE|-", help="the export (NDJSON); - reads stdin")
    command.add_argument(
        "--expect-head",
        type=_head,
        metavar="SEQ:HASH",
        help="last event, as somebody else kept it; without it nothing is anchored",
    )
    command.add_argument(
        "--expect-prev",
        type=_prev,
        metavar="[SEQ:]HASH",
        help="event before the first, where the export does not start at seq 1",
    )
    command.add_argument("--allow-empty", action="store_true", help="zero events are sound")
    command.add_argument(
        "--laws",
        action="store_true",
        help="judge kinds, data and the laws of plans and budgets too, at every prefix",
    )
    command.add_argument("--threads", type=int, metavar="N", help="most threads to use")
    command.set_defaults(run=_verify, refuse=command.error)
    return command


def _head(text: str) -> tuple[int, str]:
    seq, _, written = text.partition(":")
    if not _HASH.fullmatch(written) or not _SEQ.fullmatch(seq):
        raise argparse.ArgumentTypeError("expected SEQ:b3:… with 64 hexadecimal digits")
    return int(seq), written


def _prev(text: str) -> tuple[int, str] | str:
    return text if _HASH.fullmatch(text) else _head(text)


def _canon(options: argparse.Namespace) -> int:
    canonical = canonicalize_json(_read(options.file))
    if options.json:
        _say_json({"canonical": canonical.decode(), "digest": digest(canonical)})
    else:
        _say(canonical)
    return 0


def _hash(options: argparse.Namespace) -> int:
    if options.file == "-" or _watched():
        hasher = Hasher()
        with _opened(options.file) as file, Progress(file, "hash") as reader:
            while chunk := reader.read(_CHUNK_BYTES):
                hasher.update(chunk)
        written = hasher.digest()
    else:
        written = digest_file(options.file)
    if options.json:
        _say_json({"digest": written})
    else:
        _say(f"{written}\n".encode())
    return 0


def _path(options: argparse.Namespace) -> int:
    path = WorldPath(options.text, options.root)
    if options.json:
        parts = {
            "facet": path.facet,
            "is_prefix": path.is_prefix,
            "path": str(path),
            "plan": path.plan,
            "relative": path.relative,
            "segments": path.segments,
            "tenant": path.tenant,
            "uri": path.uri,
        }
        _say_json(parts)
    else:
        _say(f"{path}\n".encode())
    return 0


def _verify(options: argparse.Namespace) -> int:
    if options.laws and options.expect_prev is not None:
        options.refuse("--laws judges from the first event on, not behind --expect-prev")
    with _opened(options.file) as file, Progress(file, "verify") as reader:
        report = verify(
            reader,
            expect_head=options.expect_head,
            expect_prev=options.expect_prev,
            laws=options.laws,
            allow_empty=options.allow_empty,
            threads=options.threads,
        )
    if options.json:
        fault = report.fault
        answer: dict[str, object] = {
            "anchored": report.anchored,
            "count": report.count,
            "fault": fault
            and {
                "law": fault.law,
                "line": fault.line,
                "member": fault.member,
                "reason": fault.reason,
                "seq": fault.seq,
            },
            "head": report.head,
            "laws": report.laws,
            "verdict": report.verdict,
        }
        _say_json(answer)
    else:
        _say(f"{report.verdict}\n".encode())
    return 0 if report.ok else 1


def _read(file: str) -> bytes:
    with _opened(file) as source:
        return source.read()


@contextmanager
def _opened(file: str) -> Iterator[BinaryIO]:
    """The named file or stdin; what goes wrong while it is open has a code too."""
    try:
        if file == "-":
            if sys.stdin is None:
                raise TheoryError("ERR_STORAGE", "stdin is closed")
            yield sys.stdin.buffer
        else:
            with Path(file).open("rb") as opened:
                yield opened
    except FileNotFoundError as error:
        raise TheoryError("ERR_NOT_FOUND", "no such file") from error
    except (OSError, ValueError) as error:
        if isinstance(error, TheoryError | BrokenPipeError):
            raise
        raise TheoryError("ERR_STORAGE", "file cannot be read") from error


def _watched() -> bool:
    """Whether somebody sees stderr; then a bar is worth more than several threads."""
    return sys.stderr is not None and sys.stderr.isatty()


def _say_json(answer: dict[str, object]) -> None:
    _say(canonicalize(answer) + b"\n")


def _say(line: bytes) -> None:
    sys.stdout.buffer.write(line)
    sys.stdout.buffer.flush()
