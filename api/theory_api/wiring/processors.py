"""A processor of this machine, served without a scheduler: for whoever examines it."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Final

import httpx

from theory_api.adapters.process import folder_resolver, kin
from theory_api.adapters.process.environment import Environments
from theory_api.adapters.process.supervisor import CONFIRM_S, Supervisor
from theory_api.adapters.run_v1.health import HealthPace, await_healthy
from theory_api.settings import Settings
from theory_api.wiring import start_logging

_EXIT_S: Final = 8.0
"""For its runs to end, each with its grace."""


@contextlib.asynccontextmanager
async def served(
    settings: Settings, ref: str, on_progress: Callable[[str], None]
) -> AsyncIterator[Path]:
    """The folder with the `run.sock` of a processor that runs as a child process, without secrets.

    Raises `TheoryError`: `ERR_NOT_FOUND`, `ERR_UNAVAILABLE`, `ERR_STORAGE`, `ERR_HEALTH`.
    """
    start_logging(settings)
    source = folder_resolver(settings.processors)(ref)
    environments = Environments(settings.cache / "environments", settings.wheels)
    python = await environments.python_for(source, "mock", on_progress)
    # Short, as the path of a socket has to be.
    folder = Path(await asyncio.to_thread(tempfile.mkdtemp, prefix="theory-", dir="/tmp"))  # noqa: S108 - private by mkdtemp
    try:
        supervisor = Supervisor.start(python, source / "main.py", folder)
        try:
            transport = httpx.AsyncHTTPTransport(uds=str(folder / "run.sock"))
            ended = asyncio.shield(supervisor.exited)
            await await_healthy(transport, ended=ended, pace=HealthPace())
            yield folder
        finally:
            await supervisor.end(grace_s=_EXIT_S)
            # What its runs left behind, and did not end with it.
            await asyncio.to_thread(kin.kill, folder, within_s=CONFIRM_S)
    finally:
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
