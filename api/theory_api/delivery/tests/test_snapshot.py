"""The registry folder is read whole or refused, with file and line."""

import shutil
from pathlib import Path

import pytest

from theory_api.delivery.snapshot import load_registry
from theory_api.domain.predicates import MACHINE, STATE, WORLD
from theory_api.domain.registry import RegistrySnapshot
from theory_core import ERROR_CODES, TheoryError, digest

ROOT = Path(__file__).resolve().parents[4]
REGISTRY = ROOT / "registry"
WRITER = "processors/llm/litellm/1.yaml"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    copy = tmp_path / "registry"
    shutil.copytree(REGISTRY, copy)
    return copy


def edit(folder: Path, name: str, old: str, new: str) -> None:
    text = (folder / name).read_text()
    assert old in text
    (folder / name).write_text(text.replace(old, new, 1))


def test_the_shipped_registry_is_sound_and_stable() -> None:
    first, again = load_registry(REGISTRY), load_registry(REGISTRY)
    assert first.document == again.document
    assert first.id == digest(first.document)
    assert RegistrySnapshot.from_document(first.document).id == first.id
    sources = (ROOT / "processors").glob("*/*/*/provider.py")
    assert set(first.processors) == {"{}/{}@{}".format(*source.parts[-4:-1]) for source in sources}


def test_every_processor_of_the_registry_has_its_program() -> None:
    for ref in load_registry(REGISTRY).processors:
        folder = ROOT / "processors" / ref.replace("@", "/")
        assert (folder / "main.py").is_file()
        assert (folder / "provider.py").is_file()
        assert (folder / "requirements.txt").is_file()


def test_the_declared_predicates_are_those_that_are_built_in() -> None:
    declared = load_registry(REGISTRY).predicates
    assert set(declared) == WORLD | STATE | MACHINE
    assert {name for name, entry in declared.items() if entry["reads"] == "world"} == WORLD
    assert {name for name, entry in declared.items() if entry["reads"] == "machine"} == MACHINE


def test_the_default_policy_retries_what_a_retry_can_help() -> None:
    retry = load_registry(REGISTRY).policy("default@1").retry
    assert retry.max_attempts == 2
    assert "ERR_ORPHANED" in retry.retry_on
    assert all(ERROR_CODES[code].retryable for code in retry.retry_on)


def test_the_default_budget_holds_two_attempts_of_any_processor() -> None:
    snapshot = load_registry(REGISTRY)
    budget = snapshot.policy_spec("default@1").budget
    for spec in snapshot.processors.values():
        for dimension, amount in spec.estimate.items():
            assert 2 * amount <= budget[dimension], (spec.ref, dimension)


def test_any_change_changes_the_id(folder: Path) -> None:
    before = load_registry(folder).id
    edit(folder, "prompts/script/1.md", "short silent film", "silent film")
    after = load_registry(folder).id
    assert before != after
    edit(
        folder,
        "pins/dev.yaml",
        "pins: {}",
        f"pins: {{media/frames@1: {{amd64: sha256:{'0' * 64}}}}}",
    )
    assert load_registry(folder).id not in {before, after}


