"""Engines that do not confine what they run, and runtimes that one asks for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from theory_api.adapters.docker.confinement import confined, require
from theory_api.adapters.docker.engine import Engine
from theory_api.adapters.docker.tests.conftest import Bench
from theory_api.tests.engine import address
from theory_core import TheoryError

GOOD: Mapping[str, Any] = {
    "SecurityOptions": ["name=apparmor", "name=seccomp,profile=builtin"],
    "Runtimes": {"runc": {"path": "runc"}, "runsc": {"path": "runsc"}},
}


@pytest.mark.parametrize("runtime", ["", "runc", "runsc"])
def test_an_engine_that_filters_and_has_the_runtime_will_do(runtime: str) -> None:
    require(GOOD, runtime=runtime)


@pytest.mark.scenario(81)
@pytest.mark.parametrize(
    ("info", "runtime"),
    [
        ({**GOOD, "SecurityOptions": ["name=apparmor"]}, ""),
        ({**GOOD, "SecurityOptions": None}, ""),
        ({**GOOD, "SecurityOptions": ["name=seccomp,profile=unconfined"]}, ""),
        (GOOD, "kata"),
        ({**GOOD, "Runtimes": None}, "runsc"),
    ],
    ids=["no filter", "nothing said", "unconfined", "another runtime", "no runtimes"],
)
def test_an_engine_that_confines_less_is_refused(info: Mapping[str, Any], runtime: str) -> None:
    with pytest.raises(TheoryError, match="ERR_DOCKER"):
        require(info, runtime=runtime)


def test_the_runtime_is_part_of_the_request_and_nothing_else_changes() -> None:
    request = {"Image": "sha256:1", "HostConfig": {"CapDrop": ["ALL"]}}
    assert confined(request, runtime="") == request
    changed = confined(request, runtime="runsc")
    assert changed["HostConfig"].pop("Runtime") == "runsc"
    assert changed == request


@pytest.mark.timeout(120)
async def test_nothing_is_made_without_the_runtime_that_was_asked_for(bench: Bench) -> None:
    before = len(bench.client.containers.list(all=True))
    engine = Engine(address(), runtime="no-such-runtime")
    try:
        with pytest.raises(TheoryError, match="no runtime no-such-runtime"):
            await engine.create("theory-never", {"Image": "sha256:1", "HostConfig": {}})
    finally:
        engine.close()
    assert len(bench.client.containers.list(all=True)) == before
