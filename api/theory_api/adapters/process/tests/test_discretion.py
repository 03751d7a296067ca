"""A secret that a provider tells anywhere reaches nobody: one canary for each door of a run."""

from __future__ import annotations

import pytest

from theory_api.adapters.process.tests.conftest import Bench
from theory_core import canonicalize

CANARY = "Canary-0123456789-ABCDEF"
MASKED = {"token": "text", "log": "message", "phase": "phase", "stream": "stream"}
REFUSED = {
    "frame_mime": "frame_Frame",
    "frame_data": "secret_in_frame",
    "reason": "redacted",
    "type": "redacted",
    "info": "secret_in_processor_info",
    "transitions": "secret_in_output",
    "path": "secret_in_path",
    "escaped_path": "secret_in_path",
    "mime": "secret_in_mime",
    "output": "secret_in_output",
    "file": "secret_in_output",
}


async def everything(bench: Bench) -> bytes:
    """All that a run sent anywhere, in letters of one case."""
    arrived = bench.intakes.received("x1")
    bodies = [await bench.artifacts.get(one.cid) for one in arrived]
    names = [f"{one.relpath} {one.mime}".encode() for one in arrived]
    return b"\n".join((*names, *bodies, *map(canonicalize, bench.frames))).lower()


@pytest.mark.scenario(95)
@pytest.mark.parametrize("door", [*MASKED, *REFUSED])
async def test_a_secret_leaves_a_run_by_no_door(bench: Bench, door: str) -> None:
    bench.secrets["API_KEY"] = CANARY
    params = {"do": "tell_secret", "name": "API_KEY", "door": door}
    envelope = await bench.run(params, mode="real", secrets=("API_KEY",))
    assert CANARY.lower().encode() not in canonicalize(envelope).lower()
    assert CANARY.lower().encode() not in await everything(bench)
    if door in REFUSED:
        assert envelope["status"] == "error"
        assert envelope["error"]["message"].endswith(f": {REFUSED[door]}")
        return
    assert envelope["status"] == "success"
    (said,) = [frame["content"] for frame in bench.frames if MASKED[door] in frame["content"]]
    assert "[redacted]" in said[MASKED[door]]


async def test_a_word_too_short_to_be_told_apart_refuses_nothing(bench: Bench) -> None:
    bench.secrets["API_KEY"] = "text"
    params = {"do": "tell_secret", "name": "API_KEY", "door": "output"}
    envelope = await bench.run(params, mode="real", secrets=("API_KEY",))
    assert envelope["status"] == "success", "every output of it is text/plain"
