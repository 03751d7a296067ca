"""The reference of `theory_core` has every public name with its contract, and shows every page."""

import ast
from pathlib import Path

import theory_core

DOCS = Path(__file__).resolve().parents[1]
GENERATED = DOCS / "_generated"


def test_it_has_every_name_and_every_contract() -> None:
    text = (GENERATED / "python.md").read_text(encoding="utf-8")
    assert [name for name in theory_core.__all__ if f"\n### {name}\n" not in text] == []
    stub = Path(theory_core.__file__).parent / "_core.pyi"
    for node in ast.parse(stub.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name in theory_core.__all__:
            contract = (ast.get_docstring(node) or "nothing").partition("Source:")[0]
            assert contract.rstrip() in text, node.name


def test_each_generated_page_is_shown_somewhere() -> None:
    sources = (DOCS / "source").rglob("*.md")
    text = "".join(path.read_text(encoding="utf-8") for path in sources)
    hidden = [path.name for path in GENERATED.iterdir() if f"_generated/{path.name}" not in text]
    assert hidden == []


def test_every_public_name_stands_in_a_decision_record() -> None:
    records = (DOCS / "source" / "adr").glob("[0-9]*.md")
    said = "".join(record.read_text(encoding="utf-8") for record in records)
    assert [name for name in theory_core.__all__ if f"`{name}`" not in said] == []
