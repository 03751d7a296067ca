from __future__ import annotations

import pytest

from theory_api.services import cursor
from theory_core import TheoryError


def test_a_cursor_reads_back_as_the_plan_it_was_made_of() -> None:
    assert cursor.decode(cursor.encode("/world/local/p1"), tenant="local") == "/world/local/p1"


@pytest.mark.parametrize(
    "text",
    ["", "x", "===", "!!!!", "é", "L3dvcmxk", cursor.encode("/world/local/P1"), "a" * 5000],
)
def test_a_text_that_is_no_cursor_is_refused(text: str) -> None:
    with pytest.raises(TheoryError) as caught:
        cursor.decode(text, tenant="local")
    assert caught.value.code == "ERR_INPUTS"


def test_a_cursor_of_another_tenant_is_as_if_unknown() -> None:
    with pytest.raises(TheoryError) as caught:
        cursor.decode(cursor.encode("/world/acme/p1"), tenant="local")
    assert caught.value.code == "ERR_NOT_FOUND"
