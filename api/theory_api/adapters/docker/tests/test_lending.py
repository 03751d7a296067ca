"""Who has a waiting container: one execution of one tenant, also after its owner was killed."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from theory_api.adapters.docker import held
from theory_api.adapters.docker.sandbox import WORK
from theory_api.adapters.docker.tests.conftest import Bench, adapter_of
from theory_api.adapters.docker.tests.test_runs import code
from theory_api.adapters.docker.tests.test_stops import started
from theory_api.adapters.docker.tests.test_warm import kind_of, waiting
from theory_api.adapters.memory.artifacts import MemoryArtifacts
from theory_api.adapters.memory.intakes import MemoryIntakes
from theory_api.adapters.run_v1.health import HealthPace
from theory_api.ports.adapter import Standing
from theory_api.tests.engine import left
from theory_core import TheoryError

pytestmark = pytest.mark.timeout(240)

OWNER = """
import asyncio, os, sys
from pathlib import Path
from theory_api.adapters.docker.tests import conftest as c

async def main():
    artifacts = c.MemoryArtifacts()
    intakes = c.MemoryIntakes(artifacts)
    home = Path(sys.argv[1])
    bench = c.Bench(c.adapter_of(home, intakes, {}), intakes, artifacts, home, None, {})
    run = asyncio.create_task(bench.run({"do": "deaf"}, name="xa"))
    while "Event" not in bench.kinds():
        assert not run.done(), run.result()
        await asyncio.sleep(0.05)
    print("works", flush=True)
    await asyncio.sleep(600)

