"""Bugs planted on purpose: the simulator is worth its time if it finds each of them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import theory_api

SOURCE = Path(theory_api.__file__).parent
PATCHES = sorted((Path(__file__).parent / "planted").glob("*.patch"))
SEEDS = 1000
"""Within so many seeds each has to be found."""


def planted(patch: Path, folder: Path) -> Path:
    """A copy of the package with the bug in it; a patch that does not fit is a failure."""
    copy = folder / "api" / "theory_api"
    shutil.copytree(SOURCE, copy, ignore=shutil.ignore_patterns("__pycache__", "_assets"))
    environment = os.environ | {"GIT_CEILING_DIRECTORIES": str(folder.parent)}
    command = ["git", "apply", "--recount", "-C1", str(patch)]
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{patch.name} does not fit the source: {done.stderr}"
    return copy.parent


def test_every_patch_fits_the_source(tmp_path: Path) -> None:
    assert len(PATCHES) >= 10
    for patch in PATCHES:
        folder = tmp_path / patch.stem
        changed = 0
        for file in planted(patch, folder).rglob("*.py"):
            original = SOURCE / file.relative_to(folder / "api" / "theory_api")
            changed += original.read_bytes() != file.read_bytes()
        assert changed, f"{patch.name} changes nothing"
        shutil.rmtree(folder)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("patch", PATCHES, ids=lambda patch: patch.stem)
def test_a_planted_bug_is_found(
    patch: Path, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    room = planted(patch, tmp_path)
    paths = [str(room), *filter(None, [os.environ.get("PYTHONPATH")])]
    command = [sys.executable, "-m", "theory_api.scheduler.tests.simulator", "--first"]
    done = subprocess.run(
        [*command, "--seeds", f"0..{SEEDS - 1}", "--jobs", "2"],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    found = [line for line in done.stdout.splitlines() if line.startswith("FAILED")]
    record_property("found", found)
    assert done.returncode == 1, done.stderr[-2000:]
    assert found, done.stdout[-2000:]
