"""Texts of one subject lie near each other, and the numbers are the same on every host."""

# ruff: noqa: ANN401 - providers are loaded by path

from __future__ import annotations

import json
import math
import os
import random
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from theory_core import TheoryError, canonicalize

REF = "text/embed@1"
TEXTS = {
    "tide-1": "The tide turns the mill wheel twice a day, and the pond fills with the tide.",
    "tide-2": "A mill at the pond: the wheel turns when the tide goes out.",
    "bread-1": "Flour, water, salt and yeast make bread; knead the dough and let it rest.",
    "bread-2": "Let the bread rest before you cut it; the dough wants salt and time.",
}


def corpus(texts: dict[str, str] = TEXTS) -> list[dict[str, str]]:
    return [{"id": name, "text": text} for name, text in texts.items()]


@pytest.fixture
def vectors(run: Any) -> Any:
    def ask(given: Any, **params: Any) -> dict[str, list[int]]:
        document = json.loads(run(REF, {"corpus": given, **params}).outputs["outputs/vectors.json"])
        assert (document["schema"], document["scale"]) == ("theory.vectors.v1", 1_000_000)
        assert {len(entry["values"]) for entry in document["vectors"]} == {document["dimensions"]}
        return {entry["id"]: entry["values"] for entry in document["vectors"]}

    return ask


def near(one: list[int], other: list[int]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True)) / 1e12


def test_texts_of_one_subject_lie_near_each_other(vectors: Any) -> None:
    found = vectors(corpus(), dimensions=2)
    assert list(found) == list(TEXTS)
    assert near(found["tide-1"], found["tide-2"]) > 0.9
    assert near(found["bread-1"], found["bread-2"]) > 0.9
    assert abs(near(found["tide-1"], found["bread-1"])) < 0.5


def test_every_vector_has_length_one(vectors: Any) -> None:
    for values in vectors(corpus()).values():
        assert math.isclose(math.hypot(*values), 1e6, rel_tol=1e-5)


def test_with_all_dimensions_nothing_is_lost(vectors: Any, providers: Any) -> None:
    found = list(vectors(corpus()).values())
    rows = providers(REF).weigh(list(TEXTS.values()))
    for one in range(4):
        for other in range(4):
            exact = sum(rows[one][term] * rows[other].get(term, 0.0) for term in rows[one])
            assert near(found[one], found[other]) == pytest.approx(exact, abs=1e-4)


def test_the_eigenvectors_are_those_of_the_library(providers: Any) -> None:
    made = np.random.default_rng(7).normal(size=(24, 40))
    gram = made @ made.T
    values, rows = providers(REF).eigen(gram)
    assert sorted(values) == pytest.approx(np.linalg.eigvalsh(gram), rel=1e-9)
    for value, row in zip(values, rows, strict=True):
        assert gram @ row == pytest.approx(value * row, abs=1e-7)


def test_the_largest_component_of_a_dimension_is_positive(vectors: Any) -> None:
    rows = np.array(list(vectors(corpus()).values()))
    for column in rows.T:
        assert column[np.argmax(np.abs(column))] > 0


def test_the_numbers_do_not_depend_on_what_the_processor_can_do(providers: Any) -> None:
    words = [f"w{number}" for number in range(60)]
    chance = random.Random(11)  # noqa: S311 - a corpus
    texts = [" ".join(chance.choices(words, k=30)) for _ in range(40)]
    code = "import json, runpy, sys\n"
    code += "embed = runpy.run_path(sys.argv[1])['embed']\n"
    code += "print(json.dumps(embed(json.load(sys.stdin), 16)))"
    said = set()
    for disabled, threads, seed in (("", "1", "0"), (features(), "4", "1")):
        env = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
            "NPY_DISABLE_CPU_FEATURES": disabled,
            "OMP_NUM_THREADS": threads,
            "OPENBLAS_NUM_THREADS": threads,
            "PYTHONHASHSEED": seed,
        }
        command = [sys.executable, "-c", code, providers(REF).__file__]
        done = subprocess.run(
            command, input=json.dumps(texts), check=True, capture_output=True, text=True, env=env
        )
        said.add(done.stdout)
    assert len(said) == 1
    assert json.loads(said.pop()) == providers(REF).embed(texts, 16)


def features() -> str:
    """What numpy may be told to do without on this machine."""
    from numpy._core._multiarray_umath import (  # type: ignore[import-not-found]  # noqa: PLC0415 - no public door
        __cpu_dispatch__,
        __cpu_features__,
    )

    return " ".join(name for name in __cpu_dispatch__ if __cpu_features__.get(name))


def test_the_order_of_texts_is_kept_and_the_same_text_has_the_same_vector(vectors: Any) -> None:
    found = vectors(corpus({**TEXTS, "again": TEXTS["tide-1"]}))
    assert found["again"] == found["tide-1"]


def test_texts_without_words_have_the_zero_vector(vectors: Any) -> None:
    found = vectors(corpus({"a": "mill", "b": "", "c": "… --- !"}))
    assert found == {"a": [1_000_000], "b": [0], "c": [0]}
    assert vectors(corpus({"b": ""})) == {"b": [0]}


def test_other_scripts_have_terms(providers: Any) -> None:
    terms = providers(REF).terms
    assert terms("Straße STRASSE") == ["strasse", "strasse"]
    assert terms("Ελιά, мельница_42") == ["ελιά", "мельница", "42"]
    assert terms("水车") == ["水", "车"]


def test_an_artifact_is_read_as_the_list_is(vectors: Any, artifact: Any) -> None:
    body = canonicalize({"schema": "theory.corpus.v1", "documents": corpus()})
    assert vectors(artifact("/artifacts/c.json", body)) == vectors(corpus())


def test_the_largest_corpus_ends_in_time(vectors: Any) -> None:
    chance = random.Random(3)  # noqa: S311 - a corpus
    words = [f"w{number}" for number in range(2000)]
    texts = {f"t{n}": " ".join(chance.choices(words, k=50)) for n in range(256)}
    assert len(vectors(corpus(texts))) == 256


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (None, "corpus_missing"),
        ("text", "corpus_invalid"),
        ([], "corpus_invalid"),
        ([{"id": "", "text": "x"}], "corpus_invalid"),
        ([{"id": "a", "text": 7}], "corpus_invalid"),
        ([{"id": "a", "text": "x"}, {"id": "a", "text": "y"}], "corpus_ids"),
        ([{"id": str(n), "text": "x"} for n in range(257)], "corpus_invalid"),
    ],
)
def test_what_is_no_corpus_is_refused(run: Any, given: Any, reason: str) -> None:
    with pytest.raises(TheoryError, match="invalid inputs payload") as caught:
        run(REF, {"corpus": given})
    assert (caught.value.code, caught.value.detail["reason"]) == ("ERR_INPUTS", reason)


@pytest.mark.parametrize(
    ("body", "reason"),
    [(b"{", "ERR_JSON_SYNTAX"), (b"{}", "corpus_invalid"), (b" " * 8_388_609, "corpus_too_large")],
)
def test_an_artifact_that_is_none_is_refused(
    run: Any, artifact: Any, body: bytes, reason: str
) -> None:
    with pytest.raises(TheoryError) as caught:
        run(REF, {"corpus": artifact("/artifacts/c", body)})
    assert caught.value.detail == {"reason": reason}
