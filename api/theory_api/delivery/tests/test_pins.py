"""Pins are written by one writer: whole files, the same bytes, into a registry that fits."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path

import pytest
import yaml

import theory_api
from theory_api.delivery.pins import HEADER, pin, text
from theory_api.delivery.snapshot import load_registry
from theory_core import TheoryError

SHIPPED = Path(theory_api.__file__).parents[2] / "registry"
REF = "media/shotlist@1"
ONE, OTHER = "sha256:" + "a1" * 32, "sha256:" + "b2" * 32


@pytest.fixture
def registry(tmp_path: Path) -> Path:
    return Path(shutil.copytree(SHIPPED, tmp_path / "registry"))


def pinned(registry: Path, lane: str = "dev") -> object:
    return yaml.safe_load((registry / "pins" / f"{lane}.yaml").read_text("utf-8"))["pins"]


def test_what_ships_is_what_the_writer_writes() -> None:
    for file in (SHIPPED / "pins").glob("*.yaml"):
        data = yaml.safe_load(file.read_text("utf-8"))
        assert file.read_text("utf-8") == text(data["pins"])


def test_a_pin_is_what_its_lane_runs_and_nothing_else_changes(registry: Path) -> None:
    before = load_registry(registry)
    done = pin(registry, REF, lane="dev", platform="amd64", digest=ONE)
    assert (done.changed, done.before) == (True, "")
    after = load_registry(registry)
    assert after.id == done.snapshot != before.id
    assert after.pin(REF, lane="dev", platform="amd64") == ONE
    with pytest.raises(TheoryError, match="image not pinned"):
        after.pin(REF, lane="main", platform="amd64")
    pin(registry, "http/check@1", lane="dev", platform="arm64", digest=OTHER)
    pin(registry, REF, lane="dev", platform="arm64", digest=OTHER)
    assert pinned(registry) == {
        "http/check@1": {"arm64": OTHER},
        REF: {"amd64": ONE, "arm64": OTHER},
    }
    assert sorted(path.name for path in (registry / "pins").iterdir()) == [
        "dev.yaml",
        "main.yaml",
        "staging.yaml",
    ]


def test_the_same_pins_are_the_same_bytes(registry: Path) -> None:
    file = registry / "pins" / "dev.yaml"
    pin(registry, REF, lane="dev", platform="amd64", digest=ONE)
    once, facts = file.read_bytes(), file.stat()
    again = pin(registry, REF, lane="dev", platform="amd64", digest=ONE)
    assert (again.changed, again.before) == (False, ONE)
    assert (file.read_bytes(), file.stat().st_mtime_ns) == (once, facts.st_mtime_ns)
    assert once.decode().startswith(HEADER)
    assert text({"b/b@1": {"arm64": ONE, "amd64": OTHER}, "a/a@1": {"amd64": ONE}}) == text(
        {"a/a@1": {"amd64": ONE}, "b/b@1": {"amd64": OTHER, "arm64": ONE}}
    )


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"lane": "build"}, "ERR_INPUTS"),
        ({"lane": "../main"}, "ERR_INPUTS"),
        ({"platform": "riscv64"}, "ERR_INPUTS"),
        ({"digest": "latest"}, "ERR_INPUTS"),
        ({"digest": "b3:" + "a" * 64}, "ERR_INPUTS"),
        ({"digest": ONE + "\n"}, "ERR_INPUTS"),
        ({"ref": "media/nothing@1"}, "ERR_NOT_FOUND"),
    ],
)
def test_what_would_not_fit_is_not_written(
    registry: Path, change: dict[str, str], code: str
) -> None:
    asked = {"ref": REF, "lane": "dev", "platform": "amd64", "digest": ONE, **change}
    with pytest.raises(TheoryError) as refused:
        pin(registry, asked.pop("ref"), **asked)
    assert refused.value.code == code
    assert load_registry(registry).id == load_registry(SHIPPED).id


def test_nothing_is_written_into_a_registry_that_does_not_fit(registry: Path) -> None:
    (registry / "prices.yaml").write_text("schema: theory.prices.v1\nprices: 3\n", "utf-8")
    with pytest.raises(TheoryError, match=r"prices\.yaml") as refused:
        pin(registry, REF, lane="dev", platform="amd64", digest=ONE)
    assert refused.value.code == "ERR_INPUTS"
    assert pinned(registry) == {}


def test_a_registry_that_nobody_may_write_to_says_how_to_have_another(tmp_path: Path) -> None:
    with pytest.raises(TheoryError, match="pins cannot be written") as refused:
        pin(tmp_path / "nowhere", REF, lane="dev", platform="amd64", digest=ONE)
    assert refused.value.code == "ERR_STORAGE"
    assert "THEORY_REGISTRY" in str(refused.value.detail["remedy"])


def test_two_writers_lose_nothing_of_each_other(registry: Path) -> None:
    refs = sorted(load_registry(registry).processors)[:6]

    def write(ref: str) -> None:
        pin(registry, ref, lane="dev", platform="amd64", digest=ONE)

    writers = [threading.Thread(target=write, args=(ref,)) for ref in refs]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert pinned(registry) == {ref: {"amd64": ONE} for ref in refs}
