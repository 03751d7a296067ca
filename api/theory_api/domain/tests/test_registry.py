"""Names, holds, fingerprints and inputs of a registry snapshot."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from theory_api.domain.registry import RegistrySnapshot, env_fingerprint, ref_of, slug
from theory_api.domain.tests import shelf
from theory_core import TheoryError, canonicalize, digest

ARTIFACT: dict[str, Any] = {
    "$id": "urn:theory:schema:artifact:v1",
    "type": "object",
    "required": ["path", "cid"],
}
PROCESSOR: dict[str, Any] = {
    "schema": "theory.processor.v1",
    "ref": "llm/writer@1",
    "summary": "Writes.",
    "image": "theory/llm-writer-v1",
    "runtime": {
        "cpu": "1",
        "memory": "2Gi",
        "timeout_s": 60,
        "python": "3",
        "gpu": 0,
        "concurrency": 1,
        "watts": {"cpu": 15, "gpu": 0},
    },
    "secrets": {"required": ["B_KEY", "A_KEY"], "optional": []},
    "inputs": {
        "type": "object",
        "additionalProperties": False,
        "required": ["text"],
        "properties": {
            "text": {"$ref": "urn:theory:schema:artifact:v1"},
            "count": {"type": "integer", "maximum": 3},
        },
    },
    "outputs": [{"path": "outputs/a.json", "mime": "application/json"}],
    "network": "none",
    "estimate": {
        "fixed": {"cpu_ms": 1000, "latency_ms": 2000},
        "priced": {"model": "m", "tokens_in": 10, "tokens_out": 1},
    },
    "memo": {"modes": ["mock"], "salt": ""},
}
POLICY: dict[str, Any] = {
    "schema": "theory.policy.v1",
    "policy": {
        "ref": "default@1",
        "on_refused": "fail",
        "on_breach": "fail",
        "lease_ms": 1000,
        "retry": {
            "max_attempts": 2,
            "backoff_ms": [1],
            "jitter_permille": 0,
            "retry_on": ["ERR_TIMEOUT"],
        },
    },
    "budget": {"cpu_ms": 5},
    "carbon": {"g_per_kwh": 400},
    "uri_allow": [],
}


def contents(**changes: object) -> dict[str, Any]:
    return {
        "schema": "theory.registry.v1",
        "processors": {"llm/writer@1": PROCESSOR},
        "policies": {"default@1": POLICY},
        "prompts": {"tell@1": {"ref": "tell@1", "version": 1, "inputs": [], "body": "Tell.\n"}},
        "prices": {"m": {"input": 150_000, "output": 600_000}},
        "predicates": {},
        "secrets": {},
        "environments": {},
        "pins": {},
        "schemas": {"artifact": ARTIFACT},
        **changes,
    }


@pytest.fixture
def snapshot() -> RegistrySnapshot:
    return RegistrySnapshot.from_document(canonicalize(contents()))


_REFS = st.from_regex(r"[a-z][a-z0-9]{0,30}/[a-z][a-z0-9-]{0,62}@[1-9][0-9]{0,3}", fullmatch=True)


@settings(deadline=None)
@given(_REFS)
def test_a_slug_leads_back_to_its_reference(ref: str) -> None:
    assert ref_of(slug(ref)) == ref


def test_references_that_look_alike_have_different_slugs() -> None:
    assert slug("a/b-v1@2") == "a-b-v1-v2"
    assert ref_of("a-b-v1-v2") == "a/b-v1@2"


@pytest.mark.parametrize(
    "ref", ["", "a/b", "a/b@0", "a/b@01", "A/b@1", "a-b/c@1", "a/b@1\n", "a/b@12345", "a//b@1"]
)
def test_other_references_are_refused(ref: str) -> None:
    with pytest.raises(TheoryError, match="ns/name@N") as caught:
        slug(ref)
    assert caught.value.code == "ERR_INPUTS"


def test_the_id_is_the_digest_of_the_document(snapshot: RegistrySnapshot) -> None:
    assert snapshot.id == digest(snapshot.document)
    again = RegistrySnapshot.from_document(snapshot.document)
    assert again.id == snapshot.id


def test_a_hold_is_worked_out_in_integers_and_rounded_up(snapshot: RegistrySnapshot) -> None:
    assert dict(snapshot.processor("llm/writer@1").estimate) == {
        "cpu_ms": 1000,
        "latency_ms": 2000,
        "tokens": 11,
        "usd_micro": 3,  # 10 x 0.15 + 1 x 0.6 = 2.1
        "co2_mg": 2,  # 15 J at 400 g/kWh = 1.67 mg
    }


def test_a_fingerprint_names_secrets_in_mode_real_alone(snapshot: RegistrySnapshot) -> None:
    spec = snapshot.processor("llm/writer@1")
    mock = env_fingerprint(spec, platform="amd64", mode="mock")
    assert mock == "cpu:1;memory:2Gi;platform:amd64;runtime:python3"
    real = env_fingerprint(spec, platform="arm64", mode="real")
    assert real == "cpu:1;memory:2Gi;platform:arm64;runtime:python3;secrets:A_KEY,B_KEY"


@pytest.mark.scenario(82)
def test_a_run_reaches_what_policy_and_spec_list_in_mode_real_and_with_egress_alone() -> None:
    own = {"network": "egress", "uri_allow": ["https://api.example.org"]}
    listed = ("http://127.0.0.1:8080", "https://api.example.org")
    for changes, mode, expected in (
        (own, "real", listed),
        (own, "mock", ()),
        ({"network": "egress"}, "real", listed[:1]),
        ({"network": "none"}, "real", ()),
    ):
        document = contents(processors={"llm/writer@1": {**PROCESSOR, **changes}})
        spec = RegistrySnapshot.from_document(canonicalize(document)).processor("llm/writer@1")
        assert spec.reach(mode, listed[:1]) == expected
    assert (
        RegistrySnapshot.from_document(canonicalize(contents()))
        .processor("llm/writer@1")
        .reach("real", ())
        == ()
    )


def test_a_fingerprint_names_gpus_where_there_are_any() -> None:
    runtime = {**PROCESSOR["runtime"], "gpu": 2}
    document = contents(processors={"llm/writer@1": {**PROCESSOR, "runtime": runtime}})
    spec = RegistrySnapshot.from_document(canonicalize(document)).processor("llm/writer@1")
    told = env_fingerprint(spec, platform="amd64", mode="mock")
    assert told == "cpu:1;gpu:2;memory:2Gi;platform:amd64;runtime:python3"


def test_an_unknown_name_is_answered_with_those_that_are_near(snapshot: RegistrySnapshot) -> None:
    with pytest.raises(TheoryError, match=r"there is llm/writer@1") as caught:
        snapshot.processor("llm/writr@1")
    assert caught.value.code == "ERR_NOT_FOUND"
    with pytest.raises(TheoryError, match=r"there is default@1"):
        snapshot.policy("defualt@1")
    with pytest.raises(TheoryError, match=r"there is tell@1"):
        snapshot.prompt("script@1")


def test_policies_prompts_and_prices_are_found(snapshot: RegistrySnapshot) -> None:
    assert snapshot.policy("default@1").retry.max_attempts == 2
    assert snapshot.policy_spec("default@1").budget == {"cpu_ms": 5}
    assert snapshot.prompt("tell@1").body == "Tell.\n"
    assert snapshot.prices["m"].output == 600_000
    assert snapshot.g_per_kwh == 400


def test_inputs_that_fit_are_accepted(snapshot: RegistrySnapshot) -> None:
    params = {"text": {"path": "/artifacts/a", "cid": "b3:0"}, "count": 3}
    body = canonicalize({"schema": "v1", "params": params})
    snapshot.processor("llm/writer@1").check_inputs(body)


@pytest.mark.parametrize(
    ("body", "place"),
    [
        (b"{", "$"),
        (b'{"params":{}}', "$"),
        (b'{"params":{},"schema":"v1","more":1}', "$"),
        (b'{"params":{},"schema":"v2"}', "$"),
        (b'{"params":[],"schema":"v1"}', "$"),
        (b'{"params":{},"schema":"v1"}', "$.params"),
        (b'{"params":{"x":' + b"[" * 63 + b"]" * 63 + b'},"schema":"v1"}', "$"),
        (b'{"params":{"text":"s3cret"},"schema":"v1"}', "$.params.text"),
        (b'{"params":{"text":{"path":"p"}},"schema":"v1"}', "$.params.text"),
        (b'{"params":{"text":{"path":"p","cid":"c"},"count":7},"schema":"v1"}', "$.params.count"),
        (b'{"params":{"text":{"path":"p","cid":"c"},"x":7},"schema":"v1"}', "$.params"),
    ],
)
def test_inputs_that_do_not_fit_are_refused_with_their_place(
    snapshot: RegistrySnapshot, body: bytes, place: str
) -> None:
    with pytest.raises(TheoryError, match="invalid inputs payload") as caught:
        snapshot.processor("llm/writer@1").check_inputs(body)
    assert (caught.value.code, caught.value.detail["place"]) == ("ERR_INPUTS", place)
    assert "s3cret" not in str(caught.value)
    assert "7" not in caught.value.message


@pytest.mark.parametrize(
    ("changes", "fragment"),
    [
        ({"prices": {}}, "has no price"),
        ({"processors": {"llm/other@1": PROCESSOR}}, "under another name"),
        ({"processors": {"llm/writer@1": {**PROCESSOR, "extra": 1}}}, "extra"),
        ({"surprise": 1}, "surprise"),
    ],
)
def test_a_document_that_is_no_snapshot_is_refused(changes: dict[str, Any], fragment: str) -> None:
    with pytest.raises(TheoryError, match=fragment) as caught:
        RegistrySnapshot.from_document(canonicalize(contents(**changes)))
    assert caught.value.code == "ERR_INPUTS"


def test_a_snapshot_without_the_default_policy_is_refused() -> None:
    with pytest.raises(TheoryError, match="default@1") as caught:
        RegistrySnapshot.from_document(canonicalize(contents(policies={})))
    assert caught.value.code == "ERR_NOT_FOUND"


def test_bytes_that_are_not_canonical_are_refused() -> None:
    with pytest.raises(TheoryError, match="not canonical"):
        RegistrySnapshot.from_document(canonicalize(contents()) + b"\n")


def test_the_digest_of_a_spec_changes_with_any_of_it(snapshot: RegistrySnapshot) -> None:
    changed = {**PROCESSOR, "memo": {"modes": ["mock"], "salt": "2"}}
    other = RegistrySnapshot.from_document(
        canonicalize(contents(processors={"llm/writer@1": changed}))
    )
    assert other.processor("llm/writer@1").digest != snapshot.processor("llm/writer@1").digest


@pytest.mark.scenario(75, 76)
def test_an_image_is_pinned_by_lane_and_platform_and_lane_build_needs_none() -> None:
    digest = "sha256:" + "0" * 64
    registry = shelf.snapshot(pins={"main": {"demo/echo@1": {"amd64": digest}}})
    assert registry.pin("demo/echo@1", lane="main", platform="amd64") == digest
    assert registry.pin("demo/echo@1", lane="build", platform="amd64") is None
    with pytest.raises(TheoryError, match=r"ERR_REGISTRY_MISMATCH.*not for arm64"):
        registry.pin("demo/echo@1", lane="main", platform="arm64")
    for ref, lane in (("demo/echo@1", "dev"), ("demo/strict@1", "main")):
        with pytest.raises(TheoryError, match=r"ERR_IMAGE_UNPINNED.*image not pinned"):
            registry.pin(ref, lane=lane, platform="amd64")


@pytest.mark.parametrize(
    ("relpath", "mime", "declared"),
    [
        ("outputs/a.json", "application/json", True),
        ("outputs/a.json", "text/plain", False),
        ("outputs/aXjson", "application/json", False),
        ("outputs/a.json.txt", "application/json", False),
        ("outputs/frames/0001.png", "image/png", True),
        ("outputs/frames/more/0001.png", "image/png", True),
        ("outputs/frames/", "image/png", False),
        ("outputs/framesX", "image/png", False),
        ("outputs/one.txt", "text/plain", True),
        ("outputs/.txt", "text/plain", True),
        ("outputs/below/one.txt", "text/plain", False),
        ("outputs/one.txt", "text/plain; charset=utf-8", False),
    ],
)
def test_an_output_is_declared_by_path_prefix_or_star_with_its_mime(
    relpath: str, mime: str, *, declared: bool
) -> None:
    document = contents()
    document["processors"]["llm/writer@1"] = PROCESSOR | {
        "outputs": [
            {"path": "outputs/a.json", "mime": "application/json"},
            {"path": "outputs/frames/", "mime": "image/png"},
            {"path": "outputs/*.txt", "mime": "text/plain"},
        ]
    }
    spec = RegistrySnapshot.from_document(canonicalize(document)).processor("llm/writer@1")
    assert spec.declares(relpath, mime) is declared
