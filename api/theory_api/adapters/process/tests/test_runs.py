"""What a run through the process adapter answers, delivers and leaves behind."""

from __future__ import annotations

from typing import Any

import pytest

from theory_api.adapters.process.tests.conftest import PRINT, REF, Bench, until
from theory_api.ports.adapter import Standing
from theory_api.ports.intake import InputArtifact
from theory_core import HASH_SCHEMA, digest, inputs_hash, loads_strict

DIR = "/artifacts/outputs/test-deeds-v1/x1/"


def code(envelope: dict[str, Any]) -> str:
    assert envelope["status"] == "error", envelope
    return str(envelope["error"]["code"])


async def test_a_success_has_its_outputs_its_index_and_its_receipt(bench: Bench) -> None:
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
    index = await bench.body("outputs.json")
    assert loads_strict(index) == {"outputs": envelope["outputs"]}
    receipt = await bench.receipt()
    assert receipt.pop("timestamp_utc")[-1] == "Z"
    assert receipt.pop("duration_ms") >= 0
    assert receipt == {
        "execution_id": "x1",
        "processor_ref": REF,
        "env_fingerprint": PRINT,
        "inputs_hash": inputs_hash({"schema": "v1", "params": {"do": "echo", "text": "Grüße"}}),
        "hash_schema": HASH_SCHEMA,
        "outputs_index": digest(index),
        "processor_info": "deeds 1.0.0 (test)",
        "mode": "mock",
        "status": "success",
        "registry_snapshot": digest(b""),
        "written_by": "processor",
        "usage": {"tokens": 7},
    }


async def test_many_outputs_arrive_sorted(bench: Bench) -> None:
    envelope = await bench.run({"do": "many", "count": 300})
    paths = [entry["path"] for entry in envelope["outputs"]]
    assert paths == sorted(paths)
    assert len(paths) == 300
    assert len(bench.intakes.received("x1")) == 302


async def test_frames_come_in_order_between_ack_and_result(bench: Bench) -> None:
    await bench.run({"do": "tokens", "count": 200})
    assert bench.kinds()[0] == "Ack"
    assert bench.kinds()[-1] == "RunResult"
    assert [frame["seq"] for frame in bench.frames] == list(range(len(bench.frames)))
    said = {frame["kind"]: frame["content"] for frame in bench.frames}
    assert said["Frame"]["data"] == "iVA="
    assert said["Log"] == {"level": "info", "message": "said"}
    assert said["Event"] == {"phase": "end", "progress": 0.5, "usage": {"tokens": 9}}
    text = "".join(frame["content"]["text"] for frame in bench.frames if frame["kind"] == "Token")
    assert text == "".join(f"{number} " for number in range(200))


async def test_inputs_are_fetched_checked_and_hashed_by_cid(bench: Bench) -> None:
    data = b"input bytes" * 50_000
    blob = await bench.artifacts.put(data)
    artifact = {
        "path": "/artifacts/in.bin",
        "cid": blob.cid,
        "size_bytes": blob.size_bytes,
        "mime": "application/octet-stream",
        "url": f"/inputs/{blob.cid}",
    }
    mime = "application/octet-stream"
    declared = InputArtifact("/artifacts/in.bin", blob.cid, blob.size_bytes, mime)
    params = {"do": "read", "artifacts": [artifact, artifact]}
    envelope = await bench.run(params, inputs=(declared,))
    assert [entry["cid"] for entry in envelope["outputs"]] == [blob.cid, blob.cid]
    by_cid = {"do": "read", "artifacts": [{"cid": blob.cid}] * 2}
    expected = inputs_hash({"schema": "v1", "params": by_cid})
    assert (await bench.receipt())["inputs_hash"] == expected


