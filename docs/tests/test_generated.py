"""What the documentation takes from the code is up to date, and every page can be reached."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import cast

import pytest

from theory_core import ERROR_CODES

DOCS = Path(__file__).resolve().parents[1]
RECORDS = sorted((DOCS / "source" / "adr").glob("[0-9]*.md"))


def generator() -> ModuleType:
    """The script `docs/generate.py` as a module."""
    spec = importlib.util.spec_from_file_location("theory_docs_generate", DOCS / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


PAGES = cast("Mapping[str, Callable[[], str]]", generator().PAGES)


@pytest.mark.parametrize("name", sorted(PAGES))
def test_a_generated_page_is_what_the_code_says_now(name: str) -> None:
    written = (DOCS / "_generated" / name).read_text(encoding="utf-8")
    assert written == PAGES[name]().rstrip() + "\n", "out of date: run make reference"


def test_nothing_else_lies_among_the_generated_pages() -> None:
    assert {path.name for path in (DOCS / "_generated").iterdir()} == set(PAGES)


def test_every_code_and_every_event_kind_is_documented() -> None:
    errors = (DOCS / "_generated" / "errors.md").read_text(encoding="utf-8")
    assert all(f"`{code}`" in errors for code in ERROR_CODES)
    kinds = {
        path.name.removesuffix(".schema.json") for path in generator().EVENTS.glob("*.schema.json")
    }
    events = (DOCS / "_generated" / "events.md").read_text(encoding="utf-8")
    documented = set(re.findall(r"^## ([a-z_.]+?)(?:\.\*)?$", events, flags=re.MULTILINE))
    assert documented == kinds
    assert len(kinds) > 40


@pytest.mark.parametrize("record", RECORDS, ids=lambda path: path.stem)
def test_a_decision_record_has_context_decision_and_consequences(record: Path) -> None:
    text = record.read_text(encoding="utf-8")
    number = int(record.name[:4])
    assert text.startswith(f"# {number}. ")
    headings = re.findall(r"^## (.+)$", text, flags=re.MULTILINE)
    assert headings == ["Context", "Decision", "Consequences"]
    assert re.search(r"^Status: (accepted|superseded by \d{4})$", text, flags=re.MULTILINE)


def test_decision_records_are_numbered_without_gaps_and_listed() -> None:
    assert [int(path.name[:4]) for path in RECORDS] == list(range(1, len(RECORDS) + 1))
    index = (DOCS / "source" / "adr" / "index.md").read_text(encoding="utf-8")
    assert re.findall(r"^(\d{4}-[a-z0-9-]+)$", index, flags=re.MULTILINE) == [
        path.stem for path in RECORDS
    ]
