"""The README's transcript is what the commands print."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
README = ROOT / "README.md"

MASKS = (
    # ids
    (r"b3:[0-9a-f]{12,64}", "b3:…"),
    (r"demo-[0-9a-f]{12}", "demo-…"),
    # times, and the energy that is computed from them
    (r"\d+\.\d s of CPU", "… s of CPU"),
    (r"(?<=, )\d+\.\d s(?=,|$)", "… s"),
    (r"\d+\.\d{3} g CO2", "… g CO2"),
    (r"^( *spent) +\S+ +\S+ +(.*\S) +\S+$", r"\1 … … \2 …"),
    (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z", "…"),
    # where the draw fell, which is another place each time
    (r"byte \d+ flipped, in the line of seq \d+", "byte … flipped, in the line of seq …"),
    (r"names seq \d+ \([a-z]+\)", "names seq … (…)"),
    # columns are as wide as what they hold
    (r"[ \t]+", " "),
)


def masked(text: str) -> list[str]:
    for pattern, instead in MASKS:
        text = re.sub(pattern, instead, text, flags=re.MULTILINE)
    return [line.rstrip() for line in text.strip().splitlines()]


def transcript() -> list[tuple[str, str]]:
    """The commands of the README's transcript, each with what it prints."""
    found = re.search(r"<!-- transcript -->\n```console\n(.*?)```", README.read_text(), re.DOTALL)
    assert found is not None
    parts = re.split(r"^\$ (.*)\n", found[1], flags=re.MULTILINE)
    return list(zip(parts[1::2], parts[2::2], strict=True))


def run(command: str, folder: Path, cache: Path) -> str:
    name, *words = shlex.split(command)
    assert name == "theory"
    done = subprocess.run(
        [sys.executable, "-m", "theory_api.cli.main", *words],
        cwd=folder,
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "LANG": "C.UTF-8",
            "THEORY_CACHE": str(cache),
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.mark.timeout(600)
def test_the_transcript_is_real(tmp_path: Path) -> None:
    cache = Path(os.environ.get("THEORY_CACHE") or tmp_path / "cache")
    (tmp_path / "before").mkdir()
    # The transcript shows a run whose environments were made before.
    run("theory demo", tmp_path / "before", cache)
    commands = transcript()
    assert len(commands) >= 2
    (tmp_path / "desk").mkdir()
    for command, printed in commands:
        assert masked(run(command, tmp_path / "desk", cache)) == masked(printed), command