@pytest.mark.parametrize("lie", ["undeclared", "rotten", "size"])
async def test_an_input_that_is_not_what_was_declared_never_reaches_the_provider(
    bench: Bench, lie: str
) -> None:
    blob = await bench.artifacts.put(b"input")
    size = 4 if lie == "size" else 5
    artifact = {
        "path": "/artifacts/in",
        "cid": blob.cid,
        "size_bytes": size,
        "mime": "text/plain",
        "url": f"/inputs/{blob.cid}",
    }
    declared = InputArtifact("/artifacts/in", blob.cid, size, "text/plain")
    if lie == "rotten":
        bench.artifacts.blobs[blob.cid] = b"other"
    envelope = await bench.run(
        {"do": "read", "artifacts": [artifact]}, inputs=() if lie == "undeclared" else (declared,)
    )
    expected = {"undeclared": {"ERR_STORAGE"}, "size": {"ERR_ARTIFACT_DIGEST"}}
    assert code(envelope) in expected.get(lie, {"ERR_ARTIFACT_DIGEST", "ERR_STORAGE"})
    assert [one.relpath for one in bench.intakes.received("x1")] == ["receipt.json"]


@pytest.mark.scenario(50, 51, 55)
@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        (["outputs/a", "outputs/A"], "ERR_OUTPUT_DUPLICATE"),
        (["outputs/a", "outputs/%61"], "ERR_OUTPUT_DUPLICATE"),
        (["outputs/a", "outputs/a/b"], "ERR_OUTPUT_DUPLICATE"),
        (["elsewhere/a"], "ERR_OUTPUT_PREFIX"),
        (["outputs/../../x"], "ERR_OUTPUT_PREFIX"),
        (["outputs/.git/x"], "ERR_OUTPUT_PREFIX"),
        (["/outputs/x"], "ERR_OUTPUT_PREFIX"),
        (["outputs/x/"], "ERR_OUTPUT_PREFIX"),
        (["outputs.json"], "ERR_OUTPUT_PREFIX"),
    ],
)
async def test_bad_paths_of_outputs_are_refused_before_anything_is_sent(
    bench: Bench, paths: list[str], expected: str
) -> None:
    assert code(await bench.run({"do": "paths", "paths": paths})) == expected
    assert [one.relpath for one in bench.intakes.received("x1")] == ["receipt.json"]
    assert (await bench.receipt())["status"] == "error"


async def test_a_path_that_is_not_canonical_is_made_so(bench: Bench) -> None:
    envelope = await bench.run({"do": "paths", "paths": ["outputs/Über%20Uns.TXT"]})
    assert envelope["outputs"][0]["path"] == f"{DIR}outputs/über uns.txt"
    assert [one.relpath for one in bench.intakes.received("x1")][1] == "outputs/über uns.txt"


@pytest.mark.scenario(56)
@pytest.mark.parametrize(
    "kind",
    ["symlink", "hardlink", "fifo", "socket", "device", "folder", "linked_folder", "outside"],
)
async def test_only_a_plain_file_of_the_work_folder_is_an_output(bench: Bench, kind: str) -> None:
    assert code(await bench.run({"do": "file", "kind": kind})) == "ERR_OUTPUT_PREFIX"
    assert [one.relpath for one in bench.intakes.received("x1")] == ["receipt.json"]


async def test_a_file_is_sent_whole(bench: Bench) -> None:
    size = 20_000_000
    envelope = await bench.run({"do": "file", "kind": "plain", "size": size})
    assert envelope["outputs"][0]["size_bytes"] == size
    assert envelope["outputs"][0]["cid"] == digest(b"x" * size)


@pytest.mark.parametrize(
    ("what", "expected"), [("none", "result_invalid"), ("usage", "usage_invalid")]
)
async def test_a_provider_that_returns_something_else_is_told_so(
    bench: Bench, what: str, expected: str
) -> None:
    envelope = await bench.run({"do": "returned", "what": what})
    assert code(envelope) == "ERR_INTERNAL"
    assert envelope["error"]["message"] == f"internal error: {expected}"


async def test_short_forms_of_a_result_are_wrapped(bench: Bench) -> None:
    await bench.run({"do": "returned", "what": "triple"})
    assert await bench.body("outputs/output") == b"triple"
    assert (await bench.receipt())["usage"] == {"tokens": 3}
    await bench.run({"do": "returned", "what": "proposals"}, name="x2")
    body = await bench.body("outputs/transitions.json", name="x2")
    assert loads_strict(body) == {"transitions": [{"id": "next"}]}


