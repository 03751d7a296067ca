"""The rows of one plan in memory, and how a batch's changes are checked and applied to them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Final

from theory_api.domain.projection import BalanceMove, Changes
from theory_api.ports.truth import (
    ArtifactRow,
    BalanceRow,
    ExecutionRow,
    Head,
    PlanRow,
    StoredEvent,
    TransitionRow,
)
from theory_core import TheoryError

_HEAD: Final = frozenset({"plan", "head_seq", "head_hash"})


def _free(shape: type[Any], fixed: frozenset[str]) -> frozenset[str]:
    return frozenset(column.name for column in fields(shape)) - fixed


_PLAN: Final = _free(PlanRow, _HEAD)
_TRANSITION: Final = _free(TransitionRow, frozenset({"transition"}))
_EXECUTION: Final = _free(ExecutionRow, frozenset({"execution_id"}))
_ARTIFACT: Final = _free(ArtifactRow, frozenset({"path"}))


@dataclass(slots=True)
class PlanTables:
    """Events and projections of one plan."""

    plan: str
    shard: str
    events: list[StoredEvent] = field(default_factory=list)
    row: dict[str, Any] = field(default_factory=dict)
    balances: dict[str, BalanceRow] = field(default_factory=dict)
    transitions: dict[str, dict[str, Any]] = field(default_factory=dict)
    executions: dict[str, dict[str, Any]] = field(default_factory=dict)
    artifacts: dict[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def head(self) -> Head:
        """The newest event; of seq 0 before the first."""
        if not self.events:
            return Head(self.plan, 0, "", "")
        last = self.events[-1]
        return Head(self.plan, last.seq, last.hash, last.at)

    def check(self, changes: Changes) -> dict[str, BalanceRow]:
        """The balances that `changes` lead to, and that all of it can be applied.

        Raises `TheoryError`: `ERR_BUDGET_EXCEEDED`, `ERR_CONFLICT` (a row to change is not there),
        `ERR_INTERNAL` (columns that no row has).
        """
        _check(changes.plan, _PLAN, there=bool(self.row))
        for name, given in changes.transitions.items():
            _check(given, _TRANSITION, there=name in self.transitions)
        for name, given in changes.executions.items():
            _check(given, _EXECUTION, there=name in self.executions)
        for columns in changes.artifacts.values():
            if columns is not None:
                _check(columns, _ARTIFACT, there=False)
        return moved(self.balances, changes.limits, changes.moves)

    def apply(self, changes: Changes, balances: Mapping[str, BalanceRow]) -> None:
        """Put checked changes in place."""
        self.row |= changes.plan
        self.balances |= balances
        for name, given in changes.transitions.items():
            self.transitions.setdefault(name, {}).update(given)
        for name, given in changes.executions.items():
            self.executions.setdefault(name, {}).update(given)
        for path, columns in changes.artifacts.items():
            if columns is None:
                self.artifacts.pop(path, None)
            else:
                self.artifacts[path] = dict(columns)

    def clear(self) -> None:
        """Forget the projections; events stay."""
        self.row = {}
        for rows in (self.balances, self.transitions, self.executions, self.artifacts):
            rows.clear()


def moved(
    balances: Mapping[str, BalanceRow], limits: Mapping[str, int], moves: Iterable[BalanceMove]
) -> dict[str, BalanceRow]:
    """The touched balances after limits and moves.

    Law: `reserved >= 0` and `spent >= 0` after each move; after a guarded one also `spent +
    reserved <= limit`. Raises `TheoryError` `ERR_BUDGET_EXCEEDED`.
    """
    after: dict[str, BalanceRow] = {}
    for dimension, limit in limits.items():
        old = balances.get(dimension, BalanceRow(dimension, None, 0, 0))
        after[dimension] = BalanceRow(dimension, limit, old.reserved, old.spent)
    for move in moves:
        before = after.get(move.dimension) or balances.get(move.dimension)
        old = before or BalanceRow(move.dimension, None, 0, 0)
        reserved, spent = old.reserved + move.reserved, old.spent + move.spent
        beyond = old.limit is not None and spent + reserved > old.limit
        if reserved < 0 or spent < 0 or (move.guarded and beyond):
            message = "budget exceeded: the store refused to move a balance; nothing was written"
            raise TheoryError("ERR_BUDGET_EXCEEDED", message, {"dimension": move.dimension})
        after[move.dimension] = BalanceRow(move.dimension, old.limit, reserved, spent)
    return after


def _check(given: Mapping[str, Any], known: frozenset[str], *, there: bool) -> None:
    names = frozenset(given)
    if names == known:
        return
    if not names < known:
        message = "a projected row has columns that no table has"
        raise TheoryError("ERR_INTERNAL", message)
    if not there:
        message = "a projected row is missing; the projections must be rebuilt from the ledger"
        raise TheoryError("ERR_CONFLICT", message)
