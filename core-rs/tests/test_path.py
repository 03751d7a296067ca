"""WorldPaths and selectors as Python objects."""

import copy
import pickle
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from theory_core import (
    FACETS,
    UNICODE,
    Selector,
    TheoryError,
    WorldPath,
    check_outputs,
    check_writable,
    expand_prefix,
    is_name,
    resolve_outputs,
)

ROOT = "/world/acme/p1"
DATA = Path("/usr/share/unicode")
REFUSED = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp", "Zs"}


def test_a_path_tells_its_parts() -> None:
    path = WorldPath("/artifacts/Outputs/Caf%C3%A9/", ROOT)
    assert (path.tenant, path.plan, path.facet) == ("acme", "p1", "artifacts")
    assert path.segments == ("outputs", "café")
    assert path.is_prefix
    assert path.root == ROOT
    assert str(path) == "/world/acme/p1/artifacts/outputs/café/"
    assert path.uri == "world://acme/p1/artifacts/outputs/café/"
    assert path.relative == "/artifacts/outputs/café/"
    assert repr(path) == "WorldPath('/world/acme/p1/artifacts/outputs/café/')"


def test_equal_paths_are_interchangeable() -> None:
    path, same = WorldPath(f"{ROOT}/artifacts/A"), WorldPath("world://acme/p1/artifacts/%61")
    assert path == same
    assert hash(path) == hash(same)
    assert {path: 1}[same] == 1
    assert path != WorldPath(f"{ROOT}/artifacts/a/")
    assert path != str(path)
    assert pickle.loads(pickle.dumps(path)) == path  # noqa: S301 - our own bytes
    assert copy.deepcopy(path) == path
    assert WorldPath(path) == path


def test_the_uri_of_the_longest_path_is_an_address() -> None:
    longest = f"{ROOT}/artifacts/" + "/".join(["a" * 199] * 5)
    path = WorldPath(longest + "b" * (1024 - len(longest)))
    assert (len(str(path)), len(path.uri)) == (1024, 1025)
    assert WorldPath(path.uri) == WorldPath(str(path)) == path
    with pytest.raises(TheoryError, match="ERR_PATH_TOO_LONG"):
        WorldPath(path.uri + "b")


def test_a_path_is_frozen() -> None:
    path: Any = WorldPath(f"{ROOT}/plan")
    for name in ("tenant", "segments", "new"):
        with pytest.raises(AttributeError):
            setattr(path, name, "x")


def test_a_root_is_a_plan_or_any_path_inside_it() -> None:
    inside = WorldPath(f"{ROOT}/artifacts/deep/er")
    assert WorldPath("/plan", inside) == WorldPath("/plan", ROOT) == WorldPath(f"{ROOT}/plan")


@pytest.mark.parametrize("text", [None, 5, b"/world/acme/p1/plan", [], object()])
def test_what_is_no_text_is_refused(text: object) -> None:
    path = WorldPath(f"{ROOT}/artifacts/")
    wrong: Any = text
    calls: list[Callable[[], object]] = [
        lambda: WorldPath(wrong),
        lambda: path.join(wrong),
        lambda: path.contains(wrong),
        lambda: path.overlaps(wrong),
        lambda: Selector("exact", wrong),
        lambda: Selector(wrong, path),
        lambda: Selector("prefix", path).overlaps(wrong),
        lambda: Selector("prefix", path).contains(wrong),
        lambda: check_writable(wrong),
        lambda: expand_prefix(wrong, "x1", ROOT),
        lambda: expand_prefix("/artifacts/{execution_id}/", wrong, ROOT),
        lambda: resolve_outputs(wrong, []),
        lambda: resolve_outputs(path, [wrong]),
        lambda: check_outputs([wrong]),
    ]
    for call in calls:
        with pytest.raises(TheoryError, match="ERR_INPUTS"):
            call()
    assert not is_name(text)


