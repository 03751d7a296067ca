"""Asking about a run that somebody else may have begun, and having it stopped."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection

from theory_api.adapters.memory.artifacts import MemoryArtifacts
from theory_api.adapters.memory.intakes import MemoryIntakes
from theory_api.adapters.run_v1.calling import coded
from theory_api.adapters.run_v1.endpoint import Endpoint
from theory_api.adapters.run_v1.lookout import stop
from theory_api.adapters.run_v1.marks import Marks
from theory_api.adapters.run_v1.remote import RemoteAdapter, websocket
from theory_api.adapters.run_v1.tests.conftest import Serve, frame, result, saying, token
from theory_api.adapters.run_v1.uploads import Gate, TcpUploads
from theory_api.ports.adapter import Standing
from theory_core import TheoryError

KEPT = 40


class Endpoints:
    """One server, or none for what is asked today."""

    def __init__(self, endpoint: Endpoint | None) -> None:
        self.endpoint = endpoint

    async def of(self, _ref: str, _mode: str, *, where: str = "") -> Endpoint:
        del where
        if self.endpoint is None:
            raise coded("ERR_ENDPOINT_MISSING", "nothing is deployed")
        return self.endpoint


def at(path: str) -> Endpoint:
    return Endpoint("http://localhost", {}, path)


def adapter(home: Path, endpoint: Endpoint | None, where: str = "") -> RemoteAdapter:
    """An adapter that an earlier one left a mark for."""
    Marks(home / "far").make("x1", {"ref": "test/deeds@1", "mode": "mock", "where": where})
    uploads = TcpUploads(Gate(), MemoryIntakes(MemoryArtifacts()))
    return RemoteAdapter(
        name="far", endpoints=Endpoints(endpoint), uploads=uploads, speech=websocket, home=home
    )


@pytest.mark.parametrize(
    ("state", "standing"),
    [
        ("running", Standing.RUNNING),
        ("paused", Standing.RUNNING),
        ("anything new", Standing.RUNNING),
        ("succeeded", Standing.GONE),
        ("failed", Standing.GONE),
        ("cancelled", Standing.GONE),
    ],
)
async def test_only_a_state_that_is_an_end_says_that_a_run_is_gone(
    serve: Serve, path: str, tmp_path: Path, state: str, standing: Standing
) -> None:
    await serve(saying(frame("Ack", 0, execution_id="x1", state=state)))
    assert await adapter(tmp_path, at(path)).standing("x1") is standing


async def test_a_server_that_is_missing_counts_for_the_place_that_was_marked_alone(
    tmp_path: Path,
) -> None:
    unplaced = adapter(tmp_path, None)
    assert await unplaced.standing("x1") is Standing.RUNNING
    with pytest.raises(TheoryError) as refused:
        await unplaced.release("x1")
    assert refused.value.code == "ERR_UNAVAILABLE"
    assert await unplaced.remembered() == ("x1",)
    assert await adapter(tmp_path, None, where="dev/app").standing("x1") is Standing.GONE


class Kept:
    """A server that keeps frames of a run, and sends them no faster than a slow link does."""

    def __init__(self, pause_s: float = 0.0) -> None:
        self.pause_s = pause_s
        self.openings: list[dict[str, Any]] = []
        self.sent = 0

    async def __call__(self, connection: ServerConnection) -> None:
        opening = json.loads(await connection.recv())["content"]
        self.openings.append(opening)
        seen = opening.get("resume_from", 0)
        if seen > KEPT:
            await connection.close(1008)
            return
        await connection.send(frame("Ack", 0, execution_id="x1", state="running"))
        for seq in range(seen + 1, KEPT + 1):
            await asyncio.sleep(self.pause_s)
            await connection.send(token(seq))
            self.sent += 1
        await connection.recv()
        await connection.send(result(KEPT + 1))
        await connection.wait_closed()


async def test_who_stops_a_run_is_not_sent_again_what_came_before(serve: Serve, path: str) -> None:
    server = Kept()
    await serve(server)
    assert await stop(at(path), "x1", within_s=5, seen=KEPT - 1)
    assert server.openings == [
        {"execution_id": "x1", "resume_from": KEPT - 1, "role": "controller"}
    ]
    assert server.sent == 1


async def test_frames_that_are_on_their_way_are_no_silence(serve: Serve, path: str) -> None:
    server = Kept(pause_s=0.03)
    await serve(server)
    assert await stop(at(path), "x1", within_s=0.6)
    assert server.sent == KEPT


async def test_a_number_that_a_server_never_gave_does_not_make_a_run_unknown(
    serve: Serve, path: str
) -> None:
    server = Kept()
    await serve(server)
    assert await stop(at(path), "x1", within_s=5, seen=KEPT + 1)
    assert [opening.get("resume_from", 0) for opening in server.openings] == [KEPT + 1, 0]
