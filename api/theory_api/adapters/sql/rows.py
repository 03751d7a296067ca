"""A batch as the rows of each statement."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from theory_api.adapters.sql import models
from theory_api.adapters.sql.columns import to_raw
from theory_api.adapters.sql.statements import columns
from theory_api.domain.projection import Changes
from theory_api.ports.truth import Append, IdempotencyRow
from theory_core import TheoryError, canonicalize

Row = dict[str, Any]

_HEAD: Final = frozenset({"plan", "shard", "head_seq", "head_hash"})
_PLAN: Final = tuple(name for name in columns(models.Plan) if name not in _HEAD)
_TRANSITION: Final = tuple(
    name for name in columns(models.Transition) if name not in {"plan", "transition"}
)
_EXECUTION: Final = tuple(
    name for name in columns(models.Execution) if name not in {"plan", "execution_id"}
)
_ARTIFACT: Final = tuple(name for name in columns(models.Artifact) if name not in {"plan", "path"})
_VECTORS: Final = ("hold", "actual")


@dataclass(slots=True)
class Rows:
    """Parameters by statement; a new row and a change of some columns are statements apart."""

    events: list[Row] = field(default_factory=list)
    new_plans: list[Row] = field(default_factory=list)
    moved_plans: list[Row] = field(default_factory=list)
    limits: list[Row] = field(default_factory=list)
    balances: list[Row] = field(default_factory=list)
    moves: list[Row] = field(default_factory=list)
    transitions: list[Row] = field(default_factory=list)
    transition_patches: list[Row] = field(default_factory=list)
    executions: list[Row] = field(default_factory=list)
    execution_patches: list[Row] = field(default_factory=list)
    artifacts: list[Row] = field(default_factory=list)
    erased: list[Row] = field(default_factory=list)
    requests: list[Row] = field(default_factory=list)

    def add_append(self, append: Append, shard: str) -> None:
        """One plan's events, head and projections.

        Raises `TheoryError` `ERR_CONFLICT` when the events do not follow the expected head.
        """
        for seq, event in enumerate(append.events, start=append.expected_seq + 1):
            if event.seq != seq or event.plan != append.plan:
                message = "the events of a batch do not follow the head that it expects"
                raise TheoryError("ERR_CONFLICT", message, {"plan": append.plan})
            self.events.append(
                {
                    "plan": event.plan,
                    "seq": event.seq,
                    "kind": event.kind,
                    "at": event.at,
                    "hash": to_raw(event.hash),
                    "body": event.body,
                }
            )
        if not append.events:
            message = "a batch has no event for one of its plans"
            raise TheoryError("ERR_CONFLICT", message, {"plan": append.plan})
        last = append.events[-1]
        head = {"head_seq": last.seq, "head_hash": to_raw(last.hash)}
        if append.expected_seq == 0:
            self.new_plans.append(new_plan(append.plan, shard, append.changes) | head)
        else:
            self.moved_plans.append(
                moved_plan(append.plan, shard, append.expected_seq, append.changes) | head
            )
        self.add_projections(append.plan, append.changes)

    def add_projections(self, plan: str, changes: Changes) -> None:
        """Everything but the plan's own row."""
        self._add_balances(plan, changes)
        for name, given in changes.transitions.items():
            key = {"plan": plan, "transition": name}
            _sort(key, given, _TRANSITION, self.transitions, self.transition_patches)
        for name, given in changes.executions.items():
            key = {"plan": plan, "execution_id": name}
            values = dict(given)
            for vector in _VECTORS:
                if values.get(vector) is not None:
                    values[vector] = canonicalize(values[vector]).decode()
            _sort(key, values, _EXECUTION, self.executions, self.execution_patches)
        for path, columns_ in changes.artifacts.items():
            if columns_ is None:
                self.erased.append({"old_plan": plan, "old_path": path})
            else:
                self.artifacts.append({"plan": plan, "path": path} | _complete(columns_, _ARTIFACT))

    def _add_balances(self, plan: str, changes: Changes) -> None:
        empty = {"plan": plan, "reserved": 0, "spent": 0}
        for dimension, limit in changes.limits.items():
            self.limits.append(empty | {"dimension": dimension, "limit": limit})
        moved = dict.fromkeys(move.dimension for move in changes.moves)
        for dimension in moved:
            if dimension not in changes.limits:
                self.balances.append(empty | {"dimension": dimension, "limit": None})
        for move in changes.moves:
            self.moves.append(
                {
                    "old_plan": plan,
                    "old_dimension": move.dimension,
                    "reserved_by": move.reserved,
                    "spent_by": move.spent,
                    "guarded": int(move.guarded),
                }
            )

    def add_requests(self, answered: Iterable[IdempotencyRow]) -> None:
        """Requests that this batch answers."""
        for request in answered:
            self.requests.append(
                {
                    "scope": request.scope,
                    "key": request.key,
                    "body": request.body,
                    "answer": request.answer,
                }
            )


def new_plan(plan: str, shard: str, changes: Changes) -> Row:
    """A plan's first row, its head apart."""
    return {"plan": plan, "shard": shard} | _complete(changes.plan, _PLAN)


def moved_plan(plan: str, shard: str, expected_seq: int, changes: Changes) -> Row:
    """The change of a plan's row, its new head apart."""
    found = {"old_plan": plan, "old_shard": shard, "old_head_seq": expected_seq}
    return found | _patch(changes.plan, _PLAN)


def _sort(
    key: Row, given: Mapping[str, Any], known: Sequence[str], new: list[Row], old: list[Row]
) -> None:
    """Law: a row with all its columns is new or replaced; any other changes one that is there."""
    if len(given) == len(known):
        new.append(key | _complete(given, known))
    else:
        found = {f"old_{name}": value for name, value in key.items()}
        old.append(found | _patch(given, known))


def _complete(given: Mapping[str, Any], known: Sequence[str]) -> Row:
    missing = set(known) ^ set(given)
    if missing:
        message = f"a projected row lacks, or has too many: {', '.join(sorted(missing))}"
        raise TheoryError("ERR_INTERNAL", message)
    return dict(given)


def _patch(given: Mapping[str, Any], known: Sequence[str]) -> Row:
    unknown = set(given) - set(known)
    if unknown:
        message = f"a projected row has columns that no table has: {', '.join(sorted(unknown))}"
        raise TheoryError("ERR_INTERNAL", message)
    row: Row = {}
    for name in known:
        row[f"has_{name}"] = int(name in given)
        row[f"new_{name}"] = given.get(name)
    return row