@pytest.mark.parametrize("root", [5, b"/world/acme/p1", []])
def test_a_root_of_another_type_is_refused(root: object) -> None:
    with pytest.raises(TheoryError, match="ERR_INPUTS"):
        WorldPath("/plan", root)  # type: ignore[arg-type]


def test_surrogates_are_refused_after_the_length() -> None:
    for text, code in [
        ("/plan/\ud800", "ERR_PATH_SYNTAX"),
        ("/plan/" + "\ud800" * 340, "ERR_PATH_TOO_LONG"),
    ]:
        with pytest.raises(TheoryError) as refusal:
            WorldPath(text, ROOT)
        assert refusal.value.code == code
    with pytest.raises(TheoryError, match="ERR_PATH_SYNTAX"):
        WorldPath("/plan", "/world/acme/\ud800")


def test_every_facet_of_the_list_is_accepted() -> None:
    assert [WorldPath(f"/{facet}", ROOT).facet for facet in FACETS] == list(FACETS)


def test_a_selector_tells_its_parts() -> None:
    selector = Selector("prefix", "/artifacts/a/", ROOT)
    assert (selector.kind, selector.path) == ("prefix", WorldPath(f"{ROOT}/artifacts/a/"))
    assert repr(selector) == "Selector('prefix', '/world/acme/p1/artifacts/a/')"
    assert selector == pickle.loads(pickle.dumps(selector))  # noqa: S301 - our own bytes
    assert len({selector, Selector("prefix", selector.path)}) == 1


@pytest.mark.parametrize("name", ["a", "0", "a.b_c-d", "a" * 63])
def test_names_are_accepted(name: str) -> None:
    assert is_name(name)


@pytest.mark.parametrize(
    "name", ["", "A", ".a", "-a", "_a", "a..b", "a" * 64, "é", "a/b", "a\n", "\ud800"]
)
def test_other_texts_are_no_names(name: str) -> None:
    assert not is_name(name)


@given(st.text(st.characters(exclude_categories=()), max_size=40))
def test_whatever_is_joined_stays_below_or_is_refused(rel: str) -> None:
    base = WorldPath(f"{ROOT}/artifacts/base/")
    try:
        path = base.join(rel)
    except TheoryError:
        return
    assert base.contains(path)
    assert WorldPath(str(path)) == path


def expected_lower(row: list[str], special: dict[str, str]) -> str:
    mapping = special.get(row[0]) or row[13] or row[0]
    return "".join(chr(int(code, 16)) for code in mapping.split())


@pytest.mark.scenario(52)
@pytest.mark.skipif(
    not (DATA / "UnicodeData.txt").exists(), reason="no published Unicode data here"
)
def test_characters_are_accepted_and_folded_as_the_published_data_says() -> None:
    assert f"Version {UNICODE} of" in (DATA / "ReadMe.txt").read_text(encoding="utf-8")
    casing = (DATA / "SpecialCasing.txt").read_text(encoding="utf-8").splitlines()
    fields = [[part.strip() for part in line.split("#")[0].split(";")] for line in casing]
    special = {row[0]: row[1] for row in fields if len(row) == 5}
    for line in (DATA / "UnicodeData.txt").read_text(encoding="ascii").splitlines():
        row = line.split(";")
        character = chr(int(row[0], 16))
        if ord(character) < 0x80 or row[2] in REFUSED or 0xFE00 <= ord(character) <= 0xFE0F:
            continue
        if ord(character) in {*range(0x180B, 0x1810), *range(0xE0100, 0xE01F0)}:
            continue
        if unicodedata.category(character) == "Cn":
            continue  # assigned after this Python's own tables, which the comparison needs
        once = unicodedata.normalize("NFC", character)
        rows = {row[0]: row} if once == character else {}
        lower = "".join(
            expected_lower(rows.get(f"{ord(c):04X}", ["", *[""] * 13]), special) or c for c in once
        )
        if once != character:
            lower = once.lower()
        path = WorldPath(f"{ROOT}/artifacts/x{character}")
        assert path.segments == (unicodedata.normalize("NFC", "x" + lower),), row[:2]
