"""Shots last as long as their sentence is read, in whole frames, within the film's bound."""

# ruff: noqa: ANN401 - providers are loaded by path

from __future__ import annotations

import json
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from theory_core import TheoryError, canonicalize, digest

REF = "media/shotlist@1"


def script(*lines: str, title: str = "T") -> dict[str, Any]:
    source = digest("".join(lines).encode())
    return {"schema": "theory.script.v1", "title": title, "source": source, "lines": list(lines)}


@pytest.fixture(scope="module")
def maker(providers: Callable[[str], ModuleType]) -> ModuleType:
    return providers(REF)


def test_each_line_becomes_a_shot_in_its_order(run: Any, artifact: Any) -> None:
    body = canonicalize(script("First one.", "And a second, longer one, to be read at leisure."))
    ran = run(REF, {"script": artifact("/artifacts/s", body)})
    shotlist = json.loads(ran.outputs["outputs/shotlist.json"])
    assert ran.outputs["outputs/shotlist.json"] == canonicalize(shotlist)
    assert (shotlist["fps"], shotlist["width"], shotlist["height"]) == (25, 1280, 720)
    first, second = shotlist["shots"]
    assert (first["id"], first["index"], first["sentence"]) == ("shot-000", 0, "First one.")
    assert second["duration_ms"] > first["duration_ms"] >= 1600
    assert shotlist["total_ms"] == first["duration_ms"] + second["duration_ms"]


def test_the_same_script_gives_the_same_bytes_and_another_text_other_colours(
    run: Any, artifact: Any
) -> None:
    def once(*lines: str) -> bytes:
        params = {"script": artifact("/artifacts/s", canonicalize(script(*lines)))}
        body: bytes = run(REF, params).outputs["outputs/shotlist.json"]
        return body

    assert once("Same.", "Other.") == once("Same.", "Other.")
    one, two = json.loads(once("Same.", "A.")), json.loads(once("Same.", "B."))
    assert one["shots"][0]["palette"] != two["shots"][0]["palette"]


_LINES = st.lists(
    st.text("ab 水", min_size=1, max_size=400).filter(str.strip), min_size=1, max_size=60
)


@settings(deadline=None)
@given(_LINES, st.sampled_from([10, 20, 25, 50]), st.integers(1000, 120_000))
def test_durations_are_whole_frames_and_their_sum_is_bounded(
    maker: ModuleType, lines: list[str], fps: int, max_total_ms: int
) -> None:
    shotlist = maker.arrange(
        script(*lines), fps=fps, width=1280, height=720, max_total_ms=max_total_ms
    )
    durations = [shot["duration_ms"] for shot in shotlist["shots"]]
    assert all(type(ms) is int and ms % (1000 // fps) == 0 for ms in durations)
    assert all(400 <= ms <= 6400 for ms in durations)
    assert shotlist["total_ms"] == sum(durations)
    assert sum(durations) <= max(max_total_ms, 400 * len(lines))


@settings(deadline=None)
@given(st.text(max_size=80), st.integers(0, 59))
def test_text_stands_out_against_the_background(maker: ModuleType, source: str, index: int) -> None:
    colours = maker.palette(source, index)
    for ground in (colours["from"], colours["to"]):
        assert contrast(colours["ink"], ground) >= 4.5
        assert contrast(colours["accent"], ground) >= 3


def contrast(one: str, other: str) -> float:
    """The ratio that the accessibility guidelines define, 1 to 21."""

    def luminance(colour: str) -> float:
        parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        red, green, blue = (
            part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
        )
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    bright, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (bright + 0.05) / (dark + 0.05)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"{", "ERR_JSON_SYNTAX"),
        (b'{"a":1,"a":2}', "ERR_JSON_DUPLICATE"),
        (b"[]", "script_invalid"),
        (b'{"schema":"other"}', "script_invalid"),
        (canonicalize(script()), "script_invalid"),
        (canonicalize(script(*["x"] * 61)), "script_invalid"),
        (canonicalize(script(" ")), "script_invalid"),
        (canonicalize(script("x" * 401)), "script_invalid"),
        (canonicalize({**script("x"), "title": None}), "script_invalid"),
        (b" " * (1024 * 1024 + 1), "script_too_large"),
    ],
)
def test_what_is_no_script_is_refused(run: Any, artifact: Any, body: bytes, reason: str) -> None:
    with pytest.raises(TheoryError, match="invalid inputs payload") as caught:
        run(REF, {"script": artifact("/artifacts/s", body)})
    assert (caught.value.code, caught.value.detail["reason"]) == ("ERR_INPUTS", reason)


def test_a_missing_script_is_refused(run: Any) -> None:
    with pytest.raises(TheoryError) as caught:
        run(REF, {})
    assert caught.value.detail["reason"] == "script_missing"
