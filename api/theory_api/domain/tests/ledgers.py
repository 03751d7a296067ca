"""Random ledgers: plans of random shape under random commands, as hypothesis draws them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hypothesis import strategies as st

from theory_api.domain import commands as cmd
from theory_api.domain.tests.book import BROKE, PLAN, PREFIX, Book, policy, proposal
from theory_api.domain.values import ControlOp, Fault, Policy, SelectorSpec

NAMES = "abcde"
PATHS = ("/artifacts/s/", "/artifacts/s/one", "/artifacts/s/one/", "/artifacts/t/")
ENDS = ("succeeded", "failed", "cancelled", "orphaned", "void")
OPS: Mapping[str, ControlOp] = {
    "succeeded": "pause",
    "failed": "resume",
    "cancelled": "cancel",
    "orphaned": "set_budget",
    "void": "set_budget",
}
"""What a control asks for, by the end that is drawn with it."""
FATAL = Fault(code="ERR_INPUTS", message="never again")

asks = st.dictionaries(st.sampled_from(["usd_micro", "tokens"]), st.integers(0, 12), max_size=2)
usages: st.SearchStrategy[dict[str, int]] = st.just({}) | st.dictionaries(
    st.sampled_from(["usd_micro", "tokens", "cpu_ms"]), st.integers(0, 15), max_size=3
)
policies: st.SearchStrategy[Policy] = st.builds(
    policy,
    on_refused=st.sampled_from(["fail", "pause"]),
    on_breach=st.sampled_from(["fail", "pause"]),
    attempts=st.integers(1, 3),
)


@st.composite
def proposals(draw: st.DrawFn) -> tuple[cmd.Proposal, ...]:
    """Up to five transitions; each may depend on any that stand before it."""
    made: list[cmd.Proposal] = []
    for name in NAMES[: draw(st.integers(1, len(NAMES)))]:
        before = [entry.transition for entry in made]
        needs = draw(st.lists(st.sampled_from(before), unique=True, max_size=2)) if before else []
        made.append(drawn(draw, name, tuple(needs)))
    return tuple(made)


def drawn(draw: st.DrawFn, name: str, needs: tuple[str, ...]) -> cmd.Proposal:
    """One transition that leases its own prefix and perhaps a shared path."""
    shared = draw(st.none() | st.sampled_from(PATHS))
    write_set = [SelectorSpec(kind="prefix", path=PREFIX)]
    if shared is not None:
        kind: Any = "prefix" if shared.endswith("/") else "exact"
        write_set.append(SelectorSpec(kind=kind, path=shared))
    return proposal(name, *needs, hold=draw(asks), write_set=tuple(write_set))


def command(  # noqa: PLR0911 - one of each
    book: Book, verb: str, name: str, end: str, amounts: Mapping[str, int]
) -> cmd.Command:
    """A command about `name` as it stands, sensible or not."""
    entry = book.state.transitions[name]
    match verb:
        case "admit":
            return book.admission(name)
        case "refuse":
            return cmd.Refuse(plan=PLAN, transition=name, attempt=entry.attempt, error=FATAL)
        case "complete" | "orphan":
            ident = entry.execution_id or book.admission(name).execution_id
            if verb == "orphan":
                return cmd.Orphan(plan=PLAN, execution_id=ident, error=BROKE)
            return book.completion(ident, end, amounts)
        case "control":
            ident = entry.execution_id or book.admission(name).execution_id
            op = OPS[end]
            return book.control(ident, op, budget=amounts if op == "set_budget" else None)
        case "topup":
            return cmd.TopUp(plan=PLAN, by="me", amount=amounts)
        case "pause":
            return cmd.PausePlan(plan=PLAN, by="me", reason="wait")
        case "resume":
            return cmd.ResumePlan(plan=PLAN, by="me", reason="go on")
        case "cancel":
            return cmd.CancelPlan(plan=PLAN, by="me", reason="stop")
        case _:
            return cmd.Conclude(plan=PLAN, verdicts=())
