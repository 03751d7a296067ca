"""A guide is followed word for word: its files are written, its commands run, its words come."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

GUIDES = Path(__file__).resolve().parents[1] / "source" / "guides"
BLOCK = re.compile(
    r"^```(?:\{code-block\} (?P<kind>\w+)\n:caption: (?P<file>\S+)\n|(?P<plain>console)\n)"
    r"(?P<body>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)


def steps(guide: str) -> Iterator[tuple[str, str, list[str]]]:
    """What a reader does: `write` a file with lines, or `run` a command that says lines."""
    for block in BLOCK.finditer(guide):
        if block["file"]:
            yield "write", block["file"], block["body"].lstrip("\n").splitlines()
            continue
        for part in re.split(r"^\$ ", block["body"], flags=re.MULTILINE)[1:]:
            command, *said = part.splitlines()
            yield "run", command.partition("  #")[0], said


def fits(line: str, said: str) -> bool:
    """Whether a line was said; `…` in it stands for anything."""
    pattern = ".*".join(re.escape(part) for part in line.split("…"))
    return re.search(f"^{pattern}$", said, re.MULTILINE) is not None


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder in which `theory` is the command of this checkout."""
    script = tmp_path / "bin" / "theory"
    script.parent.mkdir()
    script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m theory_api.cli.main "$@"\n')
    script.chmod(0o755)
    return tmp_path


def follow(guide: str, folder: Path) -> int:
    """Do every step in one shell, each seeing what the ones before it set; how many there were."""
    given = {name: value for name, value in os.environ.items() if name not in {"CI", "RUN_TARGET"}}
    given["PATH"] = f"{folder / 'bin'}:{given['PATH']}"
    given["COLUMNS"] = "200"
    exports, todo = "", list(steps(guide))
    for step, subject, lines in todo:
        if step == "write":
            assert (folder / subject).exists(), f"{subject} was not begun by any command"
            (folder / subject).write_text("\n".join(lines) + "\n", encoding="utf-8")
            continue
        if subject.startswith("export "):
            exports += subject + "; "
            continue
        ran = subprocess.run(
            ["bash", "-c", exports + subject],
            cwd=folder,
            env=given,
            capture_output=True,
            text=True,
            check=False,
            timeout=110,
        )
        assert ran.returncode == 0, f"{subject}\n{ran.stdout}{ran.stderr}"
        for line in lines:
            assert fits(line, ran.stdout), f"{subject}: {line!r} is not in\n{ran.stdout}"
    return len(todo)


@pytest.mark.slow
def test_the_first_processor_is_written_examined_and_run_as_its_guide_says(folder: Path) -> None:
    guide = (GUIDES / "first-processor.md").read_text(encoding="utf-8")
    assert follow(guide, folder) == 9


def test_every_guide_is_listed() -> None:
    listed = (GUIDES / "index.md").read_text(encoding="utf-8").split()
    assert all(guide.stem in listed for guide in GUIDES.glob("*.md") if guide.stem != "index")
