"""A scenario is shown by a test, a test shows a scenario that is described, or there is no page."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

DOCS = Path(__file__).resolve().parents[1]
ENTRY = '[[scenario]]\nnumber = {}\ntitle = "t"\noutcome = "o"\n'


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script, over a folder with one scenario, 3, and room for tests."""
    spec = importlib.util.spec_from_file_location("theory_docs_scenarios", DOCS / "scenarios.py")
    assert spec is not None
    assert spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, found)
    spec.loader.exec_module(found)
    (tmp_path / "docs").mkdir()
    (tmp_path / "stated.toml").write_text(ENTRY.format(3))
    monkeypatch.setattr(found, "ROOT", tmp_path)
    monkeypatch.setattr(found, "STATED", tmp_path / "stated.toml")
    return found


def shown(script: ModuleType, text: str, name: str = "docs/test_it.py") -> str:
    file: Path = script.ROOT / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    page: str = script.page()
    return page


def test_a_scenario_is_written_with_its_tests(script: ModuleType) -> None:
    text = "@pytest.mark.scenario(3)\nasync def test_it() -> None: ...\n"
    assert "| 3 | t | o | `docs/test_it.py::test_it` |" in shown(script, text)


def test_a_test_in_rust_names_its_scenarios_in_its_comment(script: ModuleType) -> None:
    text = "/// Scenario 3.\n/// More words.\n#[test]\nfn it_holds() {}\n"
    name = "core-rs/theory-core/tests/it.rs"
    assert f"`{name}::it_holds`" in shown(script, text, name)


def test_a_scenario_without_a_test_is_refused(script: ModuleType) -> None:
    with pytest.raises(LookupError, match=r"no test shows: \[3\]"):
        shown(script, "def test_it() -> None: ...\n")


def test_a_test_of_a_scenario_that_is_not_described_is_refused(script: ModuleType) -> None:
    text = "@pytest.mark.scenario(3, 4)\ndef test_it() -> None: ...\n"
    with pytest.raises(LookupError, match="shows scenario 4"):
        shown(script, text)


def test_a_mark_that_is_no_decorator_is_refused(script: ModuleType) -> None:
    with pytest.raises(LookupError, match="by a decorator"):
        shown(script, "pytestmark = pytest.mark.scenario(3)\ndef test_it() -> None: ...\n")


def test_scenarios_stand_in_their_order_each_once(script: ModuleType) -> None:
    script.STATED.write_text(ENTRY.format(3) + ENTRY.format(3))
    with pytest.raises(ValueError, match="each once"):
        script.stated()
