"""The command `theory-core`: canonical bytes, digests, paths and the verifier, for the shell.

Exit codes: 0 sound, 1 refused or broken, 2 usage. With `--json`, stdout is one canonical JSON line.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from theory_core import (
    Hasher,
    TheoryError,
    WorldPath,
    canonicalize,
    canonicalize_json,
    digest,
    digest_file,
)

_CHUNK_BYTES = 1 << 20


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
        return 2 if error.code == "ERR_NOT_FOUND" else 1


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
    for command in (canon, hashing, path):
        command.add_argument("--json", action="store_true", default=argparse.SUPPRESS)
    return parser


def _canon(options: argparse.Namespace) -> int:
    canonical = canonicalize_json(_read(options.file))
    if options.json:
        _say_json({"canonical": canonical.decode(), "digest": digest(canonical)})
    else:
        _say(canonical)
    return 0


def _hash(options: argparse.Namespace) -> int:
    if options.file == "-":
        hasher = Hasher()
        while chunk := sys.stdin.buffer.read(_CHUNK_BYTES):
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


def _read(file: str) -> bytes:
    if file == "-":
        return sys.stdin.buffer.read()
    try:
        return Path(file).read_bytes()
    except FileNotFoundError as error:
        raise TheoryError("ERR_NOT_FOUND", "no such file") from error
    except OSError as error:
        raise TheoryError("ERR_STORAGE", "file cannot be read") from error


def _say_json(answer: dict[str, object]) -> None:
    _say(canonicalize(answer) + b"\n")


def _say(line: bytes) -> None:
    sys.stdout.buffer.write(line)
    sys.stdout.buffer.flush()
