"""Environments are made once, whole or not at all, from locks and local wheels; no network here."""

from __future__ import annotations

import asyncio
import os
import shutil
import stat
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

from theory_api.adapters.process.environment import Environments
from theory_core import TheoryError


def wheel(folder: Path, name: str, modules: dict[str, str], version: str = "0.1.0") -> Path:
    """A wheel with these modules."""
    file = folder / f"{name}-{version}-py3-none-any.whl"
    info = f"{name}-{version}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    tags = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    with zipfile.ZipFile(file, "w") as archive:
        for path, text in modules.items():
            archive.writestr(path, text)
        archive.writestr(f"{info}/METADATA", metadata)
        archive.writestr(f"{info}/WHEEL", tags)
        archive.writestr(f"{info}/RECORD", "")
    return file


class World:
    """A processor's folder, the wheels, and what was said."""

    def __init__(self, root: Path) -> None:
        self.root = root / "environments"
        self.wheels = root / "wheels"
        self.folder = root / "test" / "quiet" / "1"
        self.said: list[str] = []
        self.wheels.mkdir()
        self.folder.mkdir(parents=True)
        (self.folder / "requirements.txt").write_text("# nothing\n")
        wheel(self.wheels, "theory_core", {"theory_core/__init__.py": ""})
        runtime = {"theory_runtime/__init__.py": "", "theory_runtime/service.py": ""}
        wheel(self.wheels, "theory_runtime", runtime)

    @property
    def environments(self) -> Environments:
        return Environments(self.root, self.wheels)

    async def make(self, mode: str = "mock") -> Path:
        return await self.environments.python_for(self.folder, mode, self.said.append)

    def made(self) -> list[str]:
        """Complete environments and remains of incomplete ones."""
        found = self.root.iterdir() if self.root.exists() else ()
        return [one.name for one in found if one.suffix != ".lock"]


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    return World(tmp_path)


async def test_an_environment_is_made_once_and_then_costs_nothing(world: World) -> None:
    python = await world.make()
    assert [sentence.partition(" ")[0] for sentence in world.said] == [
        "Making",
        "Installing",
        "The",
    ]
    assert "test/quiet/1" in world.said[0]
    done = await asyncio.create_subprocess_exec(python, "-c", "import theory_runtime, theory_core")
    assert await done.wait() == 0
    world.said.clear()
    began = time.monotonic()
    assert await world.make() == python
    assert time.monotonic() - began < 0.5
    assert world.said == []


async def test_another_lock_or_wheel_is_another_environment(world: World) -> None:
    first = await world.make()
    (world.folder / "requirements.txt").write_text("# still nothing\n")
    second = await world.make()
    wheel(world.wheels, "theory_core", {"theory_core/__init__.py": "NEW = 1"})
    third = await world.make()
    assert len({first, second, third}) == 3
    assert len(world.made()) == 3


async def test_mode_real_has_an_environment_of_its_own_where_it_needs_one(world: World) -> None:
    mock = await world.make("mock")
    assert await world.make("real") == mock
    (world.folder / "requirements-real.txt").write_text("# more\n")
    assert await world.make("real") != mock
    assert await world.make("mock") == mock


async def test_two_makers_at_once_make_one(world: World) -> None:
    pythons = await asyncio.gather(*(world.make() for _ in range(3)))
    assert len(set(pythons)) == 1
    assert len([sentence for sentence in world.said if sentence.startswith("Making")]) == 1


async def test_a_failure_keeps_nothing_and_says_why(world: World) -> None:
    pin = "no-such-thing==1.0 --hash=sha256:" + "0" * 64 + "\n"
    (world.folder / "requirements.txt").write_text(pin)
    with pytest.raises(TheoryError) as caught:
        await world.make()
    assert caught.value.code == "ERR_UNAVAILABLE"
    assert "no-such-thing" in str(caught.value.detail["log"])
    assert "remedy" in caught.value.detail
    assert world.made() == []


@pytest.mark.scenario(102)
async def test_a_requirement_without_a_hash_is_refused(world: World) -> None:
    unpinned = wheel(world.wheels, "other", {})
    (world.folder / "requirements.txt").write_text(f"{unpinned}\n")
    with pytest.raises(TheoryError) as caught:
        await world.make()
    assert "Hashes are required" in str(caught.value.detail["log"])


async def test_wheels_that_do_not_work_together_are_no_environment(world: World) -> None:
    wheel(world.wheels, "theory_runtime", {"theory_runtime/__init__.py": "import no_such_module"})
    with pytest.raises(TheoryError) as caught:
        await world.make()
    assert "no_such_module" in str(caught.value.detail["log"])
    assert world.made() == []


async def test_a_missing_or_ambiguous_wheel_is_named(world: World) -> None:
    wheel(world.wheels, "theory_core", {}, version="0.0.9")
    with pytest.raises(TheoryError) as caught:
        await world.make()
    assert caught.value.message.startswith("unavailable: 2 wheels of theory_core")
    for one in world.wheels.iterdir():
        one.unlink()
    with pytest.raises(TheoryError) as caught:
        await world.make()
    assert caught.value.message.startswith("unavailable: 0 wheels of theory_core")


async def test_a_processor_without_a_lock_is_told_so(world: World) -> None:
    (world.folder / "requirements.txt").unlink()
    with pytest.raises(TheoryError) as caught:
        await world.make()
    assert caught.value.code == "ERR_UNAVAILABLE"
    assert caught.value.message.endswith("no readable requirements.txt")


async def test_an_environment_whose_interpreter_is_gone_is_made_again(world: World) -> None:
    python = await world.make()
    python.unlink()
    python.symlink_to("/no/such/python")
    assert await world.make() == python
    assert python.exists()


async def test_remains_of_a_killed_maker_are_replaced(world: World) -> None:
    python = await world.make()
    home = python.parents[1]
    shutil.rmtree(home)
    part = home.with_name(f"{home.name}.part")
    part.mkdir()
    (part / "half").write_text("done")
    assert await world.make() == python
    assert world.made() == [home.name]


async def test_a_cancelled_maker_leaves_nothing(world: World) -> None:
    making = asyncio.create_task(world.make())

    def begun() -> bool:
        return any(name.endswith(".part") for name in world.made())

    while not begun():  # noqa: ASYNC110 - another process makes it
        await asyncio.sleep(0.01)
    making.cancel()
    with pytest.raises(asyncio.CancelledError):
        await making
    assert world.made() == []
    assert (await world.make()).exists()


async def test_two_processes_at_once_make_one(world: World) -> None:
    script = (
        "import asyncio, sys\nfrom pathlib import Path\n"
        "from theory_api.adapters.process.environment import Environments\n"
        "root, wheels, folder = map(Path, sys.argv[1:])\n"
        "say = lambda text: print(text, file=sys.stderr)\n"
        "print(asyncio.run(Environments(root, wheels).python_for(folder, 'mock', say)))\n"
    )
    command = [sys.executable, "-c", script, world.root, world.wheels, world.folder]
    pair = [
        await asyncio.create_subprocess_exec(
            *map(str, command), stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        for _ in range(2)
    ]
    answers = [await one.communicate() for one in pair]
    assert answers[0][0] == answers[1][0] != b""
    assert sum(told.count(b"Making") for _, told in answers) == 1


async def test_a_folder_that_cannot_be_written_is_a_storage_error(world: World) -> None:
    world.root.write_text("a file")
    assert stat.S_ISREG(world.root.stat().st_mode)
    with pytest.raises(TheoryError) as caught:
        await world.make()
    assert caught.value.code == "ERR_STORAGE"
