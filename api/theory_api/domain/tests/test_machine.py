"""The domain and a small independent model, side by side under any sequence of commands."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from theory_api.domain import commands as cmd
from theory_api.domain.evolve import fold
from theory_api.domain.tests.auditor import Audit
from theory_api.domain.tests.book import PLAN, Book, wire
from theory_api.domain.tests.ledgers import (
    ENDS,
    NAMES,
    OPS,
    command,
    policies,
    proposals,
    usages,
)
from theory_api.domain.tests.model import Model, Step
from theory_api.domain.tests.test_lawful import judged, stated
from theory_api.domain.values import Policy
from theory_core import TheoryError, canonicalize

names = st.sampled_from(NAMES)
SELDOM = ("refuse", "cancel")
VERBS = ("resume", "topup", "conclude", "pause", "resume", "topup", "conclude", "resume", *SELDOM)
limits = st.fixed_dictionaries(
    {}, optional={"usd_micro": st.integers(5, 60), "tokens": st.integers(5, 60)}
)


def _step(proposal: cmd.Proposal) -> Step:
    shared = [spec.path for spec in proposal.write_set[1:]]
    return Step(proposal.depends_on, dict(proposal.hold), shared[0] if shared else None)


class PlanMachine(RuleBasedStateMachine):
    """Every command goes to both; afterwards both must tell the same plan."""

    book: Book
    model: Model

    @initialize(made=proposals(), limit=limits, rules=policies)
    def create(self, made: tuple[cmd.Proposal, ...], limit: dict[str, int], rules: Policy) -> None:
        self.book = Book(*made, limit=limit, policy=rules)
        self.audit, self.read = Audit(), 0
        self.model = Model(
            dict(limit),
            {entry.transition: _step(entry) for entry in made},
            rules.retry.max_attempts,
            rules.on_refused == "pause",
            rules.on_breach == "pause",
        )

    def ask(self, verb: str, name: str = "a", end: str = "", used: Mapping[str, int] = {}) -> None:
        with contextlib.suppress(TheoryError):  # a refusal leaves no event, and the model no trace
            self.book.do(command(self.book, verb, name, end, used))

    @rule(name=names)
    def admit(self, name: str) -> None:
        if name in self.model.steps:
            self.ask("admit", name)
            self.model.admit(name)

    @precondition(lambda self: self.model.waiting())
    @rule(data=st.data())
    def admit_one_that_waits(self, data: st.DataObject) -> None:
        self.admit(data.draw(st.sampled_from(self.model.waiting())))

    @precondition(lambda self: self.model.open())
    @rule(end=st.sampled_from(ENDS), used=usages, data=st.data())
    def complete_one_that_runs(self, end: str, used: dict[str, int], data: st.DataObject) -> None:
        self.complete(data.draw(st.sampled_from(self.model.open())), end, used)

    @rule(name=names, end=st.sampled_from(ENDS), used=usages)
    def complete(self, name: str, end: str, used: dict[str, int]) -> None:
        if name in self.model.steps:
            self.ask("complete", name, end, used)
            self.model.complete(name, end, used)

    @rule(name=names)
    def lose(self, name: str) -> None:
        if name in self.model.steps:
            self.ask("orphan", name)
            self.model.orphan(name)

    @rule(name=names, as_if=st.sampled_from(ENDS), used=usages)
    def control(self, name: str, as_if: str, used: dict[str, int]) -> None:
        """Law: a pause and a lower budget change nothing that a plan comes to."""
        if name in self.model.steps:
            self.ask("control", name, as_if, used)
            if OPS[as_if] == "cancel":
                self.model.stop(name)

    @rule(verb=st.sampled_from(VERBS), name=names, amount=st.integers(1, 20))
    def operate(self, verb: str, name: str, amount: int) -> None:
        """What people, or the runner, ask of a plan now and then; the last ones end it."""
        model, limited = self.model, sorted(self.model.limit)
        if name not in model.steps or (verb == "topup" and not limited):
            return
        self.ask(verb, name, used={limited[0]: amount} if limited else {})
        match verb:
            case "topup" if model.status not in {"completed", "failed", "cancelled"}:
                model.limit[limited[0]] += amount
                model.breached = False
            case "pause" if model.status == "active":
                model.status = "paused"
            case "resume" if model.status == "paused":
                model.status = "active"
            case "conclude":
                model.conclude()
            case "refuse":
                model.refuse(name)
            case "cancel":
                model.cancel()

    @invariant()
    def both_tell_the_same_plan(self) -> None:
        if not hasattr(self, "book"):
            return
        state, model = self.book.state, self.model
        assert state.status == model.status
        assert {name: entry.status for name, entry in state.transitions.items()} == {
            name: step.status for name, step in model.steps.items()
        }
        assert state.spent == model.spent
        assert state.limit == model.limit
        for dimension in ("usd_micro", "tokens"):
            assert state.reserved.get(dimension, 0) == model.reserved(dimension)
        assert state.unfinished == len(model.steps) - len(model.ends)

    @invariant()
    def no_law_is_broken(self) -> None:
        if not hasattr(self, "book"):
            return
        for event in self.book.events[self.read :]:
            self.audit.read(event.KIND, event.data())
        self.read = len(self.book.events)
        assert self.audit.broken == []

    def teardown(self) -> None:
        """The stored bytes alone lead to the same state, and break no law of the core's judge."""
        if hasattr(self, "book"):
            bodies = [canonicalize(wire(n, event)) for n, event in enumerate(self.book.events, 1)]
            folded = fold(PLAN, bodies)
            assert judged(stated(self.book)) is None
            assert folded == self.book.state
            assert list(folded.candidates) == list(self.book.state.candidates)


TestPlanMachine = PlanMachine.TestCase
TestPlanMachine.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)
