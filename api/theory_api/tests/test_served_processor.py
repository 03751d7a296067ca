"""A processor that is served for an examination leaves nothing behind."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from theory_api.adapters.process.environment import Environments
from theory_api.adapters.process.kin import RUN_DIR
from theory_api.delivery.conformance.kit import examine
from theory_api.delivery.conformance.sample import Sample
from theory_api.delivery.conformance.talk import Target
from theory_api.settings import read
from theory_api.tests import transports
from theory_api.tests.transports import DIGEST, FIXTURES, PRINT, REF
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


async def listens(target: Target) -> bool:
    try:
        await target.health()
    except httpx.TransportError:
        return False
    return True


async def test_a_runtime_that_was_told_its_digest_says_it_where_it_is_asked_for(
    tmp_path: Path,
) -> None:
    sample = Sample(ref=REF, fingerprint=PRINT, params={"do": "returned", "what": "pair"})
    cases = ["envelope.digest", "environment.image", "environment.pinned"]
    with transports.short_folder() as folder:
        async with transports.served(folder, "--image-digest", DIGEST) as endpoint:
            target = Target(endpoint.url.replace("http", "ws") + "/run")
            async with asyncio.timeout(60):
                while not await listens(target):  # noqa: ASYNC110 - it tells nobody
                    await asyncio.sleep(0.05)
            report = await examine(target, sample, folder=tmp_path, only=cases)
    assert report.of("passed") == cases