@pytest.mark.parametrize(
    ("params", "expected", "message"),
    [
        ({"do": "refuse", "code": "ERR_INPUTS"}, "ERR_INPUTS", "because"),
        ({"do": "refuse", "code": "ERR_PROVIDER"}, "ERR_PROVIDER", "because"),
        ({"do": "refuse", "code": "ERR_CANCELLED"}, "ERR_INTERNAL", "because"),
        ({"do": "refuse", "code": "ERR_NO_SUCH"}, "ERR_INTERNAL", "because"),
        ({"do": "crash", "kind": "value"}, "ERR_INTERNAL", "ValueError"),
        ({"do": "crash", "kind": "exit"}, "ERR_INTERNAL", "SystemExit"),
        ({"do": "crash", "kind": "memory"}, "ERR_OOM", "out of memory"),
        ({"do": "parse"}, "ERR_INPUTS", "ERR_JSON_SYNTAX"),
        ({"do": "no such deed"}, "ERR_INTERNAL", "KeyError"),
        ({"do": "media_type", "mime": "Not A Type"}, "ERR_INTERNAL", "invalid"),
        ({"do": "bad_frame", "kind": "RunResult", "content": {}}, "ERR_INTERNAL", "frame_kind"),
        ({"do": "bad_frame", "kind": "Token", "content": {}}, "ERR_INTERNAL", "frame_Token"),
    ],
)
async def test_an_error_of_a_provider_has_a_code_and_none_of_its_text(
    bench: Bench, params: dict[str, Any], expected: str, message: str
) -> None:
    envelope = await bench.run(params)
    assert code(envelope) == expected
    assert message in envelope["error"]["message"]
    assert "canary" not in str(envelope)
    assert "Traceback" not in str(envelope)
    receipt = await bench.receipt()
    assert (receipt["status"], receipt["written_by"]) == ("error", "processor")


@pytest.mark.parametrize(
    ("params", "reason"),
    [
        ({"do": "leave", "code": 7}, "worker_exited_7"),
        ({"do": "leave", "code": 0}, "worker_exited_0"),
        ({"do": "kill", "signal": 9}, "worker_killed_by_SIGKILL"),
        ({"do": "kill", "signal": 11}, "worker_killed_by_SIGSEGV"),
    ],
)
async def test_a_worker_that_dies_still_gives_one_result_and_a_receipt(
    bench: Bench, params: dict[str, Any], reason: str
) -> None:
    envelope = await bench.run(params)
    assert envelope["error"] == {"code": "ERR_INTERNAL", "message": f"internal error: {reason}"}
    assert bench.kinds().count("RunResult") == 1
    receipt = await bench.receipt()
    assert (receipt["status"], receipt["written_by"]) == ("error", "supervisor")
    if params["do"] == "leave":
        assert "last words" in envelope["meta"]["stderr_tail"]
        assert "canary" not in envelope["meta"]["stderr_tail"]


async def test_a_flood_on_stderr_neither_blocks_nor_grows(bench: Bench) -> None:
    envelope = await bench.run({"do": "shout", "size": 50_000_000})
    tail = envelope["meta"]["stderr_tail"]
    assert len(tail.encode()) <= 2048
    assert tail.endswith("the end")


async def test_memory_beyond_the_declared_is_out_of_memory(bench: Bench) -> None:
    fingerprint = PRINT.replace("4Gi", "256Mi")
    assert code(await bench.run({"do": "hoard"}, fingerprint=fingerprint)) == "ERR_OOM"


@pytest.mark.parametrize(
    ("fingerprint", "reason"),
    [
        (PRINT.replace("platform:", "platform:not-"), "platform"),
        (PRINT.replace("python3", "python2"), "runtime"),
        (PRINT.replace("python3", "python3.1"), "runtime"),
        (PRINT.replace("python3", "node22"), "runtime"),
    ],
)
async def test_another_machine_than_declared_is_a_mismatch(
    bench: Bench, fingerprint: str, reason: str
) -> None:
    envelope = await bench.run({"do": "echo"}, fingerprint=fingerprint)
    assert code(envelope) == "ERR_REGISTRY_MISMATCH"
    assert envelope["error"]["message"].endswith(f": {reason}")
    assert (await bench.receipt())["written_by"] == "supervisor"


async def test_a_digest_that_no_process_has_is_a_mismatch(bench: Bench) -> None:
    envelope = await bench.run({"do": "echo"}, expected_oci="sha256:" + "0" * 64)
    assert code(envelope) == "ERR_REGISTRY_MISMATCH"


