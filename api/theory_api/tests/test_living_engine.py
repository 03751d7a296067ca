"""One engine that lives on: what a container left in its folder is no reason to stop."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import pytest
import structlog

from theory_api import settings as configuration
from theory_api.adapters.run_v1.places import home_name, runtime_root
from theory_api.services.runs import RunRequest
from theory_api.tests.engine import connected, left
from theory_api.tests.test_containers import HERE, HOSTILE, LIAR, Desk, establish
from theory_api.tests.transports import short_folder
from theory_api.wiring import Services, open_engine
from theory_core import loads_strict

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.mark.scenario(80, 84)
async def test_an_engine_goes_on_after_a_container_that_put_a_folder_in_place_of_its_socket(
    tmp_path: Path,
) -> None:
    spec = (HOSTILE / "spec.yaml").read_text(encoding="utf-8").replace("_s: 5", "_s: 30")
    places = establish(tmp_path, "hostile", HOSTILE, spec)
    places |= establish(tmp_path, "liar", LIAR, spec.replace("hostile", "liar"))
    start = tmp_path / "processors" / "test" / "liar" / "1" / "start.txt"
    start.write_text("socket_is_a_folder", encoding="ascii")
    with contextlib.ExitStack() as stack:
        client = stack.enter_context(contextlib.closing(connected()))
        stack.callback(structlog.reset_defaults)
        home = stack.enter_context(short_folder()) / "home"
        desk = Desk(tmp_path, HERE | places)
        for ref in ("test/liar@1", "test/hostile@1"):
            await asyncio.to_thread(desk.theory, "image", "build", ref, "--mode", "mock")
        told = desk.environment() | {"THEORY_LOG": "error", "THEORY_HEALTH_S": "5"}
        async with open_engine(configuration.read(told, home=home)) as services:
            for name in ("a", "b"):
                assert await ended(services, "test/liar@1", name, "folder") == "ERR_HEALTH"
                assert await ended(services, "test/hostile@1", f"{name}2", "fine") == "success"
            assert left(client, home_name(home)) == []
        assert not runtime_root(home, "d").exists()


async def ended(services: Services, ref: str, name: str, how: str) -> str:
    """Run a deed to its end in a container: the code of its error, or its success."""
    asked = RunRequest(ref=ref, inputs={"how": how}, adapter="local", execution_id=name)
    outcome = await services.runs.run(asked, tenant="local", by="test")
    return str(loads_strict(outcome.envelope).get("error", {}).get("code", outcome.status))
