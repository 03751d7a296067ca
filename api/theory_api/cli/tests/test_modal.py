"""`theory modal …` and runs through it, against a stand-in that deploys and serves for real."""

from __future__ import annotations

import grpclib
import pytest

from theory_api.cli.tests.cloud import DIGEST, OTHER, REF, Running, pins
from theory_api.cli.tests.desk import Desk
from theory_api.tests.modal_cloud import App
from theory_core import validate_envelope

INPUTS = '{"task": "script", "text": "A tide mill works with the moon. It turns twice a day."}'


def test_a_processor_is_deployed_looked_at_probed_and_stopped(desk: Desk, modal: Running) -> None:
    deployed = desk.theory("modal", "deploy", REF, "--json")
    assert deployed.code == 0, deployed.err
    assert deployed.json["app"] == "ada-main-llm-litellm-v1"
    assert deployed.json["environment"] == "dev"
    assert set(deployed.json["urls"]) == {"run", "mock"}
    assert "run" in desk.theory("modal", "status", REF).out
    probed = desk.theory("modal", "probe", REF)
    assert probed.code == 0, probed.err
    assert "ERR_MISSING_SECRET" in probed.out
    seen = desk.theory("modal", "verify-digest", REF, "--json")
    assert [one["runs"] for one in seen.json] == [DIGEST, DIGEST]
    assert desk.theory("modal", "logs", REF).code == 0
    assert desk.theory("modal", "stop", REF, "--json").json == {"stopped": deployed.json["app"]}
    gone = desk.theory("modal", "status", REF, "--json")
    assert (gone.code, gone.json["code"]) == (1, "ERR_ENDPOINT_MISSING")
    assert modal.cloud.containers == {}


@pytest.mark.scenario(86)
def test_a_probe_passes_on_a_missing_secret_alone(desk: Desk, modal: Running) -> None:
    assert desk.theory("modal", "deploy", REF).code == 0
    cloud = modal.cloud
    mock = next(one for one in cloud.functions.values() if one.message.function_name == "mock")
    given = next(one for one in cloud.functions.values() if one.message.function_name == "run")
    mock.secrets = given.secrets
    ident = next(name for name, one in cloud.functions.items() if one is mock)
    modal.does(cloud.preempt(ident))
    modal.does(cloud.again(ident))
    probed = desk.theory("modal", "probe", REF, "--json")
    assert (probed.code, probed.json["code"]) == (1, "ERR_CI_SAFETY")
    assert "ERR_MODE_INVALID" in probed.json["message"]
    assert "nothing to probe" in desk.theory("modal", "probe", "media/shotlist@1").out


def test_drift_is_reported_or_fails_as_the_environment_says(desk: Desk, modal: Running) -> None:
    for lane in ("dev", "main"):
        pins(modal.registry, DIGEST)
        assert desk.theory("modal", "deploy", REF, "--lane", lane).code == 0
        pins(modal.registry, OTHER)
        seen = desk.theory("modal", "verify-digest", REF, "--lane", lane, "--json")
        audit = desk.theory("registry", "drift", "--lane", lane, "--json")
        if lane == "dev":
            assert (seen.code, audit.code) == (0, 0)
            assert {(one["pinned"], one["runs"]) for one in seen.json} == {(OTHER, DIGEST)}
            assert [(one["ref"], one["runs"]) for one in audit.json] == [(REF, DIGEST)] * 2
            assert "drifted" in desk.theory("registry", "drift").out
        else:
            for refused in (seen, audit):
                assert (refused.code, refused.json["code"]) == (1, "ERR_REGISTRY_MISMATCH")
                assert REF in refused.json["message"]
        assert desk.theory("modal", "stop", REF, "--lane", lane).code == 0
        # What is pinned and not deployed has not drifted.
        assert desk.theory("registry", "drift", "--lane", lane, "--json").json == []


def test_nothing_is_deployed_that_nobody_pinned(desk: Desk, modal: Running) -> None:
    printed = desk.theory("modal", "deploy", "media/shotlist@1", "--json")
    assert (printed.code, printed.json["code"]) == (1, "ERR_IMAGE_UNPINNED")
    assert modal.cloud.calls == []


