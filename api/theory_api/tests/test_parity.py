"""The same request through every transport: the same bytes, but for what the contract names."""

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

SUCCESSES: Mapping[str, Params] = {
    "one": {"do": "returned", "what": "pair"},
    "many": {"do": "many", "count": 40},
    "stream": {"do": "tokens", "count": 20},
    "environment": {"do": "media_type", "mime": "text/plain; charset=utf-8"},
}
FAILURES: Mapping[str, tuple[Params, str]] = {
    "inputs": ({"do": "refuse", "code": "ERR_INPUTS"}, "ERR_INPUTS"),
    "provider": ({"do": "refuse", "code": "ERR_PROVIDER"}, "ERR_PROVIDER"),
    "secret": ({"do": "tell_secret", "name": "OPENAI_API_KEY"}, "ERR_MISSING_SECRET"),
    "crash": ({"do": "crash", "kind": "value"}, "ERR_INTERNAL"),
    "memory": ({"do": "crash", "kind": "memory"}, "ERR_OOM"),
    "exit": ({"do": "leave", "code": 3}, "ERR_INTERNAL"),
    "signal": ({"do": "kill", "signal": 9}, "ERR_INTERNAL"),
    "runtime": ({"do": "killparent"}, "ERR_INTERNAL"),
    "prefix": ({"do": "paths", "paths": ["elsewhere/a"]}, "ERR_OUTPUT_PREFIX"),
    "duplicate": ({"do": "paths", "paths": ["outputs/a", "outputs/A"]}, "ERR_OUTPUT_DUPLICATE"),
    "link": ({"do": "file", "kind": "symlink"}, "ERR_OUTPUT_PREFIX"),
    "frame": ({"do": "bad_frame", "kind": "Shout", "content": {}}, "ERR_INTERNAL"),
    "nothing": ({"do": "returned", "what": "none"}, "ERR_INTERNAL"),
}
STABLE = ("duration_ms", "timestamp_utc", "usage")
"""Members of a receipt that may differ; `usage` is compared apart."""


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


def comparable(envelope: Mapping[str, Any], *, image: str | None = None) -> bytes:
    """The envelope without the end of stderr.

    `image` is for one of `PLAIN`, which runs in no image: where others confirm one, this is it.
    """
    meta = {name: value for name, value in envelope["meta"].items() if name != "stderr_tail"}
    return canonicalize({**envelope, "meta": meta | _confirmed(image)})


def stable(receipt: Mapping[str, Any], *, image: str | None = None) -> bytes:
    """The receipt's stable members; `image` as above. An id is for images that nobody pinned."""
    left_out = {*STABLE, "image_id"}
    kept = {name: value for name, value in receipt.items() if name not in left_out}
    return canonicalize(kept | _confirmed(image))


def _confirmed(image: str | None) -> dict[str, str]:
    return {} if image is None else {"image_digest": image}


def told(frames: list[Mapping[str, Any]]) -> list[bytes]:
    """The numbered frames up to the result."""
    return [canonicalize(frame) for frame in frames if frame["kind"] not in {"Ack", "RunResult"}]


async def test_a_success_has_the_same_bytes_everywhere(desk: Desk, plain: Desk) -> None:
    for name, params in SUCCESSES.items():
        desk.frames.clear()
        plain.frames.clear()
        expected = await plain.run(params, name=name)
        envelope = await desk.run(params, name=name, expected_oci=desk.digest)
        assert envelope["status"] == "success", name
        assert comparable(envelope) == comparable(expected, image=desk.digest), name
        theirs, ours = await desk.objects(name), await plain.objects(name)
        receipts = await desk.receipt(name), await plain.receipt(name)
        del theirs["receipt.json"], ours["receipt.json"]
        assert theirs == ours, name
        assert stable(receipts[0]) == stable(receipts[1], image=desk.digest), name
        assert receipts[0]["usage"] == receipts[1]["usage"], name
        assert told(desk.frames) == told(plain.frames), name
        assert desk.kinds().count("RunResult") == 1, name
        assert desk.frames[-1]["content"] == envelope, name


async def test_a_failure_is_told_in_the_same_words_everywhere(desk: Desk, plain: Desk) -> None:
    for name, (params, code) in FAILURES.items():
        expected = await plain.run(params, name=name)
        envelope = await desk.run(params, name=name)
        assert envelope["error"]["code"] == code, name
        assert comparable(envelope) == comparable(expected), name
        assert "outputs.json" not in await desk.objects(name), name
        if "receipt.json" in await plain.objects(name):
            assert stable(await desk.receipt(name)) == stable(await plain.receipt(name)), name


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
