"""A processor that tells its secret tells nobody: not the ledger, nor who reads or watches."""

from __future__ import annotations

from typing import Any

import pytest

from theory_api.domain.registry import RegistrySnapshot
from theory_api.domain.tests.shelf import snapshot
from theory_api.scheduler.tests.bench import House, data_of, step
from theory_api.scheduler.tests.processors import Run
from theory_core import canonicalize, loads_strict

CANARY = "Canary-0123456789-ABCDEF"
FRAMES: dict[str, dict[str, Any]] = {
    "Token": {"text": f"it is {CANARY}"},
    "Event": {"phase": CANARY},
    "Log": {"level": "info", "message": CANARY},
    "Frame": {"stream": f"/streams/{CANARY}", "index": 0, "mime": "text/plain", "data": "eA=="},
}


class Watcher:
    """Keeps what those who watch are given."""

    def __init__(self) -> None:
        self.heard: list[Any] = []

    def open(self, execution_id: str) -> None:
        del execution_id

    def publish(self, execution_id: str, frame: object) -> None:
        self.heard.append((execution_id, frame))

    def finish(self, execution_id: str, envelope: bytes) -> None:
        self.heard.append((execution_id, envelope))

    def drop(self, execution_id: str) -> None:
        del execution_id


def cids(value: Any) -> list[str]:  # noqa: ANN401 - event data
    """Every digest that a value names."""
    if isinstance(value, dict):
        return [cid for item in value.values() for cid in cids(item)]
    if isinstance(value, list):
        return [cid for item in value for cid in cids(item)]
    return [value] if isinstance(value, str) and value.startswith("b3:") else []


async def told(house: House, watcher: Watcher, plan: str) -> str:
    """All that anybody can learn of a plan, in letters of one case."""
    stored = await house.reads.events(plan, limit=10_000)
    words = [event.body for event in stored]
    named = {cid for event in stored for cid in cids(loads_strict(event.body)["data"])}
    kept = [cid for cid in named if await house.disk.artifacts.stat(cid) is not None]
    words += [await house.disk.artifacts.get(cid) for cid in kept]
    words += [repr(house.notices).encode(), repr(watcher.heard).encode()]
    return b" ".join(words).decode().lower()


async def run(
    house: House,
    watcher: Watcher,
    behaviour: Any,  # noqa: ANN401 - a behaviour
) -> tuple[str, list[Any], str]:
    """How a plan of one transition ends, its failures, and all that is told of it."""
    house.processors.behaviours["tell"] = [behaviour, behaviour]
    plan = await house.apply({"a": step("tell", mode="real")})
    status = await house.ended(plan)
    return status, await data_of(house, plan, "execution.failed"), await told(house, watcher, plan)


def house_with(watcher: Watcher) -> House:
    return House(secrets={"API_KEY": f"{CANARY}\n"}, streams=watcher)  # type: ignore[arg-type]


@pytest.mark.scenario(95)
@pytest.mark.parametrize("kind", FRAMES)
async def test_a_frame_that_tells_is_masked(kind: str) -> None:
    async def tell(run: Run) -> dict[str, Any]:
        await run.frame(kind, **FRAMES[kind])
        return await run.succeed({"x": b"1"})

    watcher = Watcher()
    async with house_with(watcher) as house:
        status, _, everything = await run(house, watcher, tell)
    assert status == "completed"
    assert "[redacted]" in everything
    assert CANARY.lower() not in everything


@pytest.mark.scenario(95)
async def test_an_error_that_tells_keeps_its_code_alone() -> None:
    async def tell(run: Run) -> dict[str, Any]:
        envelope = run.fail("ERR_PROVIDER")
        envelope["error"]["message"] = f"provider call failed: {CANARY}"
        envelope["meta"]["stderr_tail"] = CANARY
        return envelope

    watcher = Watcher()
    async with house_with(watcher) as house:
        status, (failed, _), everything = await run(house, watcher, tell)
    assert status == "failed"
    assert failed["error"]["code"] == "ERR_PROVIDER"
    assert failed["error"]["message"] == "provider call failed: the envelope tells a secret"
    assert CANARY.lower() not in everything


@pytest.mark.scenario(95)
@pytest.mark.parametrize("door", ["path", "mime", "receipt", "proposal"])
async def test_a_success_that_tells_has_failed(door: str) -> None:
    async def tell(run: Run) -> dict[str, Any]:
        if door == "receipt":
            return await run.succeed({"x": b"1"}, processor_info=f"demo ({CANARY})")
        if door == "proposal":
            body = f'{{"transitions":[{{"id":"{CANARY}"}}]}}'.encode()
            return await run.succeed({"transitions.json": body})
        if door == "path":
            return await run.succeed({CANARY.lower(): b"1"})
        envelope = await run.succeed({"x": b"1"})
        envelope["outputs"][0]["mime"] = f"text/{CANARY}"
        return envelope

    watcher = Watcher()
    async with house_with(watcher) as house:
        status, failures, everything = await run(house, watcher, tell)
    assert status == "failed"
    code = {"receipt": "ERR_RECEIPT", "proposal": "ERR_PLAN_INVALID"}
    assert failures[0]["error"]["code"] == code.get(door, "ERR_ADAPTER_INVOCATION")
    assert "tells a secret" in failures[0]["error"]["message"]
    assert CANARY.lower() not in everything


async def test_a_run_is_given_the_optional_secrets_too_and_declares_the_required_ones() -> None:
    changes = {"secrets": {"required": ["API_KEY"], "optional": ["ANOTHER_KEY"]}}
    document = loads_strict(snapshot().document)
    document["processors"]["demo/echo@1"] |= changes
    async with House(registry=RegistrySnapshot.from_document(canonicalize(document))) as house:
        plan = await house.apply({"a": step(mode="real"), "b": step()})
        assert await house.ended(plan) == "completed"
        given = {run.payload["mode"]: run.payload for run in house.processors.runs.values()}
        assert given["real"]["secrets"] == ["ANOTHER_KEY", "API_KEY"]
        assert given["real"]["env_fingerprint"].endswith(";secrets:API_KEY")
        assert given["mock"]["secrets"] == []
        used = await data_of(house, plan, "secret.used")
    assert [event["name"] for event in used] == ["ANOTHER_KEY", "API_KEY"]


async def test_mode_mock_has_nothing_to_tell() -> None:
    async def tell(run: Run) -> dict[str, Any]:
        return await run.succeed({CANARY.lower(): b"1"})

    async with house_with(Watcher()) as house:
        house.processors.behaviours["tell"] = [tell]
        plan = await house.apply({"a": step("tell")})
        assert await house.ended(plan) == "completed"
