"""Who says that the kernel killed something for lack of memory, and who is believed."""

from __future__ import annotations

from pathlib import Path

import pytest

from theory_runtime import memory
from theory_runtime.memory import oom_kills


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(memory, "_CGROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(memory, "_OWN", tmp_path / "own")
    monkeypatch.setattr(memory, "_MACHINE", tmp_path / "vmstat")
    (tmp_path / "vmstat").write_text("nr_free_pages 7\noom_kill 40\n")
    return tmp_path


def put(folder: Path, name: str, text: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text)


def test_the_machine_counts_where_no_group_does(machine: Path) -> None:
    assert oom_kills() == 40
    (machine / "own").write_text("0::/\n")
    assert oom_kills() == 40


@pytest.mark.parametrize("mounted", ["cgroup/box", "cgroup"])
def test_a_group_of_the_second_version_counts_for_itself(machine: Path, mounted: str) -> None:
    (machine / "own").write_text("0::/box\n")
    put(machine / mounted, "memory.events", "low 0\noom 2\noom_kill 1\n")
    assert oom_kills() == 1


@pytest.mark.parametrize("mounted", ["cgroup/memory/box", "cgroup/memory"])
def test_a_group_of_the_first_version_counts_for_itself(machine: Path, mounted: str) -> None:
    (machine / "own").write_text("8:pids:/\n4:memory:/box\n0::/\n")
    put(machine / mounted, "memory.oom_control", "oom_kill_disable 0\noom_kill 3\n")
    assert oom_kills() == 3


def test_a_machine_that_says_nothing_killed_nobody(machine: Path) -> None:
    (machine / "vmstat").unlink()
    assert oom_kills() == 0