asyncio.run(main())
"""


@pytest.mark.scenario(84)
async def test_a_container_whose_owner_was_killed_at_work_is_lent_to_nobody(bench: Bench) -> None:
    """The lock died with the owner; its run did not."""
    (ident,) = await waiting(bench)
    owner = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", OWNER, str(bench.home)), stdout=subprocess.PIPE
    )
    assert owner.stdout is not None
    async for line in owner.stdout:
        if line == b"works\n":
            os.kill(owner.pid, signal.SIGKILL)
    assert await owner.wait() == -signal.SIGKILL
    assert await bench.adapter.standing("xa") is Standing.RUNNING
    envelope = await bench.run({"do": "echo"}, name="xb")
    assert envelope["status"] == "success"
    assert bench.client.containers.list(all=True, filters={"id": ident}) == []
    assert await bench.adapter.standing("xa") is Standing.GONE
    assert await bench.adapter.cancel("xa")


async def test_a_held_lock_is_no_proof_that_a_run_has_ended(bench: Bench) -> None:
    (ident,) = await waiting(bench)
    run = await started(bench, {"do": "sleep"})
    successor = adapter_of(bench.home, MemoryIntakes(MemoryArtifacts()), {})
    assert await successor.cancel("x1")
    assert bench.client.containers.list(all=True, filters={"id": ident}) == []
    assert code(await run) in {"ERR_WS_CLOSE", "ERR_WS_TIMEOUT"}
    await successor.close()


async def test_a_container_that_could_not_be_removed_is_not_given_back(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    await waiting(bench)
    run = await started(bench, {"do": "sleep"})
    engine = bench.adapter._engine

    async def refuses(_container: str) -> None:
        raise TheoryError("ERR_DOCKER", "no")

    with monkeypatch.context() as patched:
        patched.setattr(engine, "remove", refuses)
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run
        assert not await bench.adapter.cancel("x1")
        kind = await kind_of(bench)
        assert await bench.adapter._pool.claim(kind, borrower="x2", tenant="") is None
    assert await bench.adapter.cancel("x1")
    assert await bench.adapter._pool.listed() == []


async def test_a_container_works_for_the_tenant_that_had_it_first(bench: Bench) -> None:
    await waiting(bench)
    kind, pool = await kind_of(bench), bench.adapter._pool
    first = await pool.claim(kind, borrower="x1", tenant="acme")
    assert first is not None
    await pool.give_back(first)
    assert await pool.claim(kind, borrower="x2", tenant="umbra") is None
    again = await pool.claim(kind, borrower="x3", tenant="acme")
    assert again is not None
    await pool.give_back(again)


async def test_nothing_that_a_run_left_in_memory_is_there_for_the_next(bench: Bench) -> None:
    (ident,) = await waiting(bench)
    run = asyncio.create_task(bench.run({"do": "paced", "count": 10, "pause_s": 0.3}))
    while "Token" not in bench.kinds():  # noqa: ASYNC110 - a list that others fill
        await asyncio.sleep(0.05)
    container = bench.client.containers.get(ident)
    leave = (
        "import os; os.makedirs('/tmp/a/b'); open('/tmp/a/b/c','w'); open('/dev/shm/kept','w');"
        f"os.chmod('/tmp/a', 0); open('{WORK}/left','w')"
    )
    assert container.exec_run(["python3", "-c", leave]).exit_code == 0
    assert (await run)["status"] == "success"
    look = f"import os; print(*map(os.listdir, ('/tmp', '/dev/shm', '/dev/mqueue', '{WORK}')))"
    assert container.exec_run(["python3", "-c", look]).output == b"[] [] [] []\n"


async def test_nothing_can_be_left_that_has_no_path(bench: Bench) -> None:
    (ident,) = await waiting(bench)
    container = bench.client.containers.get(ident)
    leave = (
        "import ctypes; c = ctypes.CDLL(None, use_errno=True); made = 0o1600;"
        "print(c.shmget(0x1234, 4096, made), c.msgget(0x1234, made), c.semget(0x1234, 1, made))"
    )
    assert container.exec_run(["python3", "-c", leave]).output == b"-1 -1 -1\n"


async def test_no_run_looks_into_its_supervisor(bench: Bench) -> None:
    (ident,) = await waiting(bench)
    container = bench.client.containers.get(ident)
    look = (
        "import pathlib; seen = {}\n"
        "for proc in pathlib.Path('/proc').glob('[0-9]*'):\n"
        "  if b'--serve' in (proc / 'cmdline').read_bytes().split(b'\\0'):\n"
        "    for name in ('mem', 'environ', 'maps'):\n"
        "      try: (proc / name).open('r+b' if name == 'mem' else 'rb').read(1)\n"
        "      except PermissionError: seen[name] = 'refused'\n"
        "      except OSError as error: seen[name] = error.strerror\n"
        "      else: seen[name] = 'open'\n"
        "print(sorted(seen.items()))"
    )
    printed = container.exec_run(["python3", "-c", look]).output.decode()
    assert printed == "[('environ', 'refused'), ('maps', 'refused'), ('mem', 'refused')]\n"


async def test_a_claim_that_fails_lets_go_of_its_lock(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    await waiting(bench)
    kind, pool = await kind_of(bench), bench.adapter._pool

    async def broken(_self: object, _pid: int = 0) -> None:
        raise TheoryError("ERR_DOCKER", "no")

    with monkeypatch.context() as patched:
        patched.setattr("theory_api.adapters.docker.container.Container.attend", broken)
        with pytest.raises(TheoryError, match="ERR_DOCKER"):
            await pool.claim(kind, borrower="x1", tenant="")
    lock = held.take(pool.folder("w1.lock"))
    assert lock is not None
    os.close(lock)


async def test_one_that_ended_is_not_listed_and_another_takes_its_place(bench: Bench) -> None:
    (ident,) = await waiting(bench)
    bench.client.containers.get(ident).kill()
    assert await bench.adapter._pool.listed() == []
    (other,) = await waiting(bench)
    assert other != ident


async def test_a_container_that_nothing_is_known_of_is_swept(bench: Bench) -> None:
    (ident,) = await waiting(bench)
    bench.adapter._pool.folder("w1.json").unlink()
    await bench.adapter._remains.sweep(set())
    assert bench.client.containers.list(all=True, filters={"id": ident}) == []


async def test_a_run_whose_container_nothing_is_known_of_counts_as_running(bench: Bench) -> None:
    (ident,) = await waiting(bench)
    run = await started(bench, {"do": "sleep"})
    bench.adapter._pool.folder("w1.json").unlink()
    successor = adapter_of(bench.home, MemoryIntakes(MemoryArtifacts()), {})
    assert await successor.standing("x1") is Standing.RUNNING
    assert await successor.cancel("x1")
    assert bench.client.containers.list(all=True, filters={"id": ident}) == []
    assert code(await run) in {"ERR_WS_CLOSE", "ERR_WS_TIMEOUT"}
    await successor.close()


async def test_a_start_that_is_abandoned_leaves_nothing(bench: Bench) -> None:
    kind, pool = await kind_of(bench), bench.adapter._pool
    starting = asyncio.create_task(pool.start(kind, pace=HealthPace()))
    until = time.monotonic() + 30
    while not pool._listed(""):
        assert time.monotonic() < until
        await asyncio.sleep(0.01)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert pool._listed("") == []
    # The engine may make it after all: then it is removed as soon as it says so.
    asked = bench.adapter._engine._threads.pop("docker", None)
    if asked is not None:
        await asyncio.to_thread(asked.shutdown)
    while left(bench.client, bench.adapter._home):
        assert time.monotonic() < until
        await asyncio.sleep(0.05)


def test_a_lock_of_a_file_that_was_replaced_is_no_lock(tmp_path: Path) -> None:
    file = tmp_path / "lock"
    assert held.take(file) is None
    first = held.take(file, make=True)
    assert first is not None
    assert held.take(file) is None
    file.unlink()
    second = held.take(file, make=True)
    assert second is not None
    os.close(first)
    os.close(second)
