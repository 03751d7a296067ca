"""How a run ends that does not end by itself, and that nothing of it is left."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from theory_api.adapters.process import kin
from theory_api.adapters.process.kin import find
from theory_api.adapters.process.tests.conftest import Bench, until
from theory_api.adapters.run_v1.places import runtime_root
from theory_api.ports.adapter import Standing
from theory_core import TheoryError

HANGING = ["sleep", "deaf", "locked"]


async def begun(bench: Bench, running: asyncio.Task[dict[str, Any]], name: str = "x1") -> None:
    """Wait until the provider said that it hangs."""

    def asleep() -> bool:
        heard = (frame["content"].get("phase") for frame in bench.frames)
        return running.done() or "asleep" in heard

    assert await asyncio.to_thread(until, asleep, within_s=30)
    assert not running.done()
    assert bench.kin(name)


@pytest.mark.parametrize("deed", HANGING)
async def test_a_cancelled_run_is_dead_when_cancel_says_so(bench: Bench, deed: str) -> None:
    running = asyncio.create_task(bench.run({"do": deed}))
    await begun(bench, running)
    began = time.monotonic()
    assert await bench.adapter.cancel("x1")
    assert bench.kin() == []
    envelope = await running
    assert envelope["error"]["code"] == "ERR_CANCELLED"
    assert bench.kinds().count("RunResult") == 1
    assert time.monotonic() - began < 8
    assert (await bench.receipt())["written_by"] == "supervisor"
    assert await bench.adapter.cancel("x1")


async def test_a_flood_of_frames_does_not_delay_a_cancel(bench: Bench) -> None:
    running = asyncio.create_task(bench.run({"do": "flood", "count": 100_000_000}))
    assert await asyncio.to_thread(until, lambda: len(bench.frames) > 1000, within_s=20)
    began = time.monotonic()
    assert await bench.adapter.cancel("x1")
    assert (await running)["error"]["code"] == "ERR_CANCELLED"
    assert time.monotonic() - began < 5
    assert (await bench.receipt())["written_by"] == "supervisor"


@pytest.mark.parametrize("deed", ["sleep", "deaf"])
async def test_a_run_beyond_its_time_is_stopped(bench: Bench, deed: str) -> None:
    envelope = await bench.run({"do": deed}, timeout_s=1)
    assert envelope["error"] == {"code": "ERR_TIMEOUT", "message": "timed out"}
    assert bench.kin() == []


async def test_a_run_is_cancelled_before_its_server_listens(bench: Bench) -> None:
    running = asyncio.create_task(bench.run({"do": "sleep"}))
    assert await asyncio.to_thread(until, lambda: bool(bench.kin()), within_s=20)
    assert await bench.adapter.cancel("x1")
    assert (await running)["error"]["code"] == "ERR_CANCELLED"
    assert bench.frames == []


async def test_a_caller_that_goes_away_takes_the_run_along(bench: Bench) -> None:
    running = asyncio.create_task(bench.run({"do": "deaf"}))
    await begun(bench, running)
    began = time.monotonic()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert bench.kin() == []
    assert time.monotonic() - began < 3


async def test_a_caller_that_is_cancelled_twice_still_has_the_door_closed(bench: Bench) -> None:
    running = asyncio.create_task(bench.run({"do": "deaf"}))
    await begun(bench, running)
    running.cancel()
    await asyncio.sleep(0)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    socket = bench.adapter._live["x1"].place.io_socket
    assert await asyncio.to_thread(until, lambda: not Path(socket).exists(), within_s=20)
    assert bench.kin() == []
    assert await asyncio.wait_for(bench.adapter.cancel("x1"), 20)


async def test_closing_the_adapter_ends_all_its_runs(bench: Bench) -> None:
    runs = [asyncio.create_task(bench.run({"do": "sleep"}, name=name)) for name in ("x1", "x2")]
    for name in ("x1", "x2"):
        await begun(bench, runs[0], name)
    await bench.adapter.close()
    assert {(await run)["error"]["code"] for run in runs} == {"ERR_CANCELLED"}
    assert bench.kin("x1") + bench.kin("x2") == []


@pytest.mark.parametrize("deed", HANGING)
async def test_a_server_that_is_killed_takes_its_worker_along(bench: Bench, deed: str) -> None:
    running = asyncio.create_task(bench.run({"do": deed}))
    await begun(bench, running)
    live = bench.adapter._live["x1"].supervisor
    assert live is not None
    live.kill()
    assert await asyncio.to_thread(until, lambda: not bench.kin(), within_s=2)
    envelope = await running
    told = {"code": "ERR_INTERNAL", "message": "internal error: runtime ended"}
    assert envelope["error"] == told


async def test_a_server_that_cannot_start_says_why(bench: Bench, short: Path) -> None:
    folder = short / "broken"
    folder.mkdir()
    (folder / "main.py").write_text("import no_such_module\n")
    bench.adapter._resolver = lambda _ref: folder
    envelope = await bench.run({"do": "echo"})
    assert envelope["error"]["code"] == "ERR_HEALTH"
    assert "no_such_module" in envelope["meta"]["stderr_tail"]


async def test_a_server_that_never_listens_is_given_up(bench: Bench, short: Path) -> None:
    folder = short / "mute"
    folder.mkdir()
    (folder / "main.py").write_text("import time\ntime.sleep(600)\n")
    bench.adapter._resolver = lambda _ref: folder
    object.__setattr__(bench.adapter._pace.health, "budget_s", 0.5)
    envelope = await bench.run({"do": "echo"})
    assert envelope["error"]["code"] == "ERR_HEALTH"
    assert bench.kin() == []


async def test_a_death_that_is_not_confirmed_is_told(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kin, "kill", lambda _folder, within_s: within_s < 0)
    envelope = await bench.run({"do": "echo"})
    monkeypatch.undo()
    assert envelope["error"] == {
        "code": "ERR_ORPHANED",
        "message": "execution lost its owner: still running",
    }


async def test_an_environment_that_cannot_be_made_is_told_without_its_log(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_arguments: object) -> Path:
        raise TheoryError("ERR_UNAVAILABLE", "unavailable: canary\ncanary", {"log": "canary"})

    monkeypatch.setattr(bench.adapter._environments, "python_for", fail)
    envelope = await bench.run({"do": "echo"})
    assert envelope["error"] == {"code": "ERR_UNAVAILABLE", "message": "unavailable"}


PARENT = """
import asyncio, sys
from pathlib import Path
from theory_api.adapters.memory.artifacts import MemoryArtifacts
from theory_api.adapters.memory.intakes import MemoryIntakes
from theory_api.adapters.process.tests.conftest import FIXTURES, Bench, Here
from theory_api.adapters.process import ProcessWsAdapter, folder_resolver

