"""A processor in another language, which shares no code with ours, passes every case."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import socket
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest

from theory_api.delivery.conformance.bench import Bench, Pace
from theory_api.delivery.conformance.door import Door
from theory_api.delivery.conformance.kit import examine
from theory_api.delivery.conformance.sample import Sample, read_sample
from theory_api.delivery.conformance.talk import Target, talk
from theory_api.settings import read

SOURCE = Path(__file__).resolve().parents[5] / "processors" / "examples" / "node-words" / "1"


@pytest.fixture
def node() -> str:
    """The interpreter; without it these tests are skipped, but never in CI."""
    found = shutil.which("node")
    if found is None:
        if os.environ.get("CI"):
            pytest.fail("Node is not installed: .ci/run installs it")
        pytest.skip("Node is not installed: the second runtime was not examined")
    return found


@pytest.fixture
async def sample(node: str) -> Sample:
    """The processor's own sample, told the Node that is here."""
    process = await asyncio.create_subprocess_exec(
        node, "--version", stdout=asyncio.subprocess.PIPE
    )
    said, _ = await process.communicate()
    major = said.decode().lstrip("v").partition(".")[0]
    file = SOURCE / "conformance.yaml"
    text = re.sub("runtime:node[0-9]+", f"runtime:node{major}", file.read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory() as folder:
        own = Path(folder) / file.name
        own.write_text(text, encoding="utf-8")
        return read_sample(own, platform=read({}).platform)


@contextlib.asynccontextmanager
async def served(node: str, *words: str) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(node, str(SOURCE / "main.mjs"), *words)
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        await asyncio.wait_for(process.wait(), 10)


async def healthy(target: Target) -> None:
    from httpx import TransportError  # noqa: PLC0415 - one word of it

    for _ in range(200):
        with contextlib.suppress(TransportError):
            await target.health()
            return
        await asyncio.sleep(0.05)
    pytest.fail("it never listened")


@pytest.mark.slow
async def test_over_a_socket_it_passes_every_case_and_none_is_left_out(
    node: str, sample: Sample
) -> None:
    with tempfile.TemporaryDirectory(prefix="th-", dir="/tmp") as folder:
        async with served(node, "--serve", folder) as process:
            target = Target(f"{folder}/run.sock")
            await healthy(target)
            report = await examine(target, sample, folder=Path(folder))
            assert process.returncode is None
    assert [(v.id, v.seen) for v in report.verdicts if v.standing != "passed"] == []


async def test_a_folder_may_have_another_name_on_the_other_side(node: str, sample: Sample) -> None:
    with tempfile.TemporaryDirectory(prefix="th-", dir="/tmp") as folder:
        there, here = Path(folder) / "there", Path(folder) / "here"
        there.mkdir()
        here.symlink_to(there)
        async with served(node, "--serve", str(there)):
            target = Target(f"{here}/run.sock")
            await healthy(target)
            cases = ["run.success", "doors.socket", "doors.url", "doors.same"]
            report = await examine(target, sample, folder=here, seen_as=str(there), only=cases)
    assert report.of("passed") == ["run.success", "doors.socket"]
    assert report.of("skipped") == ["doors.url", "doors.same"]


@pytest.mark.slow
async def test_by_its_address_it_passes_the_same_cases(node: str, sample: Sample) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    async with served(node, "--port", str(port)):
        target = Target(f"ws://127.0.0.1:{port}/run")
        await healthy(target)
        report = await examine(target, sample)
    assert [(v.id, v.seen) for v in report.verdicts if v.standing != "passed"] == []


async def test_it_leaves_no_process_behind_when_it_is_told_to_end_in_a_run(
    node: str, sample: Sample
) -> None:
    with tempfile.TemporaryDirectory(prefix="th-", dir="/tmp") as folder:
        target, door = Target(f"{folder}/run.sock"), Door(Path(folder), {})
        async with door.open(), served(node, "--serve", folder) as process:
            await healthy(target)
            bench = Bench(target, sample, door, Pace())
            async with talk(target) as client:
                await client.say(bench.order({"text": "again", "repeat": 900_000}).opening())
                await client.until("Token")
                workers = psutil.Process(process.pid).children(recursive=True)
                process.terminate()
                await client.until("RunResult")
            await process.wait()
        assert client.heard.code == "ERR_CANCELLED"
    assert workers
    assert [worker for worker in workers if worker.is_running()] == []
