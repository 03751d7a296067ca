"""What every scratch promises: a note is whole or absent."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from theory_api.adapters.files.home import open_home
from theory_api.adapters.files.journalled import open_files
from theory_api.adapters.files.scratch import FileScratch
from theory_api.adapters.memory.scratch import MemoryScratch
from theory_api.adapters.tests.conftest import refused
from theory_api.ports.scratch import Scratch


@pytest.fixture(params=["memory", "files", "journalled"])
async def scratch(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Scratch]:
    if request.param == "journalled":
        async with open_files(open_home(tmp_path / "home")) as files:
            yield files.scratch
    else:
        yield MemoryScratch() if request.param == "memory" else FileScratch(tmp_path)


async def test_a_note_is_kept_until_it_is_dropped(scratch: Scratch) -> None:
    assert await scratch.load("x1") is None
    await scratch.save("x1", b"first")
    await scratch.save("x2", b"\x00" * 3_000_000)
    await scratch.save("x1", b"")
    assert await scratch.load("x1") == b""
    await scratch.drop("x1")
    await scratch.drop("x1")
    assert await scratch.load("x1") is None
    assert await scratch.load("x2") == b"\x00" * 3_000_000


@pytest.mark.parametrize("name", ["", "../x", "a/b", "A", "x" * 64, "a..b", ".hidden", "a\x00"])
async def test_an_id_that_is_no_name_never_becomes_a_place(scratch: Scratch, name: str) -> None:
    await refused("ERR_INPUTS", scratch.save(name, b"x"))
    await refused("ERR_INPUTS", scratch.load(name))
    await refused("ERR_INPUTS", scratch.drop(name))