async def main(home, deed):
    artifacts = MemoryArtifacts()
    intakes = MemoryIntakes(artifacts)
    adapter = ProcessWsAdapter(resolver=folder_resolver(FIXTURES), intakes=intakes,
        environments=Here(), wheels=home, home=home)
    bench = Bench(adapter, intakes, artifacts, home, {})
    await bench.run({"do": deed})

asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
"""


@pytest.mark.parametrize("deed", HANGING)
async def test_a_parent_that_is_killed_leaves_no_process_and_a_successor_can_tell(
    bench: Bench, short: Path, deed: str
) -> None:
    parent = subprocess.Popen(  # noqa: ASYNC220 - killed below
        [sys.executable, "-c", PARENT, str(short), deed],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    folder = runtime_root(short) / "x1"

    def deep() -> bool:
        return len(set(find(folder))) >= 3

    assert await asyncio.to_thread(until, deep, within_s=20)
    assert await bench.adapter.standing("x1") is Standing.RUNNING
    parent.kill()
    parent.wait()
    assert await asyncio.to_thread(until, lambda: not bench.kin(), within_s=2)
    assert await bench.adapter.standing("x1") is Standing.GONE
    assert await bench.adapter.cancel("x1")
    await bench.adapter.release("x1")
    assert await bench.adapter.standing("x1") is Standing.ABSENT


async def test_leftovers_of_an_earlier_owner_are_ended(bench: Bench) -> None:
    folder = runtime_root(bench.home) / "x1"
    stray = subprocess.Popen(  # noqa: ASYNC220 - killed below
        ["/bin/sleep", "600"], env={"THEORY_RUN_DIR": str(folder)}, start_new_session=True
    )
    # A program is there a moment before its environment can be read.
    assert await asyncio.to_thread(until, lambda: any(find(folder)), within_s=10)
    assert await bench.adapter.standing("x1") is Standing.RUNNING
    assert await bench.adapter.cancel("x1")
    assert stray.wait(timeout=5) == -signal.SIGKILL
    assert await bench.adapter.standing("x1") is Standing.ABSENT


async def test_nothing_starts_while_its_owner_may_be_replaced_and_the_mark_says_so_before(
    bench: Bench,
) -> None:
    marked: list[bool] = []
    asked = asyncio.Event()

    def replaced() -> bool:
        marked.append(bench.adapter._places.is_marked("x1"))
        asked.set()
        return False

    bench.adapter._may_start = replaced
    running = asyncio.create_task(bench.run({"do": "echo"}))
    await asked.wait()
    assert await bench.adapter.cancel("x1")
    envelope = await running
    assert envelope["error"]["code"] == "ERR_CANCELLED"
    assert set(marked) == {True}, "a successor that finds no mark has claimed before this question"
    assert bench.frames == []
    assert await bench.adapter.standing("x1") is Standing.GONE


async def test_a_lease_that_lapsed_and_was_renewed_costs_time_and_not_the_attempt(
    bench: Bench,
) -> None:
    answers = [False, False, True]
    bench.adapter._may_start = lambda: answers.pop(0)
    envelope = await bench.run({"do": "echo"})
    assert envelope["status"] == "success"
    assert answers == []


async def test_many_questions_at_once_are_one_look_at_the_machine(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[None] = []
    look = kin.folders

    def counted() -> frozenset[str]:
        looks.append(None)
        return look()

    monkeypatch.setattr(kin, "folders", counted)
    names = [f"x{number}" for number in range(50)]
    found = await asyncio.gather(*(bench.adapter.standing(name) for name in names))
    assert set(found) == {Standing.ABSENT}
    assert await asyncio.gather(*(bench.adapter.cancel(name) for name in names)) == [True] * 50
    assert len(looks) == 2


async def test_the_mark_survives_the_loss_of_the_runtime_folder(bench: Bench) -> None:
    await bench.run({"do": "echo"})
    (runtime_root(bench.home) / "x1").rename(bench.home / "lost")
    assert await bench.adapter.standing("x1") is Standing.GONE


async def test_a_folder_of_somebody_else_is_not_used(bench: Bench) -> None:
    root = runtime_root(bench.home)
    root.mkdir(mode=0o777)
    root.chmod(0o777)
    envelope = await bench.run({"do": "echo"})
    assert envelope["error"]["code"] == "ERR_STORAGE"
    root.rmdir()
    root.symlink_to(bench.home)
    assert (await bench.run({"do": "echo"}))["error"]["code"] == "ERR_STORAGE"
    root.unlink()


async def test_a_run_is_remembered_until_it_is_released(bench: Bench) -> None:
    await bench.run({"do": "sleep"}, timeout_s=1)
    assert await bench.adapter.remembered() == ("x1",)
    await bench.adapter.release("x1")
    assert await bench.adapter.remembered() == ()


async def test_a_run_of_which_something_lives_on_is_not_forgotten(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    await bench.run({"do": "many", "count": 1})
    with monkeypatch.context() as stubborn:
        stubborn.setattr(kin, "kill", lambda _folder, *, within_s: within_s < 0)
        with pytest.raises(TheoryError) as refused:
            await bench.adapter.release("x1")
    assert refused.value.code == "ERR_UNAVAILABLE"
    assert await bench.adapter.remembered() == ("x1",)
    await bench.adapter.release("x1")
    assert await bench.adapter.remembered() == ()
