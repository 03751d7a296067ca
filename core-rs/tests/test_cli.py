"""The command `theory-core`, run as a process."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from theory_core import digest


def run(*arguments: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    command = [
        sys.executable,
        "-W",
        "error",
        "-c",
        "import sys; from theory_core.cli import main; sys.exit(main())",
    ]
    return subprocess.run([*command, *arguments], input=stdin, capture_output=True, check=False)


def test_canon_writes_the_canonical_bytes_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{ "b": 1.0,\n "a": "\u00e9" }', encoding="utf-8")
    for result in (
        run("canon", str(tmp_path / "a.json")),
        run("canon", "-", stdin=(tmp_path / "a.json").read_bytes()),
    ):
        assert (result.returncode, result.stderr) == (0, b"")
        assert result.stdout == '{"a":"é","b":1}'.encode()


def test_canon_says_where_a_text_is_broken() -> None:
    result = run("canon", "-", stdin=b'{"a":\n  x}')
    assert (result.returncode, result.stdout) == (1, b"")
    assert b"ERR_JSON_SYNTAX" in result.stderr
    assert b"line 2, column 3" in result.stderr
    assert b"Traceback" not in result.stderr


def test_hash_writes_the_digest_of_the_bytes(tmp_path: Path) -> None:
    data = bytes(range(256)) * 20_000
    (tmp_path / "data").write_bytes(data)
    for result in (run("hash", str(tmp_path / "data")), run("hash", "-", stdin=data)):
        assert (result.returncode, result.stdout) == (0, f"{digest(data)}\n".encode())


def test_path_writes_the_canonical_path() -> None:
    result = run("path", "/artifacts/CAF%C3%89/", "--root", "/world/acme/p1")
    assert (result.returncode, result.stdout.decode()) == (0, "/world/acme/p1/artifacts/café/\n")


def test_a_refused_path_names_its_code() -> None:
    result = run("path", "/tmp/x")  # noqa: S108 - a path of the World, refused
    assert result.returncode == 1
    assert b"ERR_BAD_FACET" in result.stderr


@pytest.mark.parametrize("before", [True, False])
def test_with_json_every_answer_is_one_line(*, before: bool) -> None:
    def ask(*arguments: str, stdin: bytes = b"") -> tuple[int, dict[str, object]]:
        flags = ["--json", *arguments] if before else [*arguments, "--json"]
        result = run(*flags, stdin=stdin)
        assert (result.stdout.count(b"\n"), result.stderr) == (1, b"")
        return result.returncode, json.loads(result.stdout)

    canonical = '{"a":1}'
    answer = {"canonical": canonical, "digest": digest(canonical.encode())}
    assert ask("canon", "-", stdin=b'{"a":1.0}') == (0, answer)
    assert ask("hash", "-") == (0, {"digest": digest(b"")})
    assert ask("path", "/world/acme/p1/ledger/7")[1]["segments"] == ["7"]
    code, refusal = ask("canon", "-", stdin=b"[1,]")
    assert (code, refusal["code"]) == (1, "ERR_JSON_SYNTAX")
    assert refusal["detail"] == {"offset": 3, "line": 1, "column": 4}


@pytest.mark.parametrize(
    "arguments",
    [[], ["nonsense"], ["canon"], ["path"], ["canon", "/no/such/file"], ["hash", "/no/such/file"]],
)
def test_wrong_usage_exits_with_two(arguments: list[str]) -> None:
    result = run(*arguments)
    assert (result.returncode, result.stdout) == (2, b"")
    assert b"Traceback" not in result.stderr


def test_a_folder_is_refused_without_a_traceback(tmp_path: Path) -> None:
    for command in ("canon", "hash"):
        result = run(command, str(tmp_path))
        assert result.returncode == 1
        assert b"ERR_STORAGE" in result.stderr
