from __future__ import annotations

import pytest

from theory_api.web.idempotency import key
from theory_core import TheoryError


@pytest.mark.scenario(88)
@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ('"abc"', "abc"),
        ("abc", "abc"),
        ('"a b"', "a b"),
        ('"a\\"b\\\\c"', 'a"b\\c'),
        ("8e03978e-40d5-43dd-bc93-6894a57f9324", "8e03978e-40d5-43dd-bc93-6894a57f9324"),
        ("x" * 255, "x" * 255),
        ('"' + "~" * 255 + '"', "~" * 255),
    ],
)
def test_a_quoted_string_and_its_bare_token_are_one_key(header: str, expected: str) -> None:
    assert key(header) == expected


@pytest.mark.parametrize(
    "header",
    ["", '""', '"abc', 'abc"', "a b", '"a\\b"', '"é"', '"a\tb"', "x" * 256, '"a", "b"', "a,b"],
)
def test_any_other_text_is_refused(header: str) -> None:
    with pytest.raises(TheoryError) as caught:
        key(header)
    assert caught.value.code == "ERR_INPUTS"
    assert "Idempotency-Key" in caught.value.message
