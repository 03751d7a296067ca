"""A person at a terminal, for tests: a folder, and the command line as a function."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from theory_api.cli.main import main

PLAN = """\
schema: theory.plan.v1
plan: story
budget: {cpu_ms: 60000, latency_ms: 360000, io_bytes: 40000000}
transitions:
  write:
    processor_ref: llm/litellm@1
    mode: mock
    inputs: {task: script, text: {$attach: text}}
"""
TEXT = "A tide mill works with the moon. Twice a day the pond turns the wheel.\n"


@dataclass(frozen=True)
class Printed:
    """What a command answered."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:  # noqa: ANN401 - answers differ
        return json.loads(self.out)


@dataclass(frozen=True)
class Desk:
    """A person at a terminal, in a folder with a plan and a text."""

    folder: Path
    capture: pytest.CaptureFixture[str]

    def theory(self, *words: str) -> Printed:
        self.capture.readouterr()
        code = main(["--home", str(self.folder / "home"), *words])
        return Printed(code, *self.capture.readouterr())

    def file(self, name: str, text: str) -> str:
        path = self.folder / name
        path.write_text(text, encoding="utf-8")
        return str(path)


def environment(folder: Path, patch: pytest.MonkeyPatch) -> None:
    """Nothing of the machine's own settings, and environments that outlive a test."""
    cache = os.environ.get("THEORY_CACHE") or str(folder / "cache")
    for name in [name for name in os.environ if name.startswith("THEORY_")]:
        patch.delenv(name)
    for name in ("CI", "RUN_TARGET"):
        patch.delenv(name, raising=False)
    patch.setenv("THEORY_CACHE", cache)
