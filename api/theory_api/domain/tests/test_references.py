"""References inside inputs: what is one, what only looks like one, and what they name."""

from __future__ import annotations

from typing import Any

import pytest

from theory_api.domain.references import (
    Reference,
    find,
    parse,
    plain,
    readable,
    stand_in,
    substitute,
    travelling,
)
from theory_api.domain.values import Predicate
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
        ({"$world": "/artifacts/"}, Reference("world", "$", path="/artifacts/")),
        ({"$world": "/artifacts/X/"}, Reference("world", "$", path="/artifacts/x/")),
        (
            {"$verdict": {"name": "a@1", "params": {"path": "/artifacts/x"}}},
            Reference(
                "verdict", "$", predicate=Predicate(name="a@1", params={"path": "/artifacts/x"})
            ),
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
        ({"$world": "/artifacts/x"}, "ERR_SELECTOR_KIND_MISMATCH"),
        ({"$world": "/ledger/"}, "ERR_PLAN_INVALID"),
        ({"$world": "/world/acme/p2/artifacts/"}, "ERR_PLAN_INVALID"),
        ({"$world": "/artifacts/../ledger/"}, "ERR_DOT_SEGMENTS"),
        ({"$world": []}, "ERR_PLAN_INVALID"),
        ({"$world": "/artifacts/", "more": 1}, "ERR_PLAN_INVALID"),
        ({"$verdict": "artifact.exists@1"}, "ERR_PLAN_INVALID"),
        ({"$verdict": {"name": "a@1"}}, "ERR_PLAN_INVALID"),
        ({"$verdict": {"name": 1, "params": {}}}, "ERR_PLAN_INVALID"),
        ({"$verdict": {"name": "a@1", "params": []}}, "ERR_PLAN_INVALID"),
        ({"$verdict": {"name": "a@1", "params": {}, "verdict": "true"}}, "ERR_PLAN_INVALID"),
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


def test_what_is_told_is_neither_read_nor_given_an_address() -> None:
    entry = {"path": "/artifacts/x", "cid": "b3:" + "0" * 64, "size_bytes": 1, "mime": "a/b"}
    verdict = {"name": "a@1", "params": {"deep": entry}, "verdict": "true", "reason": "so"}
    resolved = {"w": {"$world": [entry]}, "v": [{"$verdict": verdict}], "a": [entry], "n": None}
    assert plain(resolved) == {"w": [entry], "v": [verdict], "a": [entry], "n": None}
    addressed = entry | {"url": entry["cid"]}
    assert travelling(resolved, str) == {
        "w": [entry],
        "v": [verdict],
        "a": [addressed],
        "n": None,
    }
    assert readable(resolved) == [entry]


def test_where_inputs_are_checked_before_the_world_is_known_its_shape_stands_in() -> None:
    asked = Predicate(name="a@1", params={"path": "/artifacts/x"})
    told = stand_in(Reference("verdict", "$", predicate=asked))
    assert (told["name"], told["params"], told["verdict"]) == ("a@1", asked.params, "false")
    (entry,) = stand_in(Reference("world", "$", path="/artifacts/"))
    assert set(entry) == {"path", "cid", "size_bytes", "mime"}
