"""What may be read of a worker's stderr."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from theory_core import canonicalize, error_envelope
from theory_runtime.redaction import redact
from theory_runtime.tail import Tail
from theory_runtime.tests.conftest import fingerprint

DIGEST = "b3:" + "0a" * 32


@pytest.mark.parametrize(
    "text",
    [
        "Authorization: Bearer canary-canary",
        "authorization = canary",
        "OPENAI_API_KEY=canary",
        '{"api_key": "canary canary"}',
        "password: 'can ary'",
        "GET https://user:canary@host/path",
        "key sk-canary0123456789",
        "-----BEGIN RSA PRIVATE KEY-----\ncanary\n-----END RSA PRIVATE KEY-----",
        "-----BEGIN PRIVATE KEY-----\ncanary",
        "jwt eyJcanary01.canary.canary",
    ],
)
def test_credentials_of_known_shapes_are_masked(text: str) -> None:
    masked = redact(f"before {text}")
    assert "canary" not in masked
    assert "[redacted]" in masked
    assert masked.startswith("before ")
    assert redact(masked) == masked


@pytest.mark.scenario(95)
def test_known_secrets_are_masked_wherever_they_stand() -> None:
    assert redact("xx-s3cr3t-yy", ["s3cr3t"]) == "xx-[redacted]-yy"
    assert redact("the word a stays", ["a"]) == "the word a stays"


def test_digests_and_counts_stay_readable() -> None:
    text = f"cid {DIGEST} tokens 12 in 3 ms"
    assert redact(text) == text


@pytest.mark.scenario(96)
def test_control_characters_do_not_reach_a_terminal() -> None:
    assert redact("a\x1b[31mred\x1b[0m\r\x00\u2028b\nc\td") == "aredb\nc\td"


@given(st.lists(st.binary(max_size=5000), max_size=12))
def test_a_tail_is_bounded_and_fits_an_envelope(pieces: list[bytes]) -> None:
    tail = Tail()
    for piece in pieces:
        tail.feed(piece)
    text = tail.read()
    assert len(text.encode()) <= 2048
    canonicalize(text.replace("\ufdd0", ""))
    error_envelope("x1", "ERR_INTERNAL", env_fingerprint=fingerprint(), stderr_tail=text)


@pytest.mark.parametrize("unit", ["x", "a.", "eyJ-", "a-", "key ", "-----BEGIN A", "http://a"])
def test_no_text_takes_long_to_redact(unit: str) -> None:
    began = time.process_time()
    redact(unit * (64_000 // len(unit)))
    assert time.process_time() - began < 0.5


def test_a_tail_keeps_the_end_and_hides_the_places_of_this_host() -> None:
    tail = Tail()
    tail.feed(b"x" * 100_000 + b" in /home/here/src/a.py: the end")
    text = tail.read(places={"/home/here/src": "{work}"})
    assert text.endswith(" in {work}/a.py: the end")
