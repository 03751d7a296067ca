"""References inside inputs: what is one, what only looks like one, and what they name."""

from __future__ import annotations

from typing import Any

import pytest

from theory_api.domain.references import Reference, find, parse, substitute
from theory_core import TheoryError


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"$artifact": "/artifacts/x"}, Reference("artifact", "$", path="/artifacts/x")),
        ({"$artifact": "/artifacts/X/"}, Reference("artifact", "$", path="/artifacts/x/")),
        ({"$attach": "text"}, Reference("attach", "$", name="text")),
        (
            {"$output": {"transition": "a", "path": "outputs/%46oo"}},
            Reference("output", "$", path="outputs/foo", transition="a"),
        ),
        ({"artifact": "/artifacts/x"}, None),
        ({}, None),
    ],
)
def test_a_reference_is_an_object_with_one_marked_member(
    value: dict[str, Any], expected: Reference | None
) -> None:
    assert parse(value, "$") == expected


def test_a_path_that_ends_in_a_slash_stands_for_many() -> None:
    assert [
        Reference("artifact", "$", path=path).many for path in ("/artifacts/x", "/artifacts/x/")
    ] == [
        False,
        True,
    ]


@pytest.mark.parametrize(
    ("value", "code"),
    [
        ({"$artefact": "/artifacts/x"}, "ERR_PLAN_INVALID"),
        ({"$artifact": "/artifacts/x", "more": 1}, "ERR_PLAN_INVALID"),
        ({"$artifact": "/artifacts/x", "$attach": "y"}, "ERR_PLAN_INVALID"),
        ({"$artifact": 1}, "ERR_PLAN_INVALID"),
        ({"$artifact": ""}, "ERR_PLAN_INVALID"),
        ({"$artifact": "/streams/x"}, "ERR_PLAN_INVALID"),
        ({"$artifact": "/world/acme/p2/artifacts/x"}, "ERR_PLAN_INVALID"),
        ({"$artifact": "/artifacts/../ledger/x"}, "ERR_DOT_SEGMENTS"),
        ({"$attach": ["x"]}, "ERR_PLAN_INVALID"),
        ({"$output": "a"}, "ERR_PLAN_INVALID"),
        ({"$output": {"transition": "a"}}, "ERR_PLAN_INVALID"),
        ({"$output": {"transition": "a", "path": 1}}, "ERR_PLAN_INVALID"),
        ({"$output": {"transition": "a", "path": "outputs/x", "z": "1"}}, "ERR_PLAN_INVALID"),
        ({"$output": {"transition": "a", "path": "x"}}, "ERR_PLAN_INVALID"),
        ({"$output": {"transition": "a", "path": "outputs/../../x"}}, "ERR_DOT_SEGMENTS"),
        ({"$output": {"transition": "a", "path": "outputs/%2e%2e/x"}}, "ERR_DOT_SEGMENTS"),
    ],
)
def test_what_is_marked_and_is_no_reference_is_refused(value: dict[str, Any], code: str) -> None:
    with pytest.raises(TheoryError, match=r": \$\.a\[1\]") as caught:
        substitute({"a": [0, value]}, lambda found: found)
    assert caught.value.code == code
    assert caught.value.detail["place"] == "$.a[1]"


def test_nobody_names_bytes_by_their_digest() -> None:
    forged = {"path": "/artifacts/x", "cid": "b3:" + "0" * 64, "size_bytes": 1, "mime": "a/b"}
    with pytest.raises(TheoryError, match="never by its cid") as caught:
        substitute({"x": forged}, lambda found: found)
    assert caught.value.code == "ERR_PLAN_INVALID"


def test_references_are_replaced_where_they_stand() -> None:
    value = {
        "a": [{"$attach": "x"}, {"b": {"$artifact": "/artifacts/y"}}],
        "c": "$attach",
        "d": None,
    }
    assert [found.place for found in find(value)] == ["$.a[0]", "$.a[1].b"]
    replaced = substitute(value, lambda found: found.kind)
    assert replaced == {"a": ["attach", {"b": "artifact"}], "c": "$attach", "d": None}
