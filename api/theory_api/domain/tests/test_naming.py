"""Streams are called by their canonical paths in their plan, and by nothing else."""

from __future__ import annotations

import pytest

from theory_api.domain.naming import names_stream

PLAN = "/world/acme/p1"


@pytest.mark.parametrize("text", ["/streams/a", "/streams/effectors/mouth/audio", "/streams/[a]"])
def test_a_canonical_path_names_a_stream(text: str) -> None:
    assert names_stream(text, PLAN)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "preview",
        "streams/a",
        "../a",
        "/streams",
        "/streams/",
        "/streams/a/",
        "/streams/A",
        "/streams/%61",
        "/streams/../a",
        "/artifacts/a",
        "/world/acme/p1/streams/a",
        "/world/acme/p2/streams/a",
        "world://acme/p1/streams/a",
        "/streams/" + "a" * 2000,
    ],
)
def test_nothing_else_does(text: str) -> None:
    assert not names_stream(text, PLAN)
