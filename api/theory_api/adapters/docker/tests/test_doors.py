"""The doors of an execution are closed, whatever is in their place and whichever goes wrong."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from theory_api.adapters.docker.egress import SOCKET
from theory_api.adapters.docker.lodging import Live, close_doors, open_egress, open_gateway
from theory_api.adapters.docker.tests.conftest import adapter_of
from theory_api.adapters.memory.artifacts import MemoryArtifacts
from theory_api.adapters.memory.intakes import MemoryIntakes
from theory_api.adapters.run_v1.gateway import Gateway
from theory_api.adapters.run_v1.places import SOCKET_BYTES, Places
from theory_core import TheoryError

REACH = ("https://example.com",)


async def opened(folder: Path) -> tuple[Live, Any]:
    """An execution with both doors open in a folder, and the server of the first."""
    live = Live("x1")
    gateway = await open_gateway(folder / "io.sock", Gateway("x1", intakes()))
    await open_egress(live, folder, REACH)
    return live, gateway


def intakes() -> MemoryIntakes:
    return MemoryIntakes(MemoryArtifacts())


async def deaf(path: Path) -> bool:
    """Whether nobody takes a connection that was let in by another name of the socket."""
    try:
        reader, writer = await asyncio.open_unix_connection(str(path))
    except ConnectionRefusedError:
        return True
    writer.write_eof()
    await reader.read()
    writer.close()
    return False


@pytest.mark.scenario(80)
async def test_folders_in_place_of_both_sockets_keep_neither_door_open(short: Path) -> None:
    live, gateway = await opened(short)
    names = ("io.sock", SOCKET)
    for name in names:
        (short / name).rename(short / f"was-{name}")
        (short / name / "more").mkdir(parents=True)
    assert not [name for name in names if await deaf(short / f"was-{name}")]
    with capture_logs() as lines:
        await close_doors(gateway, live)
    assert [line["event"] for line in lines] == ["adapter.egress.left", "run.door.blocked"]
    assert str(short) not in str(lines)
    assert [name for name in names if await deaf(short / f"was-{name}")] == list(names)


async def test_a_fault_of_one_door_closes_the_other_and_is_told(
    short: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    live, gateway = await opened(short)
    assert live.egress is not None
    close = live.egress.close

    async def broken() -> None:
        await close()
        raise RuntimeError("broken")

    monkeypatch.setattr(live.egress, "close", broken)
    with pytest.raises(RuntimeError, match="broken"):
        await close_doors(gateway, live)
    assert not (short / "io.sock").exists()


async def test_an_adapter_that_closes_lets_go_of_everything_and_tells_what_went_wrong(
    short: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter = adapter_of(short, intakes(), {})
    closed: list[str] = []

    async def ends(name: str, before: Awaitable[object], *, well: bool) -> None:
        await before
        closed.append(name)
        if not well:
            raise RuntimeError(name)

    first = asyncio.Event()
    for name, well in (("a", False), ("b", True)):
        live = adapter._live[name] = Live(name)
        live.ended.set()
        before = asyncio.sleep(0) if name == "a" else first.wait()
        live.closing = asyncio.create_task(ends(name, before, well=well))
    adapter._live["a"].closing.add_done_callback(lambda _: first.set())  # type: ignore[union-attr]
    monkeypatch.setattr(adapter._engine, "close", lambda: closed.append("engine"))
    with pytest.raises(RuntimeError, match="a"):
        await adapter.close()
    assert closed == ["a", "b", "engine"]


async def test_where_a_folder_is_made_each_of_its_sockets_can_be_bound(short: Path) -> None:
    """Law: a path that is too long is told before anything is marked."""
    bare = len(str(short / "r" / "x" / SOCKET))
    for spare, fits in ((0, True), (1, False)):
        name = "x" * (SOCKET_BYTES - bare + 1 + spare)
        places = Places(root=short / "r", marks=short / "m", shared=True)
        if not fits:
            with pytest.raises(TheoryError, match="too long"):
                places.make(name, {})
            assert not places.is_marked(name)
            continue
        live, gateway = await opened(places.make(name, {}).folder)
        await close_doors(gateway, live)
        places.remove(name)
