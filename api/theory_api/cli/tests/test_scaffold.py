"""`theory scaffold`: what it says, and where it refuses to write."""

from __future__ import annotations

from pathlib import Path

import pytest

from theory_api.cli.tests.desk import Desk


def test_it_names_the_three_files_that_are_yours(desk: Desk) -> None:
    printed = desk.theory("scaffold", "demo/count@1", "--into", str(desk.folder / "first"))
    assert printed.code == 0
    yours = printed.out.partition("to be left alone")[0]
    assert [Path(line).name for line in yours.splitlines()[1:]] == [
        "provider.py",
        "1.yaml",
        "conformance.yaml",
    ]
    assert "theory conformance demo/count@1" in printed.out


def test_a_program_gets_the_files_as_one_object(desk: Desk) -> None:
    into = ["--into", str(desk.folder / "first")]
    printed = desk.theory("scaffold", "demo/count@1", *into, "--json")
    assert len(printed.json["yours"]) == 3
    again = desk.theory("scaffold", "demo/count@1", *into, "--json")
    assert again.code == 1
    assert again.json["code"] == "ERR_CONFLICT"


def test_an_installed_package_is_no_place_to_write_to(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    (desk.folder / "_assets").mkdir()
    monkeypatch.setenv("THEORY_PROCESSORS", str(desk.folder / "_assets"))
    printed = desk.theory("scaffold", "demo/count@1")
    assert printed.code == 1
    assert "--into" in printed.err
