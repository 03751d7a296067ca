"""A processor that is served for an examination leaves nothing behind."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from theory_api.adapters.process.environment import Environments
from theory_api.adapters.process.kin import RUN_DIR
from theory_api.settings import read
from theory_api.tests.transports import FIXTURES, REF
from theory_api.wiring.processors import served


async def test_what_a_served_processor_left_behind_ends_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def here(_of: object, _folder: Path, _mode: str, _said: Callable[[str], None]) -> Path:
        return Path(sys.executable)

    monkeypatch.setattr(Environments, "python_for", here)
    settings = read({"THEORY_PROCESSORS": str(FIXTURES)}, home=str(tmp_path))
    async with served(settings, REF, lambda _sentence: None) as folder:
        # As one that left its session, and whose parents were killed.
        left = subprocess.Popen(  # noqa: ASYNC220 - it is there at once
            [sys.executable, "-c", "import time; time.sleep(300)"],
            env={**os.environ, RUN_DIR: str(folder)},
            start_new_session=True,
        )
    try:
        assert left.poll() is not None
    finally:
        left.kill()
        left.wait()
