"""Declared facts against this machine, references against folders, secrets against files."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from theory_core import TheoryError
from theory_runtime import machine, vault
from theory_runtime.order import own_ref
from theory_runtime.tests.conftest import MAIN, fingerprint

MAJOR, MINOR = sys.version_info[:2]


@pytest.mark.parametrize("runtime", [f"python{MAJOR}", f"python{MAJOR}.{MINOR}"])
def test_a_declared_version_means_all_that_begin_with_it(runtime: str) -> None:
    machine.check(fingerprint().replace("python3", runtime))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("python3", f"python{MAJOR}.{MINOR + 1}"),
        ("python3", f"python{MAJOR}.{str(MINOR)[:1]}"),
        ("python3", "python"),
        ("python3", "python3."),
        (f"platform:{machine.architecture()}", "platform:riscv64"),
    ],
)
def test_anything_else_is_a_mismatch(old: str, new: str) -> None:
    with pytest.raises(TheoryError) as caught:
        machine.check(fingerprint().replace(old, new))
    assert caught.value.code == "ERR_REGISTRY_MISMATCH"


@pytest.mark.parametrize(
    ("text", "expected"),
    [("512", 512), ("64Ki", 65536), ("2Gi", 2 << 30), ("1Ti", 1 << 40), ("2GB", None), ("0", None)],
)
def test_memory_is_read_in_binary_units(text: str, expected: int | None) -> None:
    assert machine.memory_bytes(fingerprint(text)) == expected


def test_a_reference_is_where_the_processor_lies() -> None:
    assert own_ref(MAIN) == "test/deeds@1"
    for path in ("/x/main.py", "/a/b/c/main.py", "/A/b/1/main.py", "/a/b/01/main.py"):
        with pytest.raises(TheoryError):
            own_ref(Path(path))


def test_a_vault_opens_declared_plain_files_only(tmp_path: Path) -> None:
    (tmp_path / "KEY").write_text("value\r\n")
    (tmp_path / "EMPTY").write_text("\n")
    (tmp_path / "BIG").write_text("x" * (vault.MAX_BYTES + 1))
    (tmp_path / "BYTES").write_bytes(b"\xff")
    (tmp_path / "LINK").symlink_to(tmp_path / "KEY")
    (tmp_path / "FOLDER").mkdir()
    names = ("KEY", "EMPTY", "BIG", "BYTES", "LINK", "FOLDER", "NONE", "../KEY")
    opened = vault.Vault(tmp_path, names)
    assert opened.read("KEY") == "value"
    for name in (*names[1:], "OTHER"):
        with pytest.raises(TheoryError) as caught:
            opened.read(name)
        assert caught.value.code == "ERR_MISSING_SECRET"
    assert opened.values() == ("value",)
    with pytest.raises(TheoryError):
        vault.Vault(None, names).read("KEY")
