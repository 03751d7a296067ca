"""The same request through every transport: what it does to a run is the same everywhere.

What is left on disk and in the ledger is compared in `test_parity_on_disk`.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import secrets
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest

from theory_api.ports.intake import InputArtifact
from theory_api.tests.transports import TRANSPORTS, Desk, short_folder
from theory_core import TheoryError, canonicalize

Params = Mapping[str, Any]

PLAIN = "process"
"""The transport that the others are compared with."""


@contextlib.asynccontextmanager
async def opened(transport: str) -> AsyncIterator[Desk]:
    with short_folder() as home:
        async with TRANSPORTS[transport](home) as made:
            yield made


@pytest.fixture(params=sorted(TRANSPORTS))
async def each(request: pytest.FixtureRequest) -> AsyncIterator[Desk]:
    async with opened(request.param) as made:
        yield made


@pytest.fixture(params=sorted({*TRANSPORTS} - {PLAIN}))
async def desk(request: pytest.FixtureRequest) -> AsyncIterator[Desk]:
    async with opened(request.param) as made:
        yield made


@pytest.fixture
async def plain() -> AsyncIterator[Desk]:
    async with opened(PLAIN) as made:
        yield made


def comparable(envelope: Mapping[str, Any]) -> bytes:
    """The envelope without the end of stderr."""
    meta = {name: value for name, value in envelope["meta"].items() if name != "stderr_tail"}
    return canonicalize({**envelope, "meta": meta})


async def test_an_artifact_is_read_everywhere(desk: Desk, plain: Desk) -> None:
    found = []
    for one in (plain, desk):
        blob = await one.artifacts.put(b"bytes of an input")
        inputs = (InputArtifact("/artifacts/in", blob.cid, blob.size_bytes, "text/plain"),)
        artifact = {
            "path": "/artifacts/in",
            "cid": blob.cid,
            "size_bytes": blob.size_bytes,
            "mime": "text/plain",
            "url": f"/inputs/{blob.cid}",
        }
        envelope = await one.run({"do": "read", "artifacts": [artifact]}, inputs=inputs)
        found.append((comparable(envelope), (await one.objects())["outputs/0"]))
    assert found[0] == found[1]
    assert found[0][1] == b"bytes of an input"


async def test_a_cancel_is_confirmed_in_the_same_words_everywhere(desk: Desk, plain: Desk) -> None:
    for deed in ("sleep", "deaf"):
        envelopes = []
        for one in (plain, desk):
            one.frames.clear()
            running = asyncio.create_task(one.run({"do": deed}, name=deed))
            await one.heard("Event")
            assert await one.adapter.cancel(deed)
            envelopes.append(await running)
            assert await one.adapter.cancel(deed)
        assert envelopes[1]["error"]["code"] == "ERR_CANCELLED"
        assert comparable(envelopes[1]) == comparable(envelopes[0])


async def test_a_timeout_is_told_in_the_same_words_everywhere(desk: Desk, plain: Desk) -> None:
    expected = await plain.run({"do": "sleep"}, timeout_s=1)
    envelope = await desk.run({"do": "sleep"}, timeout_s=1)
    assert envelope["error"]["code"] == "ERR_TIMEOUT"
    assert comparable(envelope) == comparable(expected)


async def test_another_image_than_expected_runs_nothing(each: Desk) -> None:
    envelope = await each.run({"do": "many", "count": 1}, expected_oci="sha256:" + "0" * 64)
    # An engine looks for that image; a server that is there already is another one.
    code = "ERR_IMAGE_PULL" if each.adapter.name == "local" else "ERR_REGISTRY_MISMATCH"
    assert envelope["error"]["code"] == code
    assert "outputs.json" not in await each.objects()


async def test_mock_gives_the_same_bytes_whatever_the_run_is_called(each: Desk) -> None:
    bodies: list[dict[str, bytes]] = []
    seed = secrets.randbits(64)
    print(f"seed {seed}")  # noqa: T201 - shown with what fails
    draw = random.Random(seed)  # noqa: S311 - names, no secrets
    for _ in range(2):
        name = f"x{draw.getrandbits(128):032x}"
        prefix = f"/artifacts/outputs/{draw.getrandbits(64):016x}/{name}/"
        await each.run({"do": "many", "count": 3}, name=name, prefix=prefix)
        found = await each.objects(name)
        bodies.append({path: body for path, body in found.items() if path.startswith("outputs/")})
    assert bodies[0] == bodies[1]
    assert len(bodies[0]) == 3


async def test_what_was_released_is_forgotten(each: Desk) -> None:
    await each.run({"do": "many", "count": 1})
    assert await each.adapter.remembered() == ("x1",)
    assert each.adapter.measured("x1").usage["latency_ms"] > 0
    await each.adapter.release("x1")
    await each.adapter.release("x1")
    assert await each.adapter.remembered() == ()
    assert not each.adapter.measured("x1").usage


LANES: Mapping[str, frozenset[str]] = {
    "process": frozenset({"pause", "resume"}),
    "local": frozenset({"pause", "resume"}),
    "modal": frozenset({"pause", "resume"}),
    "local-http": frozenset(),
    "modal-http": frozenset(),
}
"""What each transport can tell a run that goes on."""


async def test_a_run_stands_still_wherever_there_is_a_lane_to_tell_it(each: Desk) -> None:
    assert each.adapter.steers == LANES[each.adapter.name]
    pace = {"do": "paced", "count": 60, "pause_s": 0.02}
    running = asyncio.create_task(each.run(pace))
    await each.heard("Token")
    if not each.adapter.steers:
        with pytest.raises(TheoryError) as refused:
            await each.adapter.steer("x1", "pause")
        assert refused.value.code == "ERR_CONFLICT"
    else:
        await each.adapter.steer("x1", "pause")
        await asyncio.sleep(0.5)
        before = len(each.frames)
        await asyncio.sleep(2)
        assert len(each.frames) == before
        await each.adapter.steer("x1", "resume")
    assert (await running)["status"] == "success"
    assert each.kinds().count("Token") == 60
    if each.adapter.steers:
        await each.adapter.steer("x1", "pause")
