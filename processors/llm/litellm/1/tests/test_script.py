"""A script is about its text, the same each time, and bounded."""

# ruff: noqa: ANN401, RUF001 - providers are loaded by path; texts in many scripts

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from theory_core import TheoryError, canonicalize

REF = "llm/litellm@1"
ROOT = Path(__file__).resolve().parents[5]


@pytest.fixture(scope="module")
def writer(providers: Callable[[str], ModuleType]) -> ModuleType:
    return providers(REF)


def test_a_text_becomes_a_title_and_its_sentences(run: Any, artifact: Any) -> None:
    text = "The Mill\n\nA mill stands by the river. It turns all night! Who feeds it?\n"
    ran = run(REF, {"task": "script", "text": artifact("/artifacts/t", text.encode())})
    script = json.loads(ran.outputs["outputs/script.json"])
    assert script["schema"] == "theory.script.v1"
    assert script["title"] == "The Mill"
    assert script["lines"] == [
        "A mill stands by the river.",
        "It turns all night!",
        "Who feeds it?",
    ]
    assert ran.outputs["outputs/script.json"] == canonicalize(script)
    assert ran.outputs["outputs/script.txt"].decode().startswith("The Mill\n\nA mill stands")
    assert ran.usage == {"tokens": 0, "usd_micro": 0}


def test_a_text_may_be_given_as_it_is(run: Any, artifact: Any) -> None:
    inline = run(REF, {"task": "script", "text": "One. Two."})
    stored = run(REF, {"task": "script", "text": artifact("/artifacts/t", b"One. Two.")})
    assert inline.outputs == stored.outputs


def test_the_same_text_gives_the_same_bytes_and_any_other_different_ones(run: Any) -> None:
    texts = ["One. Two.", "One.  Two.", "One. Two", "Two. One.", "One. Two.\n" + "x. " * 9000]
    first = [run(REF, {"task": "script", "text": text}).outputs for text in texts]
    again = [run(REF, {"task": "script", "text": text}).outputs for text in texts]
    assert first == again
    assert len({outputs["outputs/script.json"] for outputs in first}) == len(texts)


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("Dr. Who met J. R. Smith. He left.", ["Dr. Who met J. R. Smith.", "He left."]),
        ("See no. 5 and p. 7. He said no. Then he went.", None),
        ("Wait... what?! Yes.", ["Wait...", "what?!", "Yes."]),
        ('"Stay," she said. "Never." He went.', ['"Stay," she said.', '"Never."', "He went."]),
        ("Τι κάνεις; Καλά είμαι.", ["Τι κάνεις;", "Καλά είμαι."]),
        ("He left; she stayed.", ["He left; she stayed."]),
        ("Світло видно. Голос ні!", ["Світло видно.", "Голос ні!"]),
        ("今日は晴れ。明日は雨だ！本当？", ["今日は晴れ。", "明日は雨だ！", "本当？"]),
        ("one\ntwo\nthree", ["one", "two", "three"]),
        ("- first item\n- second item", ["first item", "second item"]),
        ("A line\nthat goes on. Another.", ["A line that goes on.", "Another."]),
        ("no punctuation at all", ["no punctuation at all"]),
        ("...", ["..."]),
        ("\ufeffWith a mark. \u200bAnd\x00 more.\r\n", ["With a mark.", "And more."]),
    ],
)
def test_sentences_are_found_in_many_scripts(
    writer: ModuleType, text: str, lines: list[str] | None
) -> None:
    expected = lines or ["See no. 5 and p. 7.", "He said no.", "Then he went."]
    assert list(writer.narrate(text).lines) == expected


def test_a_long_text_is_told_by_its_weightiest_sentences_in_their_order(writer: ModuleType) -> None:
    filler = [f"It is {number}." for number in range(60)]
    lines = ["It begins here.", *filler]
    lines[31] = "The harbour light guides harbour boats home."
    lines[45] = "Every harbour needs a light for its boats."
    script = writer.narrate(" ".join(lines), 200)
    assert script.lines[0] == "It begins here."
    told = list(script.lines)
    assert told.index(lines[31]) < told.index(lines[45])
    assert sum(map(len, told)) <= 200


def test_a_long_sentence_is_cut_at_its_clauses(writer: ModuleType) -> None:
    clause = "the keeper climbs the stairs with the lamp in her left hand and counts them"
    lines = writer.narrate(", ".join([clause] * 5) + ".").lines
    assert lines[0] == f"{clause}, {clause},"
    assert all(len(line) <= writer.MAX_LINE_CHARS for line in lines)


def test_a_heading_is_the_title_and_no_line(writer: ModuleType) -> None:
    script = writer.narrate("# The Plan\nIt begins. It ends.")
    assert (script.title, script.lines) == ("The Plan", ("It begins.", "It ends."))


def read_or_none(writer: ModuleType, text: str) -> str | None:
    """The text as it is read; None where there is rightly nothing to read."""
    try:
        read: str = writer.read_text(text)
    except TheoryError as error:
        if error.detail["reason"] not in {"text_empty", "text_not_utf8"}:
            raise
        return None
    return read


@settings(max_examples=150, deadline=None)
@given(st.text(min_size=1, max_size=3000), st.integers(200, 4000))
def test_any_text_gives_a_bounded_script_or_is_empty(
    writer: ModuleType, text: str, max_chars: int
) -> None:
    read = read_or_none(writer, text)
    if read is None:
        return
    script = writer.narrate(read, max_chars)
    assert 1 <= len(script.lines) <= writer.MAX_LINES
    assert sum(map(len, script.lines)) <= max_chars
    for line in (script.title, *script.lines):
        assert line
        assert line == line.strip()
        assert len(line) <= writer.MAX_LINE_CHARS
        assert not any(unicodedata.category(char) in {"Cc", "Cs", "Cn"} for char in line)
    assert script == writer.narrate(read, max_chars)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (None, "text_missing"),
        (7, "text_missing"),
        ({"path": "/artifacts/x"}, "text_missing"),
        ("", "text_empty"),
        (" \n\t\u200b\x00 ", "text_empty"),
        ("\ud800", "text_not_utf8"),
        ("x" * (4 * 1024 * 1024 + 1), "text_too_large"),
    ],
)
def test_what_is_no_text_is_refused(run: Any, text: object, reason: str) -> None:
    with pytest.raises(TheoryError, match="invalid inputs payload") as caught:
        run(REF, {"task": "script", "text": text})
    assert (caught.value.code, caught.value.detail["reason"]) == ("ERR_INPUTS", reason)


def test_bytes_that_are_no_utf8_are_refused(run: Any, artifact: Any) -> None:
    with pytest.raises(TheoryError) as caught:
        run(REF, {"task": "script", "text": artifact("/artifacts/t", b"caf\xe9")})
    assert caught.value.detail["reason"] == "text_not_utf8"


def test_another_task_is_refused(run: Any) -> None:
    with pytest.raises(TheoryError) as caught:
        run(REF, {"task": "poem", "text": "x"})
    assert caught.value.detail["reason"] == "task"


def test_four_million_characters_are_read_in_seconds(writer: ModuleType) -> None:
    script = writer.narrate("The quick brown fox jumps over number one. " * 90_000)
    assert script.lines[0] == "The quick brown fox jumps over number one."


def test_the_prompt_is_the_registrys(writer: ModuleType) -> None:
    text = (ROOT / "registry" / "prompts" / "script" / "1.md").read_text()
    assert text.split("---\n", 2)[2].strip() == writer.PROMPT
