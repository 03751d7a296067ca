"""What a run in a container answers, delivers, costs and leaves behind."""

from __future__ import annotations

import pytest

from theory_api.adapters.docker.tests.conftest import PRINT, REF, Bench
from theory_api.ports.adapter import Standing
from theory_api.ports.intake import InputArtifact
from theory_core import digest, loads_strict

pytestmark = pytest.mark.timeout(180)
DIR = "/artifacts/outputs/test-deeds-v1/x1/"


def code(envelope: dict[str, object]) -> str:
    assert envelope["status"] == "error", envelope
    error = envelope["error"]
    assert isinstance(error, dict)
    return str(error["code"])


async def test_a_success_has_its_outputs_its_index_and_its_receipt(
    bench: Bench, deeds: str
) -> None:
    envelope = await bench.run({"do": "echo", "text": "Grüße"})
    body = await bench.body("outputs/echo.json")
    assert envelope == {
        "status": "success",
        "execution_id": "x1",
        "outputs": [
            {
                "path": f"{DIR}outputs/echo.json",
                "cid": digest(body),
                "size_bytes": len(body),
                "mime": "application/json",
            }
        ],
        "index_path": f"{DIR}outputs.json",
        "meta": {"env_fingerprint": PRINT},
    }
    assert bench.kinds() == ["Ack", "RunResult"]
    receipt = loads_strict(await bench.body("receipt.json"))
    assert receipt["processor_ref"] == REF
    assert receipt["written_by"] == "processor"
    assert (receipt["image_id"], "image_digest" in receipt) == (deeds, False)
    assert bench.adapter.measured("x1").image_id == deeds


async def test_the_receipt_of_a_worker_that_was_killed_names_the_image_too(
    bench: Bench, deeds: str
) -> None:
    assert code(await bench.run({"do": "kill", "signal": 9})) == "ERR_INTERNAL"
    receipt = loads_strict(await bench.body("receipt.json"))
    assert (receipt["written_by"], receipt["image_id"]) == ("supervisor", deeds)


async def test_what_a_run_used_is_measured_by_the_kernel(bench: Bench) -> None:
    assert bench.adapter.measured("x1").usage == {}
    await bench.run({"do": "echo"})
    usage = bench.adapter.measured("x1").usage
    assert 50 < usage["cpu_ms"] < 10_000
    assert 50 < usage["latency_ms"] < 60_000
    assert bench.adapter.measured("x1").usage == usage


async def test_inputs_are_read_through_the_door(bench: Bench) -> None:
    data = b"input bytes" * 50_000
    blob = await bench.artifacts.put(data)
    mime = "application/octet-stream"
    artifact = {
        "path": "/artifacts/in.bin",
        "cid": blob.cid,
        "size_bytes": blob.size_bytes,
        "mime": mime,
        "url": f"/inputs/{blob.cid}",
    }
    declared = InputArtifact("/artifacts/in.bin", blob.cid, blob.size_bytes, mime)
    envelope = await bench.run({"do": "read", "artifacts": [artifact]}, inputs=(declared,))
    assert [entry["cid"] for entry in envelope["outputs"]] == [blob.cid]


async def test_a_secret_is_a_file_in_mode_real_and_nowhere_in_mode_mock(bench: Bench) -> None:
    bench.secrets["API_KEY"] = "canary-0123456789"
    wanted = {"do": "tell_secret", "name": "API_KEY"}
    envelope = await bench.run(wanted, mode="real", secrets=("API_KEY",))
    assert envelope["status"] == "success", envelope
    assert await bench.body("outputs/length") == b"17"
    place = bench.adapter._places.of("x1")
    assert (place.secrets / "API_KEY").read_text() == bench.secrets["API_KEY"]
    assert place.secrets.is_relative_to("/dev/shm")  # noqa: S108 - never on a disk
    assert "canary" not in str([file.name for file in place.folder.rglob("*")])
    leaked = await bench.run({**wanted, "leak": True}, name="x2", mode="real", secrets=("API_KEY",))
    assert "canary" not in str(leaked)
    mock = await bench.run(wanted, name="x3", secrets=("API_KEY",))
    assert code(mock) == "ERR_MISSING_SECRET"


@pytest.mark.scenario(95)
@pytest.mark.parametrize("door", ["token", "phase", "reason", "info", "path", "mime", "output"])
async def test_a_secret_leaves_a_container_by_no_door(bench: Bench, door: str) -> None:
    bench.secrets["API_KEY"] = "Canary-0123456789-ABCDEF"
    wanted = {"do": "tell_secret", "name": "API_KEY", "door": door}
    envelope = await bench.run(wanted, mode="real", secrets=("API_KEY",))
    arrived = bench.intakes.received("x1")
    bodies = [await bench.artifacts.get(one.cid) for one in arrived]
    told = f"{envelope} {bench.frames} {arrived} {bodies}".lower()
    assert "canary" not in told
    assert envelope["status"] == ("success" if door in {"token", "phase"} else "error")


async def test_the_environment_holds_nothing_of_this_machine(bench: Bench) -> None:
    await bench.run({"do": "environment"})
    told = loads_strict(await bench.body("outputs/environment.json"))
    assert not {name for name in told if name.startswith(("THEORY_H", "DOCKER", "AWS"))}
    assert str(bench.home) not in str(told)


async def test_a_run_leaves_nothing_once_it_is_released(bench: Bench) -> None:
    await bench.run({"do": "echo"})
    assert await bench.adapter.remembered() == ("x1",)
    assert await bench.adapter.standing("x1") is Standing.GONE
    await bench.adapter.release("x1")
    assert await bench.adapter.remembered() == ()
    assert await bench.adapter.standing("x1") is Standing.ABSENT
    await bench.adapter.release("x1")
