"""The house keeps its shape: sizes, names, arrows, and what must never be written down."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
API = ROOT / "api" / "theory_api"
SIZES = {".py": 400, ".rs": 500}
FUNCTION = 70
LINE = 100
PRAGMA = re.compile(r"\s+# (?:noqa|type: ignore).*")
"""What ruff leaves out when it measures a line."""
NAMELESS = {"utils", "util", "common", "helpers", "helper", "manager", "managers", "base", "misc"}


def tracked() -> list[Path]:
    """The repository's files; in a tree without git, everything that is no build product."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return [path for name in listed.stdout.splitlines() if (path := ROOT / name).is_file()]


FILES = tracked()
CODE = [path for path in FILES if path.suffix in SIZES]
MODULES = [path for path in CODE if path.suffix == ".py" and "tests" not in path.parts]


def shown(path: Path) -> str:
    return str(path.relative_to(ROOT))


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def test_no_module_is_longer_than_its_cap() -> None:
    lengths = {shown(path): path.read_text(encoding="utf-8").count("\n") for path in CODE}
    too_long = {
        name: length
        for name, length in lengths.items()
        if length > SIZES[Path(name).suffix] and "tests" not in Path(name).parts
    }
    assert len(lengths) > 100
    assert not too_long


def test_no_function_is_longer_than_its_cap() -> None:
    too_long = {
        f"{shown(path)}:{node.lineno} {node.name}": length
        for path in CODE
        if path.suffix == ".py"
        for node in functions(path)
        if (length := (node.end_lineno or node.lineno) - node.lineno + 1) > FUNCTION
    }
    assert not too_long


def test_no_line_is_longer_than_its_cap() -> None:
    too_long = [
        f"{shown(path)}:{number}"
        for path in CODE
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if len(PRAGMA.sub("", line)) > LINE
    ]
    assert not too_long


def test_modules_are_named_after_what_they_define() -> None:
    assert not [shown(path) for path in CODE if path.stem in NAMELESS]
    assert not [shown(path) for path in CODE if NAMELESS & set(path.relative_to(ROOT).parts[:-1])]


def test_every_module_says_its_one_job_first() -> None:
    silent = [
        shown(path)
        for path in MODULES
        if not (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").strip()
    ]
    assert not silent


@pytest.mark.scenario(102)
def test_imports_go_down_only() -> None:
    linter = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run(
        [str(linter), "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-4000:]
    assert "0 broken" in done.stdout


def test_the_domain_is_never_async() -> None:
    found = [
        f"{shown(path)}:{node.lineno}"
        for path in (API / "domain").glob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.AsyncFunctionDef | ast.Await | ast.AsyncFor | ast.AsyncWith)
    ]
    assert not found


def test_ports_contain_no_code() -> None:
    """A Protocol's method is its signature and its docstring."""
    found = [
        f"{shown(path)}:{method.lineno} {method.name}"
        for path in (API / "ports").glob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ClassDef)
        and any(isinstance(base, ast.Name) and base.id == "Protocol" for base in node.bases)
        for method in node.body
        if isinstance(method, ast.FunctionDef | ast.AsyncFunctionDef)
        and not (len(method.body) == 1 and isinstance(method.body[0], ast.Expr))
    ]
    assert not found


@pytest.mark.parametrize("room", ["domain", "scheduler"])
def test_time_and_chance_come_through_ports(room: str) -> None:
    banned = {
        *("time.time", "time.monotonic", "time.sleep", "asyncio.sleep", "datetime.now"),
        *("uuid.uuid4", "os.urandom", "random.random", "secrets.token_hex", "loop.time"),
    }
    found = [
        f"{shown(path)}:{node.lineno} {ast.unparse(node)}"
        for path in (API / room).glob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and ast.unparse(node) in banned
    ]
    assert not found


@pytest.mark.scenario(102)
def test_locks_pin_every_package_by_hash_and_name_no_address() -> None:
    named = [path for path in FILES if re.fullmatch(r"requirements.*\.txt", path.name)]
    locks = [path for path in named if "fixtures" not in path.parts]
    assert len(locks) >= 8
    for lock in locks:
        text = lock.read_text(encoding="utf-8")
        assert "://" not in text, shown(lock)
        assert "--index-url" not in text, shown(lock)
        assert "--find-links" not in text, shown(lock)
        pins = re.findall(r"^[a-z0-9][a-z0-9._-]*==", text, re.MULTILINE)
        entries = re.split(r"^(?=[a-z0-9][a-z0-9._-]*==)", text, flags=re.MULTILINE)[1:]
        assert pins, shown(lock)
        assert all("--hash=sha256:" in entry for entry in entries), shown(lock)


def test_no_file_names_a_package_host_or_a_path_of_one_machine() -> None:
    hosts = "|".join(("py" + "pi", "python" + "hosted", "npm" + "js"))
    homes = "|".join(("/ro" + "ot/", "/ho" + "me/", "/Us" + "ers/", "/wo" + "rk/"))
    host = re.compile(rf"\b(?:{hosts})\.(?:org|com|io)")
    # Tests may make up folders, to see that they are not told.
    folder = re.compile(rf"(?<![\w.}}])(?:{homes})\w")
    found = []
    for path in FILES:
        if path.name == "Cargo.lock":
            continue
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        patterns = (host,) if "tests" in path.parts else (host, folder)
        found += [
            f"{shown(path)}: {match.group()}"
            for pattern in patterns
            for match in pattern.finditer(text)
        ]
    assert not found


def test_lock_files_with_addresses_are_not_kept() -> None:
    assert not [shown(p) for p in FILES if p.name in {"uv.lock", "package-lock.json"}]


def test_the_three_distributions_share_one_version() -> None:
    files = ("pyproject.toml", "core-rs/pyproject.toml", "processors/runtime/pyproject.toml")
    stated = {
        name: re.search(r'^version = "(.+)"$', (ROOT / name).read_text(), re.MULTILINE)
        for name in files
    }
    versions = {match.group(1) for match in stated.values() if match}
    cargo = re.search(r'^version = "(.+)"$', (ROOT / "Cargo.toml").read_text(), re.MULTILINE)
    assert cargo is not None
    assert all(stated.values())
    assert versions == {cargo.group(1)}
