"""Bugs planted on purpose: the simulator is worth its time if it finds each of them."""

from __future__ import annotations

import os
import re
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
NOT_FOUND = ("the worker died", "too thin: ")
"""Causes of a failed seed that say nothing of the law that the bug breaks."""
TOLD = SOURCE.parents[1] / "docs" / "source" / "reference" / "testing.md"


def applied(patch: Path, root: Path, *options: str) -> None:
    """Apply a patch below `root`; one that does not fit is a failure."""
    command = ["git", "apply", "-C1", *options, str(patch)]
    environment = os.environ | {"GIT_CEILING_DIRECTORIES": str(root.parent)}
    done = subprocess.run(
        command, cwd=root, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{patch.name} does not fit the source: {done.stderr}"


def planted(patch: Path, folder: Path) -> Path:
    """A copy of the package with the bug in it."""
    copy = folder / "api" / "theory_api"
    shutil.copytree(SOURCE, copy, ignore=shutil.ignore_patterns("__pycache__", "_assets"))
    applied(patch, folder)
    return copy.parent


def test_there_are_enough_bugs_to_be_found() -> None:
    assert len(PATCHES) >= 20
    assert all(patch.read_text(encoding="utf-8").startswith("Planted: ") for patch in PATCHES)


def documented() -> dict[str, int]:
    """Patch -> the first seed that found it when the page was written."""
    table = TOLD.read_text(encoding="utf-8").partition("| planted | seed |")[2].partition("\n\n")[0]
    rows = re.findall(r"^\| ([a-z ]+) \| (\d+) \|$", table, flags=re.MULTILINE)
    return {name.replace(" ", "-"): int(seed) for name, seed in rows}


def test_the_documented_bugs_are_those_that_are_planted() -> None:
    assert list(documented()) == [patch.stem for patch in PATCHES]
    text = TOLD.read_text(encoding="utf-8")
    assert f"{len(PATCHES)} of {len(PATCHES)} are found" in text


@pytest.mark.parametrize("patch", PATCHES, ids=lambda patch: patch.stem)
def test_every_patch_fits_the_source(patch: Path) -> None:
    applied(patch, SOURCE.parents[1], "--check")


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("patch", PATCHES, ids=lambda patch: patch.stem)
def test_a_planted_bug_is_found(
    patch: Path, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    room = planted(patch, tmp_path)
    # The documented seed says most quickly that it is found; what is drawn may have changed since.
    known = documented()[patch.stem]
    found = findings(room, tmp_path, known, known) or findings(room, tmp_path, 0, SEEDS - 1)
    record_property("found", found)
    assert found


def findings(room: Path, folder: Path, first: int, last: int) -> list[str]:
    """The causes for which a simulated life ended, up to the first seed that has one."""
    paths = [str(room), *filter(None, [os.environ.get("PYTHONPATH")])]
    command = [sys.executable, "-m", "theory_api.scheduler.tests.simulator", "--first"]
    done = subprocess.run(
        [*command, "--seeds", f"{first}..{last}", "--jobs", "1"],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    causes = re.findall(r"^\d+: (.+)$", done.stdout, flags=re.MULTILINE)
    found = [cause for cause in causes if not cause.startswith(NOT_FOUND)]
    assert done.returncode == (1 if causes else 0), done.stderr[-2000:]
    return found
