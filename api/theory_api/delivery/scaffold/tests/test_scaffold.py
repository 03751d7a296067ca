"""A scaffold is written whole or not at all, and is declared as it is."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from theory_api.delivery.conformance.sample import read_sample
from theory_api.delivery.scaffold.processor import Places, scaffold
from theory_api.delivery.snapshot import load_registry
from theory_api.settings import assets
from theory_core import TheoryError, canonicalize

KNOWN = Places(assets("processors"), assets("registry"))


@pytest.fixture
def places(tmp_path: Path) -> Places:
    return Places(tmp_path / "processors", tmp_path / "registry")


def test_its_spec_is_one_of_a_registry_that_fits(places: Places) -> None:
    written = scaffold("demo/word-count@3", places, known=KNOWN)
    spec = load_registry(places.registry).processor("demo/word-count@3")
    assert spec.slug == "demo-word-count-v3"
    assert len(written.yours) == 3
    assert all(file.is_file() for file in (*written.yours, *written.others))
    texts = [file.read_text(encoding="utf-8") for file in (*written.yours, *written.others)]
    assert not any("{{" in text for text in texts)


def test_its_sample_fits_its_own_declaration(places: Places) -> None:
    scaffold("demo/count@1", places, known=KNOWN)
    spec = load_registry(places.registry).processor("demo/count@1")
    file = places.processors / "demo" / "count" / "1" / "conformance.yaml"
    sample = read_sample(file, spec=spec, platform="amd64")
    for params in (sample.params, sample.flood):
        spec.check_inputs(canonicalize({"schema": "v1", "params": params}))


def test_its_sources_are_clean(places: Places) -> None:
    written = scaffold("demo/count@1", places, known=KNOWN)
    sources = [str(file) for file in (*written.yours, *written.others) if file.suffix == ".py"]
    ignored = "CPY001,D100,D103,D401,DOC201,EM101,INP001,S101,S603,TC003,TRY003"
    for words in (["check", "--select", "ALL", "--ignore", f"COM812,D203,D213,{ignored}"], _FORMAT):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *words, "--isolated", "--line-length", "100", *sources],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout


_FORMAT = ["format", "--check"]


def test_a_second_one_of_that_name_is_refused_and_nothing_is_touched(places: Places) -> None:
    written = scaffold("demo/count@1", places, known=KNOWN)
    written.yours[0].write_text("mine", encoding="utf-8")
    shutil.rmtree(written.others[1].parent)
    with pytest.raises(TheoryError) as caught:
        scaffold("demo/count@1", places, known=KNOWN)
    assert caught.value.code == "ERR_CONFLICT"
    assert written.yours[0].read_text(encoding="utf-8") == "mine"
    assert not written.others[1].exists()


@pytest.mark.parametrize("ref", ["count", "demo/count", "Demo/count@1", "demo/count@0", "a/../b@1"])
def test_a_name_outside_the_grammar_is_refused(places: Places, ref: str) -> None:
    with pytest.raises(TheoryError) as caught:
        scaffold(ref, places, known=KNOWN)
    assert caught.value.code == "ERR_INPUTS"
    assert not places.processors.exists()
    assert not places.registry.exists()


def test_a_broken_registry_is_said_before_anything_is_written(places: Places) -> None:
    shutil.copytree(KNOWN.registry, places.registry)
    (places.registry / "prices.yaml").write_text("prices: 5\n", encoding="utf-8")
    with pytest.raises(TheoryError, match="prices"):
        scaffold("demo/count@1", places, known=KNOWN)
    assert not places.processors.exists()
