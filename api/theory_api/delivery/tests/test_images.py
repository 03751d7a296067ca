"""The steps of a build that do not end, or fail."""

from __future__ import annotations

import sys
import time

import pytest

from theory_api.delivery import images
from theory_core import TheoryError

HANGS = (
    "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import time; time.sleep(60)'])"
)


def test_a_step_that_hangs_ends_with_all_that_it_started(monkeypatch: pytest.MonkeyPatch) -> None:
    """The grandchild holds the pipe: who killed the child alone would wait for it."""
    monkeypatch.setattr(images, "STEP_S", 1.0)
    began = time.monotonic()
    with pytest.raises(TheoryError, match=r"did not end within 1 s"):
        images._run([sys.executable, "-c", HANGS])
    assert time.monotonic() - began < 30


def test_a_step_that_fails_says_what_it_said_last() -> None:
    with pytest.raises(TheoryError, match="failed: no such package"):
        images._run([sys.executable, "-c", "print('no such package'); raise SystemExit(1)"])
