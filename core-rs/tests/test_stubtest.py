"""The stub and the native module agree, as mypy's stubtest sees both."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import theory_core

PACKAGE = Path(theory_core.__file__).parent
ALLOWED = """\
# PyO3 writes it; the names are held one by one.
theory_core\\._core\\.__all__
# mypy takes an alias of a Literal for a union.
theory_core\\.verifier\\.Reason
"""


def stubtest(folder: Path, package: Path) -> subprocess.CompletedProcess[str]:
    """Judge a copy of the package, out of sight of the sources and of mypy's settings."""
    shutil.copytree(package, folder / "theory_core")
    (folder / "allowed").write_text(ALLOWED, encoding="utf-8")
    command = [sys.executable, "-m", "mypy.stubtest", "theory_core", "--allowlist", "allowed"]
    environment = {**os.environ, "MYPYPATH": str(folder), "PYTHONPATH": str(folder)}
    return subprocess.run(
        command, cwd=folder, env=environment, check=False, capture_output=True, text=True
    )


def test_the_stub_describes_the_native_module(tmp_path: Path) -> None:
    answer = stubtest(tmp_path, PACKAGE)
    assert (answer.returncode, answer.stderr) == (0, ""), answer.stdout
    assert "no issues found" in answer.stdout


def test_a_stub_that_differs_is_found(tmp_path: Path) -> None:
    shutil.copytree(PACKAGE, tmp_path / "changed")
    stub = tmp_path / "changed" / "_core.pyi"
    text = stub.read_text(encoding="utf-8")
    stub.write_text(text.replace("def execution_id(plan:", "def execution_id(place:"), "utf-8")
    folder = tmp_path / "judged"
    folder.mkdir()
    answer = stubtest(folder, tmp_path / "changed")
    assert answer.returncode != 0
    assert "theory_core._core.execution_id is inconsistent" in answer.stdout
