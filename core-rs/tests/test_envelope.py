"""Envelopes, judged and built."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from theory_core import (
    TheoryError,
    WorldPath,
    canonicalize,
    error_envelope,
    success_envelope,
    validate_envelope,
)

VECTORS = Path(__file__).parents[1] / "vectors" / "envelope"
FACTS = ("place", "problem", "index", "other", "reason")
FINGERPRINT = "cpu:1;memory:2Gi;platform:amd64;runtime:python3.11"


def cases(file: str) -> pytest.MarkDecorator:
    document = json.loads((VECTORS / file).read_text(encoding="ascii"))
    tests = [case for group in document["testGroups"] for case in group["tests"]]
    ids = [f"{file}-{case['tcId']}" for case in tests]
    return pytest.mark.parametrize("case", tests, ids=ids)


def judge(case: dict[str, Any], call: Callable[[], bytes], facts: tuple[str, ...] = FACTS) -> None:
    if case["result"] == "valid":
        assert call() == case["canonical"].encode()
        return
    with pytest.raises(TheoryError) as refusal:
        call()
    assert refusal.value.code == case["code"]
    assert case.get("fragment", "") in refusal.value.message
    expected = {fact: case[fact] for fact in facts if fact in case}
    assert {fact: refusal.value.detail.get(fact) for fact in expected} == expected


@cases("validate.json")
def test_an_envelope_is_accepted_or_refused(case: dict[str, Any]) -> None:
    envelope, expect = case["envelope"], case.get("expect", {})
    judge(case, lambda: canonicalize(validate_envelope(envelope, **expect)))
    text = json.dumps(envelope, indent=2).encode()
    judge(case, lambda: canonicalize(validate_envelope(text, **expect)))


@cases("build.json")
def test_an_envelope_is_built(case: dict[str, Any]) -> None:
    id_, fingerprint = case["execution_id"], case["env_fingerprint"]
    if case["build"] == "success":

        def call() -> bytes:
            return success_envelope(
                id_,
                case["outputs"],
                write_prefix=case["write_prefix"],
                env_fingerprint=fingerprint,
                image_digest=case.get("image_digest"),
            )
    else:

        def call() -> bytes:
            return error_envelope(
                id_,
                case["code_given"],
                env_fingerprint=fingerprint,
                reason=case.get("reason"),
                stderr_tail=case.get("stderr_tail"),
            )

    judge(case, call, ())


def test_a_write_prefix_may_be_a_path_of_the_world() -> None:
    prefix = WorldPath("/artifacts/outputs/media-frames-v1/x1/", "/world/acme/p1")
    built = success_envelope("x1", [], write_prefix=prefix, env_fingerprint=FINGERPRINT)
    for same in (prefix, str(prefix), prefix.relative):
        answer = validate_envelope(built, execution_id="x1", write_prefix=same)
        assert answer["index_path"] == f"{prefix.relative}outputs.json"


def test_what_is_no_json_is_a_fault_of_the_adapter() -> None:
    for broken, reason in (
        (b"{", "ERR_JSON_SYNTAX"),
        (b'{"status":"error","status":"error"}', "ERR_JSON_DUPLICATE"),
        ({"status": float("nan")}, "ERR_JSON_NUMBER"),
        (object(), "ERR_JSON_TYPE"),
    ):
        with pytest.raises(TheoryError) as refusal:
            validate_envelope(broken)  # type: ignore[arg-type]
        assert refusal.value.code == "ERR_ADAPTER_INVOCATION"
        assert refusal.value.detail["reason"] == reason


def test_the_end_of_stderr_is_text_whatever_the_processor_wrote() -> None:
    for tail, shown in (
        (b"\xff\xfe end", "\ufffd\ufffd end"),
        ("\ufffe end", "\ufffd end"),
        ("é" * 2000, "é" * 1024),
        ("a" + "é" * 1024, "é" * 1024),
        (b"", ""),
    ):
        built = error_envelope("x1", "ERR_OOM", env_fingerprint=FINGERPRINT, stderr_tail=tail)
        assert validate_envelope(built)["meta"]["stderr_tail"] == shown


def test_a_validated_envelope_is_a_copy() -> None:
    built = error_envelope("x1", "ERR_OOM", env_fingerprint=FINGERPRINT)
    given = json.loads(built)
    answer = validate_envelope(given)
    assert answer == given
    answer["error"]["message"] = "changed"
    assert given["error"]["message"] == "out of memory"


@pytest.mark.parametrize(
    "expect",
    [
        {"execution_id": 7},
        {"write_prefix": 7},
        {"write_prefix": "/tmp/a/"},  # noqa: S108 - no path of the World
        {"expected_digest": "sha256:0"},
        {"expected_digest": "b3:" + "0" * 64},
    ],
)
def test_expectations_that_make_no_sense_are_refused(expect: dict[str, Any]) -> None:
    built = error_envelope("x1", "ERR_OOM", env_fingerprint=FINGERPRINT)
    with pytest.raises(TheoryError) as refusal:
        validate_envelope(built, **expect)
    assert refusal.value.code in {"ERR_INPUTS", "ERR_BAD_FACET"}