@pytest.mark.parametrize(
    ("name", "old", "new", "line", "fragment"),
    [
        (WRITER, 'cpu: "1"', 'cpu: "1"\n  cpu: "2"', 7, "duplicate name"),
        (WRITER, '  cpu: "1"', "\tcpu: 1", 6, ""),
        (WRITER, 'cpu: "1"', "cpu: 1", 6, "is not of type"),
        (WRITER, "memo:", "surprise: 1\nmemo:", 1, "surprise"),
        (WRITER, "ref: llm/litellm@1", "ref: llm/litellm@2", 2, "place of llm/litellm@1"),
        (WRITER, "required: [OPENAI_API_KEY]", "required: [OTHER_KEY]", 14, "secrets.yaml"),
        (WRITER, "optional: []", "optional: [OPENAI_API_KEY]", 14, "either required or optional"),
        (WRITER, "prompts: [script@1]", "prompts: [other@1]", 16, "there is no prompt"),
        (WRITER, "model: openai/gpt-4o-mini", "model: unknown", 72, "prices.yaml"),
        (WRITER, "cpu_ms: 30000", "cpu_seconds: 30", 69, "cpu_seconds"),
        (WRITER, "cpu_ms: 30000", "cpu_ms: -1", 69, "minimum"),
        (WRITER, "cpu_ms: 30000", "cpu_ms: 1.5", 69, "integer"),
        (WRITER, "latency_ms: 180000", "latency_ms: 160000", 70, "times out"),
        (WRITER, "type: integer", "type: whole", 18, "not a JSON Schema"),
        (WRITER, "urn:theory:schema:artifact:v1", "file:///etc/passwd", 27, "no shared schema"),
        (WRITER, "      format: uri\n", "", 18, "endpoint is an address.*needs format: uri"),
        (WRITER, "path: outputs/script.txt", "path: outputs/script.json", 63, "two outputs"),
        (WRITER, "network: egress", "network: none", 66, "without network: egress"),
        (WRITER, "https://api.openai.com", "https://API.openai.com", 66, "an origin is"),
        (WRITER, "https://api.openai.com", "https://api.openai.com/v1", 66, "match"),
        (
            "policies/default.yaml",
            "uri_allow: []",
            'uri_allow: ["http://a:99999"]',
            34,
            "an origin is",
        ),
        (WRITER, "image: theory/llm-litellm-v1", "image: theory/a:latest", 4, "match"),
        ("policies/default.yaml", "ERR_DOCKER", "ERR_DOKCER", 12, "no such error code"),
        ("policies/default.yaml", "ERR_DOCKER", "ERR_INPUTS", 12, "never help"),
        ("policies/default.yaml", "ref: default@1", "ref: other@1", 3, "place of default"),
        ("prompts/script/1.md", "ref: script@1", "ref: script@2", 2, "place of script@1"),
        ("prompts/script/1.md", "version: 1", "version: 2", 3, "version differs"),
        ("prompts/script/1.md", "---\nref", "ref", 1, "front matter"),
        ("secrets.yaml", "OPENAI_API_KEY", "openai_key", 3, "OPENAI_API_KEY|match"),
        ("environments.yaml", "drift: fail", "drift: report", 23, "fail"),
        ("pins/main.yaml", "pins: {}", "pins: {a/b@1: {}}", 3, "propert"),
        (
            "predicates/lease.acquirable/1.yaml",
            "name: lease.acquirable@1",
            "name: lease.free@1",
            2,
            "place of lease.acquirable@1",
        ),
    ],
)
def test_a_fault_is_refused_with_file_and_line(
    folder: Path, name: str, old: str, new: str, line: int, fragment: str
) -> None:
    edit(folder, name, old, new)
    with pytest.raises(TheoryError, match=f"invalid inputs payload.*({fragment})") as caught:
        load_registry(folder)
    assert caught.value.code == "ERR_INPUTS"
    assert (caught.value.detail["file"], caught.value.detail["line"]) == (name, line)


def test_a_pin_of_an_unknown_processor_is_refused(folder: Path) -> None:
    edit(folder, "pins/main.yaml", "{}", f"{{a/b@1: {{amd64: sha256:{'0' * 64}}}}}")
    with pytest.raises(TheoryError, match="no such processor"):
        load_registry(folder)


@pytest.mark.parametrize(
    "name",
    ["policies/default.yaml", "prices.yaml", "secrets.yaml", "schemas/pins.json", "pins/dev.yaml"],
)
def test_a_missing_file_is_refused_by_name(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(TheoryError, match=r"missing|one file for each") as caught:
        load_registry(folder)
    assert caught.value.code == "ERR_INPUTS"


@pytest.mark.parametrize("name", ["processors/llm/litellm/1.yml", "notes.txt", "pins/prod.yaml"])
def test_a_file_that_would_be_ignored_is_refused(folder: Path, name: str) -> None:
    (folder / name).write_text("a: 1\n")
    with pytest.raises(TheoryError, match="no file of a registry"):
        load_registry(folder)


def test_a_file_that_is_too_large_is_refused(folder: Path) -> None:
    (folder / "prices.yaml").write_text("#" * (1024 * 1024 + 1))
    with pytest.raises(TheoryError, match="larger than"):
        load_registry(folder)


def test_a_schema_that_is_no_schema_is_refused(folder: Path) -> None:
    edit(folder, "schemas/pins.json", '"type": "object"', '"type": "thing"')
    with pytest.raises(TheoryError, match=r"schemas/pins\.json.*not a JSON Schema"):
        load_registry(folder)


def test_no_folder_is_a_refusal(tmp_path: Path) -> None:
    with pytest.raises(TheoryError) as caught:
        load_registry(tmp_path / "none")
    assert caught.value.code == "ERR_NOT_FOUND"
