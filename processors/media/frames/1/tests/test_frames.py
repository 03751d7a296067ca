"""Every picture shows its sentence: whole, inside the margins, in real letters."""

# ruff: noqa: ANN401 - providers are loaded by path

from __future__ import annotations

import io
import json
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
from PIL import Image, ImageChops

from theory_core import TheoryError, canonicalize, digest

REF = "media/frames@1"
PALETTE = {"from": "#184e32", "to": "#0d2631", "accent": "#f264c5", "ink": "#f1f9f5"}
LATIN = "Sphinx of black quartz, judge my vow: naïve façade, łódź, ĳsvogel!"
GREEK = "Ξεσκεπάζω τὴν ψυχοφθόρα βδελυγμία· ΑΒΓΔ άέήίόύώ"
CYRILLIC = "Съешь ещё этих мягких булок, да выпей чаю; Ґрунт, їжак, ђак"


def shotlist(*sentences: str, size: tuple[int, int] = (1280, 720)) -> dict[str, Any]:
    return {
        "schema": "theory.shotlist.v1",
        "title": "A title",
        "source": "b3:" + "0" * 64,
        "fps": 25,
        "width": size[0],
        "height": size[1],
        "shots": [
            {
                "id": f"shot-{index:03d}",
                "index": index,
                "sentence": sentence,
                "duration_ms": 2000,
                "palette": PALETTE,
            }
            for index, sentence in enumerate(sentences)
        ],
    }


@pytest.fixture(scope="module")
def painter(providers: Callable[[str], ModuleType]) -> ModuleType:
    return providers(REF)


@pytest.fixture(scope="module")
def faces(painter: ModuleType) -> Any:
    return painter.Faces()


def test_one_picture_for_each_shot_and_a_manifest(run: Any, artifact: Any) -> None:
    document = shotlist("One.", "Two.", "Three.")
    ran = run(REF, {"shotlist": artifact("/artifacts/s", canonicalize(document))})
    names = [f"outputs/frames/shot-{number:03d}.png" for number in range(3)]
    assert list(ran.outputs) == [*names, "outputs/frames.json"]
    manifest = json.loads(ran.outputs["outputs/frames.json"])
    for name, entry in zip(names, manifest["frames"], strict=True):
        body = ran.outputs[name]
        assert (entry["path"], entry["cid"], entry["size_bytes"]) == (name, digest(body), len(body))
        assert entry["missing_glyphs"] == []
        picture = Image.open(io.BytesIO(body))
        assert (picture.size, picture.mode, picture.info) == ((1280, 720), "RGB", {})
    assert ran.frames[-1] == ("Event", {"phase": "draw", "progress": 1000})


def test_the_same_shots_give_the_same_bytes_and_other_sentences_other_ones(
    run: Any, artifact: Any
) -> None:
    def once(sentence: str) -> bytes:
        body = canonicalize(shotlist(sentence))
        outputs = run(REF, {"shotlist": artifact("/artifacts/s", body)}).outputs
        picture: bytes = outputs["outputs/frames/shot-000.png"]
        return picture

    assert once("Same.") == once("Same.")
    assert once("Same.") != once("Some.")


@pytest.mark.parametrize("text", [LATIN, GREEK, CYRILLIC])
def test_letters_of_three_scripts_are_drawn_not_boxed(faces: Any, text: str) -> None:
    face = faces.at("bold", 40)
    box = bytes(face.getmask("\uffff"))
    assert any(box)
    for char in sorted(set(text) - {" "}):
        mask = bytes(face.getmask(char))
        assert any(mask), f"U+{ord(char):04X} leaves no trace"
        assert mask != box, f"U+{ord(char):04X} is a box"
        assert not faces.lacks(char)


def test_different_letters_look_different(faces: Any) -> None:
    letters = "αβγδλμξπσφψωбгджзлфцшщюя"
    face = faces.at("bold", 40)
    assert len({bytes(face.getmask(char)) for char in letters}) == len(letters)


def test_letters_that_the_font_lacks_are_reported(run: Any, artifact: Any) -> None:
    document = shotlist("Rain: 雨.")
    ran = run(REF, {"shotlist": artifact("/artifacts/s", canonicalize(document))})
    manifest = json.loads(ran.outputs["outputs/frames.json"])
    assert manifest["frames"][0]["missing_glyphs"] == ["U+96E8"]


SENTENCES = [
    "No.",
    LATIN,
    GREEK + " " + CYRILLIC,
    "word " * 79 + "end",
    "x" * 400,
    "水" * 200,
    "A verylongwordthatnobodycouldeverreadaloud" * 3,
]


