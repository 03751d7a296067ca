"""Those who watch a run, lazily, late or not at all, and what they cost it: nothing."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from theory_runtime.tests.conftest import Service, frames


def peak_bytes(pid: int) -> int:
    """The most memory that a process had so far."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


def assert_whole(heard: list[dict[str, Any]]) -> list[dict[str, int]]:
    """The gaps among the frames after `Ack`; every number is there, or in one of them."""
    gaps, due = [], 1
    for frame in heard[1:]:
        if frame["kind"] == "Gap":
            gaps.append(frame["content"])
            assert frame["content"]["from"] == due
            due = frame["content"]["to"] + 1
        else:
            assert frame["seq"] == due
            due += 1
    return gaps


@pytest.mark.scenario(91)
@pytest.mark.parametrize(("size", "complete"), [(600, True), (4200, False)])
async def test_a_viewer_that_does_not_read_holds_nobody_up_and_is_told_what_it_missed(
    service: Service, size: int, *, complete: bool
) -> None:
    async with service.connect() as client:
        await client.send(service.opening("flood", count=40_000, size=size))
        await client.recv()
        async with service.connect() as lazy:
            await lazy.send(service.opening(role="observer"))
            transport: Any = lazy.transport
            transport.pause_reading()
            async with asyncio.timeout(60):
                last = [message async for message in client][-1]
            transport.resume_reading()
            seen = await frames(lazy)
    gaps = assert_whole(seen)
    assert (gaps == []) is complete
    assert json.loads(last) == seen[-1]
    assert seen[-1]["kind"] == "RunResult"
    assert [path.name for path in service.folder.iterdir() if path.name.startswith("tmp")] == []


async def test_whoever_comes_back_late_hears_all_that_was_kept_on_disk(service: Service) -> None:
    message = service.opening("flood", count=20_000)
    async with service.connect() as client:
        await client.send(message)
        first = await frames(client)
    async with service.connect() as again:
        await again.send(service.opening(role="observer", resume_from=100))
        heard = await frames(again)
    assert heard[1:] == first[101:]


VIEWER = """
import asyncio, json, sys
from websockets.asyncio.client import unix_connect

async def view():
    async with unix_connect(sys.argv[1], "ws://localhost/run", subprotocols=["theory.run.v1"],
                            compression=None, max_size=None) as connection:
        await connection.send(sys.argv[2])
        print("open", flush=True)
        async for message in connection:
            frame = json.loads(message)
        print(frame["kind"], flush=True)

asyncio.run(view())
"""


async def test_a_viewer_that_is_stopped_holds_nobody_up_and_still_hears_the_result(
    service: Service,
) -> None:
    async with service.connect() as client:
        await client.send(service.opening("paced", count=20, pause_s=0.05))
        await client.recv()
        viewer = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            VIEWER,
            str(service.folder / "run.sock"),
            service.opening(role="observer"),
            stdout=asyncio.subprocess.PIPE,
        )
        assert viewer.stdout is not None
        assert await viewer.stdout.readline() == b"open\n"
        viewer.send_signal(signal.SIGSTOP)
        heard = await frames(client)
        assert heard[-1]["content"]["status"] == "success"
        viewer.send_signal(signal.SIGCONT)
        assert await viewer.stdout.readline() == b"RunResult\n"
        await viewer.wait()


@pytest.mark.scenario(93)
async def test_a_flood_of_100_mb_of_logs_is_cut_line_by_line_and_grows_nothing(
    service: Service,
) -> None:
    longest, marked, count = 0, 0, 0
    async with service.connect() as client:
        await client.send(service.opening("logs", size=200_000, count=500))
        async for text in client:
            frame = json.loads(text)
            if frame["kind"] == "Log":
                message = frame["content"]["message"]
                longest = max(longest, len(message.encode()))
                marked += message.endswith(" [cut: 200000 bytes]")
                count += 1
        assert frame["content"]["status"] == "success"
    assert (count, marked) == (500, 500)
    assert longest <= 64 * 1024
    assert peak_bytes(service.process.pid) < 120_000_000


async def test_a_client_that_leaves_changes_nothing(service: Service) -> None:
    async with service.connect() as client:
        await client.send(service.opening("paced", count=10, pause_s=0.05))
        await client.recv()
    async with service.connect() as observer:
        await observer.send(service.opening(role="observer"))
        heard = await frames(observer)
    assert [frame["kind"] for frame in heard].count("Token") == 10
    assert heard[-1]["content"]["status"] == "success"
