"""The typed stub is the reference: it names what the module has, and nothing else."""

import ast
import inspect
from collections.abc import Iterator
from pathlib import Path

import theory_core
from theory_core import _core

PACKAGE = Path(theory_core.__file__).parent
SPECIAL = {"__new__", "__hash__", "__eq__"}


def stub() -> ast.Module:
    return ast.parse((PACKAGE / "_core.pyi").read_text(encoding="utf-8"))


def names(body: list[ast.stmt]) -> Iterator[str]:
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            yield node.target.id


def public(namespace: object) -> set[str]:
    return {name for name in vars(namespace) if not name.startswith("_")}


def test_the_stub_names_what_the_module_has() -> None:
    assert {name for name in names(stub().body) if not name.startswith("_")} == public(_core)


def test_the_stub_names_what_each_class_has() -> None:
    for node in stub().body:
        if isinstance(node, ast.ClassDef) and hasattr(_core, node.name):
            members = set(names(node.body)) - SPECIAL
            assert {name for name in members if not name.startswith("_")} == public(
                getattr(_core, node.name)
            )


def parameters(node: ast.FunctionDef) -> list[str]:
    arguments = node.args
    every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    return [argument.arg for argument in every if argument.arg not in {"self", "cls"}]


def test_the_stub_has_the_parameters_of_each_function() -> None:
    for node in stub().body:
        if isinstance(node, ast.FunctionDef):
            signature = inspect.signature(getattr(_core, node.name))
            assert parameters(node) == list(signature.parameters), node.name
        elif isinstance(node, ast.ClassDef):
            for method in node.body:
                if (
                    isinstance(method, ast.FunctionDef)
                    and not method.decorator_list
                    and method.name not in SPECIAL
                ):
                    found = inspect.signature(getattr(getattr(_core, node.name), method.name))
                    expected = ["self", *parameters(method)]
                    assert expected == list(found.parameters), f"{node.name}.{method.name}"


def test_everything_public_is_documented() -> None:
    for node in stub().body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            assert ast.get_docstring(node), node.name
    assert (PACKAGE / "py.typed").exists()


def test_the_package_exports_in_order_what_it_has() -> None:
    assert all(hasattr(theory_core, name) for name in theory_core.__all__)
    assert len(set(theory_core.__all__)) == len(theory_core.__all__)