@pytest.mark.parametrize("size", [(1280, 720), (320, 180), (720, 1280), (1920, 1080)])
@pytest.mark.parametrize("sentence", SENTENCES)
def test_every_line_stays_inside_the_margins(
    painter: ModuleType, faces: Any, sentence: str, size: tuple[int, int]
) -> None:
    layout = painter.Layout(*size)
    box = layout.sentence
    setting = painter.fit(sentence, box, faces)
    face = faces.at("bold", setting.size_px)
    assert setting.line_px * len(setting.lines) <= box.bottom - box.top
    for line in setting.lines:
        assert face.getlength(line) <= box.right - box.left
    assert "".join(setting.lines).replace(" ", "") == sentence.replace(" ", "")
    blank = shotlist("\u00a0", size=size)
    full = shotlist(sentence, size=size)
    with_text = painter.draw(full, full["shots"][0], layout, faces)
    without = painter.draw(blank, blank["shots"][0], layout, faces)
    drawn = ImageChops.difference(with_text, without).getbbox()
    assert drawn is not None
    left, top, right, bottom = drawn
    slack = setting.size_px // 6
    assert left >= box.left - 2 * layout.unit  # the bar beside the sentence
    assert top >= box.top - slack
    assert right <= box.right + slack
    assert bottom <= box.bottom + slack


def test_a_short_sentence_is_set_larger_than_a_long_one(painter: ModuleType, faces: Any) -> None:
    box = painter.Layout(1280, 720).sentence
    short, long = painter.fit("Short.", box, faces), painter.fit("long " * 60, box, faces)
    assert short.size_px >= 2 * long.size_px >= 40


def test_no_line_is_left_almost_empty(painter: ModuleType, faces: Any) -> None:
    box = painter.Layout(1280, 720).sentence
    setting = painter.fit("When she makes a mistake, she strikes it and signs.", box, faces)
    lengths = [faces.at("bold", setting.size_px).getlength(line) for line in setting.lines]
    assert len(lengths) > 1
    assert min(lengths) > max(lengths) / 2


def test_words_are_broken_only_where_they_must_be(painter: ModuleType, faces: Any) -> None:
    face = faces.at("bold", 40)
    assert list(painter.wrap("aaa bbb ccc", 130, face)) == ["aaa", "bbb", "ccc"]
    broken = list(painter.wrap("e\u0301" * 40, 200, face))
    assert "".join(broken) == "e\u0301" * 40
    assert all(line.startswith("e") for line in broken)


def test_a_sentence_beyond_all_measure_is_refused(run: Any, artifact: Any) -> None:
    body = canonicalize(shotlist("m" * 400, size=(160, 160)))
    with pytest.raises(TheoryError) as caught:
        run(REF, {"shotlist": artifact("/artifacts/s", body)})
    assert (caught.value.code, caught.value.detail["reason"]) == ("ERR_INPUTS", "sentence_too_long")


def test_a_title_that_is_too_long_is_elided(painter: ModuleType, faces: Any) -> None:
    face = faces.at("regular", 25)
    elided = painter.elide("title " * 50, 300, face)
    assert elided.endswith("…")
    assert face.getlength(elided) <= 300


BROKEN = [
    (b"{", "ERR_JSON_SYNTAX"),
    (b"[]", "shotlist_invalid"),
    (canonicalize({**shotlist("a"), "schema": "x"}), "shotlist_invalid"),
    (canonicalize({**shotlist("a"), "width": 10}), "shotlist_invalid"),
    (canonicalize({**shotlist("a"), "height": 1.5}), "shotlist_invalid"),
    (canonicalize({**shotlist("a"), "shots": []}), "shotlist_invalid"),
    (canonicalize(shotlist(*["a"] * 61)), "shotlist_invalid"),
    (canonicalize(shotlist(" ")), "shotlist_invalid"),
    (canonicalize(shotlist("a" * 401)), "shotlist_invalid"),
    (canonicalize({**shotlist("a"), "shots": [{"id": "../../x"}]}), "shotlist_invalid"),
    (canonicalize(shotlist("a")).replace(b"#184e32", b"#184e3G"), "shotlist_invalid"),
    (b" " * (1024 * 1024 + 1), "shotlist_too_large"),
]


@pytest.mark.parametrize(("body", "reason"), BROKEN)
def test_what_is_no_shot_list_is_refused(run: Any, artifact: Any, body: bytes, reason: str) -> None:
    with pytest.raises(TheoryError, match="invalid inputs payload") as caught:
        run(REF, {"shotlist": artifact("/artifacts/s", body)})
    assert (caught.value.code, caught.value.detail["reason"]) == ("ERR_INPUTS", reason)


def test_a_missing_shot_list_is_refused(run: Any) -> None:
    with pytest.raises(TheoryError) as caught:
        run(REF, {"shotlist": "x"})
    assert caught.value.detail["reason"] == "shotlist_missing"
