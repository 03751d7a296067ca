"""How executions and streams are called: the same names for whoever computes them."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from theory_core import TheoryError, WorldPath, execution_id

RUN: Final = "run"
"""The transition of a one-shot run's implicit plan."""

RUN_PLAN: Final = "run-"
"""How the name of an implicit plan begins; the execution id that the caller gave follows."""


@lru_cache(maxsize=4096)
def attempt_id(plan: str, transition: str, attempt: int) -> str:
    """The execution id of an attempt (spec: plans, execution id).

    It is computed from plan, transition and attempt; the first attempt of a one-shot run bears the
    id that its caller gave, which the plan `/world/{tenant}/run-{execution_id}` carries.
    """
    name = plan.rsplit("/", 1)[1]
    if attempt == 1 and transition == RUN and name.startswith(RUN_PLAN) and name != RUN_PLAN:
        return name.removeprefix(RUN_PLAN)
    return execution_id(plan, transition, attempt)


def names_stream(text: str, plan: str) -> bool:
    """Whether a text is the canonical, plan-relative path of one stream of a plan."""
    try:
        path = WorldPath(text, root=plan)
    except TheoryError:
        return False
    is_one = path.facet == "streams" and bool(path.segments) and not path.is_prefix
    return is_one and path.relative == text