async def test_an_unknown_ref_is_not_found(bench: Bench) -> None:
    for ref in ("test/none@1", "../etc@1", "test/deeds@01"):
        assert code(await bench.run({"do": "echo"}, ref=ref)) == "ERR_NOT_FOUND"


@pytest.mark.scenario(95)
async def test_secrets_reach_mode_real_alone_and_no_environment(bench: Bench) -> None:
    bench.secrets["API_KEY"] = "canary-0123456789"
    params = {"do": "tell_secret", "name": "API_KEY"}
    mocked = await bench.run(params, name="x1", secrets=("API_KEY",))
    assert code(mocked) == "ERR_MISSING_SECRET"
    real = await bench.run(params, name="x2", mode="real", secrets=("API_KEY",))
    assert real["status"] == "success"
    assert await bench.body("outputs/length", name="x2") == b"17"
    other = await bench.run(params, name="x3", mode="real", secrets=("OTHER",))
    assert code(other) == "ERR_MISSING_SECRET"
    leaked = await bench.run(params | {"leak": True}, name="x4", mode="real", secrets=("API_KEY",))
    assert "value is [redacted]" in leaked["meta"]["stderr_tail"]


@pytest.mark.parametrize("more", [{}, {"MORE_KEY": "more-0"}])
async def test_an_optional_secret_is_given_if_it_is_there(
    bench: Bench, more: dict[str, str]
) -> None:
    bench.secrets |= {"API_KEY": "canary-0123456789"} | more
    both, declared = ("API_KEY", "MORE_KEY"), f"{PRINT};secrets:API_KEY"
    params = {"do": "tell_secret", "name": "API_KEY"}
    one = await bench.run(params, mode="real", secrets=both, fingerprint=declared)
    assert one["status"] == "success"
    params["name"] = "MORE_KEY"
    other = await bench.run(params, name="x2", mode="real", secrets=both, fingerprint=declared)
    if more:
        assert await bench.body("outputs/length", name="x2") == b"6"
    else:
        assert code(other) == "ERR_MISSING_SECRET"


async def test_no_log_line_of_a_provider_holds_a_secret(bench: Bench) -> None:
    bench.secrets["API_KEY"] = "canary-0123456789"
    params = {"do": "tell_secret", "name": "API_KEY", "log": True}
    await bench.run(params, mode="real", secrets=("API_KEY",))
    (said,) = [frame["content"]["message"] for frame in bench.frames if frame["kind"] == "Log"]
    assert said == "used [redacted], and Authorization: [redacted]"


async def test_a_worker_inherits_nothing(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CANARY", "1")
    monkeypatch.setenv("OPENAI_API_KEY", "canary")
    await bench.run({"do": "environment"})
    seen = loads_strict(await bench.body("outputs/environment.json"))
    assert seen["PYTHONHASHSEED"] == "0"
    assert seen["TZ"] == "UTC"
    assert "CANARY" not in seen
    assert "OPENAI_API_KEY" not in seen


async def test_usage_is_measured_from_outside(bench: Bench) -> None:
    await bench.run({"do": "echo"})
    usage = bench.adapter.measured("x1").usage
    assert usage["cpu_ms"] > 50
    assert usage["latency_ms"] > 50
    assert bench.adapter.measured("x1").usage == usage
    assert bench.adapter.measured("x9").usage == {}


async def test_release_leaves_nothing(bench: Bench) -> None:
    assert await bench.adapter.standing("x1") is Standing.ABSENT
    await bench.run({"do": "echo"})
    place = bench.adapter._places.of("x1")
    assert place.folder.exists()
    assert await bench.adapter.standing("x1") is Standing.GONE
    await bench.adapter.release("x1")
    await bench.adapter.release("x1")
    assert not place.folder.exists()
    assert list(bench.adapter._places._marks.iterdir()) == []
    assert await bench.adapter.standing("x1") is Standing.ABSENT


async def test_what_a_provider_leaves_behind_is_killed_with_it(bench: Bench) -> None:
    envelope = await bench.run({"do": "outlive"})
    assert envelope["status"] == "success"
    assert until(lambda: not bench.kin(), within_s=1)
    envelope = await bench.run({"do": "outlive", "die": True}, name="x2")
    assert code(envelope) == "ERR_INTERNAL"
    assert until(lambda: not bench.kin("x2"), within_s=1)
