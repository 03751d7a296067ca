"""Compile the control plane's hash-locked requirements from pyproject.toml: `make lock`."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HEADER = "# Written by `python api/lock.py`; do not edit.\n"


def compile_lock(requirements: list[str], target: Path) -> None:
    """Resolve `requirements` for all Pythons from 3.11 on; write hashes and no addresses."""
    command = [
        *(sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--universal"),
        *("--python-version", "3.11", "--generate-hashes", "--no-emit-index-url"),
        *("--no-emit-find-links", "--no-header", "--no-annotate"),
        *("--output-file", str(target), "-"),
    ]
    subprocess.run(command, input="\n".join(requirements), text=True, check=True)
    target.write_text(HEADER + target.read_text())


def main() -> None:
    """Write what runs, what builds the wheels, and all of it with what tests it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    needed = project["project"]["dependencies"]
    runtime = [line for line in needed if not line.startswith("theory-")]
    groups = project["dependency-groups"]
    everything = [*runtime, *groups["build"], *groups["dev"], *groups["docs"]]
    compile_lock(runtime, ROOT / "api" / "requirements.txt")
    compile_lock(groups["build"], ROOT / "api" / "requirements-build.txt")
    compile_lock(everything, ROOT / "api" / "requirements-dev.txt")


if __name__ == "__main__":
    main()