def test_what_nothing_deploys_any_more_is_stopped_if_asked(
    desk: Desk, modal: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    cloud = modal.cloud
    for told in ({}, {"THEORY_MODAL_OWNER": "bob-main"}, {"THEORY_MODAL_OWNER": "", "CI": "true"}):
        with monkeypatch.context() as patch:
            for name, value in told.items():
                patch.setenv(name, value)
            assert desk.theory("modal", "deploy", REF).code == 0
    foreign = App("ap-" + "0" * 22, "somebodys-app", "dev")
    cloud.apps[foreign.ident] = foreign
    kept = desk.theory("modal", "gc", "--no-dry-run", "--json")
    assert (kept.code, kept.json) == (0, {"apps": [], "dry_run": False})

    (modal.registry / "processors" / "llm" / "litellm" / "1.yaml").unlink()
    for name in ("dev", "staging", "main"):
        file = modal.registry / "pins" / f"{name}.yaml"
        file.write_text("schema: theory.pins.v1\npins: {}\n", encoding="utf-8")
    expected = {"app": "ada-main-llm-litellm-v1", "ref": REF, "reason": "not in the registry"}
    rehearsed = desk.theory("modal", "gc", "--json")
    assert rehearsed.json == {"apps": [expected], "dry_run": True}
    assert cloud.app("ada-main-llm-litellm-v1", "dev") is not None
    assert "would stop  ada-main-llm-litellm-v1" in desk.theory("modal", "gc").out
    assert desk.theory("modal", "gc", "--lane", "main", "--json").json["apps"] == []
    # Somebody else is faster, with the list and with the end.
    for call in ("AppGetTags", "AppGetOrCreate"):
        cloud.failing[call] = grpclib.Status.NOT_FOUND
        assert desk.theory("modal", "gc", "--no-dry-run").code == 0
        del cloud.failing[call]
    cloud.failing["AppStop"] = grpclib.Status.PERMISSION_DENIED
    refused = desk.theory("modal", "gc", "--no-dry-run", "--json")
    assert (refused.code, refused.json["code"]) == (1, "ERR_MODAL_INVOCATION")
    del cloud.failing["AppStop"]
    assert "stopped" in desk.theory("modal", "gc", "--no-dry-run").out
    assert cloud.app("ada-main-llm-litellm-v1", "dev") is None
    for other in ("bob-main-llm-litellm-v1", "llm-litellm-v1", "somebodys-app"):
        assert cloud.app(other, "dev") is not None
    assert desk.theory("modal", "gc", "--json").json["apps"] == []


@pytest.mark.parametrize("adapter", ["modal", "modal-http"])
def test_a_run_there_leaves_the_same_bytes_as_one_here(
    desk: Desk, modal: Running, adapter: str
) -> None:
    assert desk.theory("modal", "deploy", REF).code == 0
    words = ("run", "--ref", REF, "--inputs-json", INPUTS, "--json")
    here = desk.theory(*words, "--execution-id", "here")
    there = desk.theory(*words, "--execution-id", "there", "--adapter", adapter)
    assert (here.code, there.code) == (0, 0), there.err
    ours, theirs = here.json, there.json
    assert [one["cid"] for one in theirs["outputs"]] == [one["cid"] for one in ours["outputs"]]
    assert there.out.replace("/there/", "/here/").replace('"there"', '"here"') == here.out
    pinned = desk.theory(*words, "--execution-id", "pinned", "--adapter", adapter, "--lane", "dev")
    assert pinned.code == 0, pinned.err
    envelope = validate_envelope(pinned.out.strip().encode(), expected_digest=DIGEST)
    assert envelope["meta"]["image_digest"] == DIGEST
    assert desk.theory("ledger", "verify", "run-there", "--laws").code == 0
    assert modal.cloud.faults == []


def test_without_an_address_for_its_outputs_nothing_is_started(
    desk: Desk, modal: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("THEORY_GATEWAY_URL")
    assert desk.theory("modal", "deploy", REF).code == 0
    words = ("run", "--ref", REF, "--inputs-json", INPUTS, "--adapter", "modal", "--json")
    printed = desk.theory(*words)
    assert printed.json["error"]["code"] == "ERR_ADAPTER_INVOCATION"
    assert modal.cloud.faults == []


def test_local_http_names_the_setting_that_is_missing(desk: Desk) -> None:
    words = ("run", "--ref", REF, "--inputs-json", INPUTS, "--adapter", "local-http", "--json")
    printed = desk.theory(*words)
    assert printed.json["error"]["code"] == "ERR_ENDPOINT_MISSING"
    assert "THEORY_LOCAL_URL" in printed.json["error"]["message"]
