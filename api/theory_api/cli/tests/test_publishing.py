"""Images are taken to a registry and pinned by what it has of them; the tool writes the pins."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from theory_api.cli.tests.desk import Desk
from theory_api.delivery.pins import HEADER
from theory_api.tests import oci
from theory_api.tests.engine import LEAN, ROOT, connected
from theory_api.tests.transports import ARCH
from theory_core import digest

HOSTILE = Path(__file__).parents[2] / "tests" / "hostile"
REF = "test/hostile@1"
FINE = ("--inputs-json", json.dumps({"how": "fine"}), "--adapter", "local", "--json")
DIGEST = "sha256:" + "d4" * 32


@pytest.fixture
def registry(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A registry of the test's own, with a processor that is built within seconds."""
    folder = desk.folder / "registry"
    shutil.copytree(ROOT / "registry", folder)
    spec = folder / "processors" / "test" / "hostile"
    spec.mkdir(parents=True)
    shutil.copy(HOSTILE / "spec.yaml", spec / "1.yaml")
    source = desk.folder / "processors" / "test" / "hostile" / "1"
    source.mkdir(parents=True)
    for name in ("main.py", "provider.py"):
        shutil.copy(HOSTILE / name, source)
    shutil.copy(LEAN, source / "requirements.txt")
    monkeypatch.setenv("THEORY_REGISTRY", str(folder))
    monkeypatch.setenv("THEORY_PROCESSORS", str(desk.folder / "processors"))
    return folder


def test_a_registry_is_checked_and_named_by_its_snapshot(desk: Desk, registry: Path) -> None:
    checked = desk.theory("registry", "check", "--json")
    assert checked.code == 0
    assert REF in checked.json["processors"]
    assert checked.json["snapshot"].startswith("b3:")
    assert desk.theory("registry", "check").out.startswith(checked.json["snapshot"])
    (registry / "notes.txt").touch()
    refused = desk.theory("registry", "check", "--json")
    assert (refused.code, refused.json["code"]) == (1, "ERR_INPUTS")


def test_a_pin_is_written_and_says_what_it_took_the_place_of(desk: Desk, registry: Path) -> None:
    words = ("registry", "pin", REF, "--lane", "staging", "--digest")
    done = desk.theory(*words, DIGEST, "--json").json
    assert (done["before"], done["digest"], done["platform"]) == ("", DIGEST, ARCH)
    assert done["snapshot"] == desk.theory("registry", "check", "--json").json["snapshot"]
    assert "was pinned already" in desk.theory(*words, DIGEST).out
    other = DIGEST.replace("d4", "e5")
    assert f"before: {DIGEST}" in desk.theory(*words, other).out
    assert (registry / "pins" / "staging.yaml").read_text("utf-8") == (
        f"{HEADER}pins:\n  {REF}:\n    {ARCH}: {other}\n"
    )
    assert desk.theory("registry", "pin", REF, "--lane", "build", "--digest", DIGEST).code == 2
    wrong = desk.theory(*words, "latest", "--json")
    assert (wrong.code, wrong.json["code"]) == (1, "ERR_INPUTS")


def test_a_snapshot_is_kept_as_a_file_and_compared(desk: Desk, registry: Path) -> None:
    kept = desk.folder / "before.json"
    assert desk.theory("registry", "snapshot", "--out", str(kept)).code == 0
    assert desk.theory("registry", "snapshot").out.encode() == kept.read_bytes()
    ident = desk.theory("registry", "check", "--json").json["snapshot"]
    assert digest(kept.read_bytes().removesuffix(b"\n")) == ident
    same = desk.theory("registry", "diff", str(kept), "--json")
    assert (same.code, same.json) == (0, [])
    assert desk.theory("registry", "pin", REF, "--lane", "dev", "--digest", DIGEST).code == 0
    prices = registry / "prices.yaml"
    prices.write_text(prices.read_text("utf-8").replace("2500000", "2500001"), "utf-8")
    differs = desk.theory("registry", "diff", str(kept), "--json")
    assert (differs.code, differs.json) == (
        1,
        [
            {"kind": "pins", "name": f"dev/{REF}", "what": "added"},
            {"kind": "prices", "name": "openai/gpt-4o", "what": "changed"},
        ],
    )
    assert "removed  pins" in desk.theory("registry", "diff", str(registry), str(kept)).out
    nowhere = desk.theory("registry", "diff", str(desk.folder / "nowhere"), "--json")
    assert (nowhere.code, nowhere.json["code"]) == (1, "ERR_NOT_FOUND")
    kept.write_bytes(b"{}")
    broken = desk.theory("registry", "diff", str(kept), "--json")
    assert (broken.code, broken.json["code"]) == (1, "ERR_INPUTS")


