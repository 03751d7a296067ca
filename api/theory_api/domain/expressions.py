"""JMESPath expressions of predicates: the part of the language that ends on every document.

Law: no node of an expression answers with more than it was given, so a question costs at most its
nodes times the document (spec: predicates). What could make something larger is not there: lists
and objects made of several answers, literals but of one value, and functions that join or repeat.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from jmespath import exceptions
from jmespath.parser import ParsedResult, Parser

from theory_api.domain.documents import depth
from theory_api.domain.values import Verdict3
from theory_core import LIMITS, TheoryError

EXPRESSION_BYTES: Final = 512
NODES: Final = 32
"""Parts of one expression: a name, an index, a comparison, a call."""
NESTED: Final = 64
"""Openings of one expression, for it is read by recursion."""

FUNCTIONS: Final = frozenset(
    {
        *("abs", "avg", "ceil", "contains", "ends_with", "floor", "keys", "length", "max"),
        *("max_by", "min", "min_by", "not_null", "reverse", "sort", "sort_by", "starts_with"),
        *("sum", "type", "values"),
    }
)

_NODES: Final = frozenset(
    {
        *("and_expression", "comparator", "current", "expref", "field", "filter_projection"),
        *("flatten", "function_expression", "identity", "index", "index_expression", "literal"),
        *("not_expression", "or_expression", "pipe", "projection", "slice", "subexpression"),
        "value_projection",
    }
)
_SCALARS: Final = (str, int, float, bool, type(None))
_KINDS: Final[Mapping[type, str]] = {
    str: "a text",
    int: "a number",
    float: "a number",
    list: "a list",
    dict: "an object",
}


def check(expression: str, *, place: str) -> None:
    """Refuse what is no expression, or one of the parts that are left out.

    Raises `TheoryError` `ERR_PLAN_INVALID` with the place.
    """
    if len(expression.encode("utf-8", "surrogatepass")) > EXPRESSION_BYTES:
        raise _invalid(place, f"an expression has at most {EXPRESSION_BYTES} bytes")
    if sum(expression.count(opening) for opening in "([{!&") > NESTED:
        raise _invalid(place, f"an expression opens at most {NESTED} brackets and negations")
    try:
        nodes = list(_walk(_parsed(expression).parsed))
    except (exceptions.JMESPathError, ValueError) as error:
        raise _invalid(place, "it is no JMESPath expression") from error
    if len(nodes) > NODES:
        raise _invalid(place, f"an expression has at most {NODES} parts")
    for node in nodes:
        kind, value = node["type"], node.get("value")
        if kind not in _NODES:
            raise _invalid(place, f"expressions of predicates have no {kind}")
        if kind == "function_expression" and value not in FUNCTIONS:
            raise _invalid(place, f"expressions of predicates have no function {str(value)[:32]}")
        if kind == "literal" and not isinstance(value, _SCALARS):
            raise _invalid(place, "a literal of an expression is one value")


def judge(expression: str, document: object) -> tuple[Verdict3, str]:
    """Whether the answer of a checked expression about a document is `true`, and why not.

    `false` and `null`, what is not there, are false; an answer that is neither is an error.
    """
    if depth(document) > LIMITS["document_depth"]:
        return "error", f"the artifact is nested deeper than {LIMITS['document_depth']}"
    try:
        answer = _parsed(expression).search(document)
    except exceptions.JMESPathError as error:
        return "error", f"the expression does not fit the artifact: {type(error).__name__}"
    except (ArithmeticError, TypeError, ValueError) as error:
        # Texts beside numbers, and sums that leave the numbers that there are.
        return "error", f"the expression cannot be answered: {type(error).__name__}"
    if answer is True:
        return "true", "the expression is true"
    if answer is False or answer is None:
        return "false", f"the expression is {'null' if answer is None else 'false'}"
    kind = _KINDS.get(type(answer), "something else")
    return "error", f"the expression answers {kind}, neither true nor false"


def _parsed(expression: str) -> ParsedResult:
    return Parser().parse(expression)


def _walk(root: Any) -> Iterator[Mapping[str, Any]]:  # noqa: ANN401 - the library's own tree
    """Every node of a tree; bounded, for each took a character of the expression."""
    level = [root]
    while level:
        node = level.pop()
        yield node
        # The bounds of a slice are numbers.
        level.extend(child for child in node.get("children", ()) if isinstance(child, dict))


def _invalid(place: str, message: str) -> TheoryError:
    return TheoryError("ERR_PLAN_INVALID", f"{place}: {message}", {"place": place})