def test_without_a_registry_of_images_nothing_is_pushed(desk: Desk, registry: Path) -> None:
    assert registry.is_dir()
    for words in (("push", REF), ("publish", REF, "--lane", "dev")):
        refused = desk.theory("image", *words, "--json")
        assert (refused.code, refused.json["code"]) == (1, "ERR_INPUTS")
        assert "THEORY_IMAGE_REGISTRY" in refused.json["message"]


# -- with an engine and a registry of images ---------------------------------------------------


@pytest.fixture
def engine() -> Iterator[Any]:
    found = connected()
    yield found
    found.close()


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    folder = tmp_path / "images"
    folder.mkdir()
    with oci.registry(folder) as place:
        monkeypatch.setenv("THEORY_IMAGE_REGISTRY", place)
        yield place


def forgotten(engine: Any, place: str) -> None:  # noqa: ANN401
    """Have the engine forget all images of a place."""
    import docker  # noqa: PLC0415 - only these tests need it

    for image in engine.images.list():
        for name in [*image.tags, *image.attrs["RepoDigests"]]:
            if name.startswith(place):
                with contextlib.suppress(docker.errors.ImageNotFound):
                    engine.images.remove(name)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_what_is_published_is_pinned_pulled_and_run(
    desk: Desk,
    engine: Any,  # noqa: ANN401
    registry: Path,
    host: str,
) -> None:
    done = desk.theory("image", "publish", REF, "--lane", "dev", "--json")
    assert done.code == 0, done.err
    told = done.json
    place = f"{host}/theory/test-hostile-v1"
    assert told["reference"] == f"{place}@{told['digest']}"
    assert (told["lane"], told["platform"], told["before"]) == ("dev", ARCH, "")
    assert told["digest"] in (registry / "pins" / "dev.yaml").read_text("utf-8")
    assert engine.images.get(told["reference"]).id == told["image_id"]

    forgotten(engine, place)
    run = desk.theory("run", "--ref", REF, "--lane", "dev", *FINE)
    assert run.code == 0, run.out + run.err
    assert run.json["meta"]["image_digest"] == told["digest"]
    refused = desk.theory("run", "--ref", REF, "--lane", "main", *FINE)
    assert refused.json["error"]["code"] == "ERR_IMAGE_UNPINNED"

    again = desk.theory("image", "publish", REF, "--lane", "dev", "--json")
    assert again.json["before"] == again.json["digest"] == told["digest"]
    assert again.json["snapshot"] == told["snapshot"]
    pushed = desk.theory("image", "push", REF, "--json")
    assert (pushed.json["digest"], pushed.json["ref"]) == (told["digest"], REF)
    assert desk.theory("image", "push", REF).out.strip() == told["reference"]
    forgotten(engine, place)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_what_does_not_arrive_is_not_pinned(
    desk: Desk,
    engine: Any,  # noqa: ANN401
    registry: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = (registry / "pins" / "main.yaml").read_bytes()
    monkeypatch.setenv("THEORY_IMAGE_REGISTRY", "127.0.0.1:9")
    done = desk.theory("image", "publish", REF, "--lane", "main", "--json")
    assert (done.code, done.json["code"]) == (1, "ERR_UPLOAD")
    assert (registry / "pins" / "main.yaml").read_bytes() == before
    place = desk.folder / "closed"
    place.mkdir()
    with oci.registry(place, closed=True) as host:
        monkeypatch.setenv("THEORY_IMAGE_REGISTRY", host)
        denied = desk.theory("image", "push", REF, "--json")
        forgotten(engine, host)
    assert (denied.code, denied.json["code"]) == (1, "ERR_UPLOAD")
    assert "no such credentials" in denied.json["message"]
    other = {"amd64": "arm64", "arm64": "amd64"}[ARCH]
    wrong = desk.theory("image", "push", REF, "--platform", other, "--json")
    assert (wrong.code, wrong.json["code"]) == (1, "ERR_IMAGE_NOT_FOUND")
    engine.images.get("theory/test-hostile-v1:build").tag(
        "theory/test-hostile-v1", f"build-{other}"
    )
    wrong = desk.theory("image", "push", REF, "--platform", other, "--json")
    assert (wrong.code, wrong.json["code"]) == (1, "ERR_REGISTRY_MISMATCH")
    engine.images.remove(f"theory/test-hostile-v1:build-{other}")
    forgotten(engine, "127.0.0.1:9")


@pytest.mark.slow
def test_what_nobody_built_is_not_pushed(
    desk: Desk,
    engine: Any,  # noqa: ANN401
    registry: Path,
    host: str,
) -> None:
    forgotten(engine, "theory/test-hostile-v1")
    assert registry.is_dir()
    missing = desk.theory("image", "push", REF, "--json")
    assert (missing.code, missing.json["code"]) == (1, "ERR_IMAGE_NOT_FOUND")
    assert "theory image build" in missing.json["message"]
    assert host
