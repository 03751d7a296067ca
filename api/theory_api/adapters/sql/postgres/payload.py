"""A batch as the arguments of the server's functions: arrays of events, JSON of projected rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec

from theory_api.adapters.sql import models
from theory_api.adapters.sql.columns import to_raw
from theory_api.adapters.sql.statements import columns
from theory_api.domain.projection import BalanceMove, Changes
from theory_api.ports.truth import Append, IdempotencyRow
from theory_core import TheoryError

Json = dict[str, Any]

PLAN: Final = frozenset(columns(models.Plan)) - {"plan", "shard", "head_seq", "head_hash"}
TRANSITION: Final = frozenset(columns(models.Transition)) - {"plan", "transition"}
EXECUTION: Final = frozenset(columns(models.Execution)) - {"plan", "execution_id"}
ARTIFACT: Final = frozenset(columns(models.Artifact)) - {"plan", "path"}
"""Columns of a row, its key and its head apart."""

_ENCODE: Final = msgspec.json.Encoder()
_NOTHING: Final = "{}"


def one(batch: Sequence[Append], requests: Sequence[IdempotencyRow]) -> tuple[Any, ...] | None:
    """The arguments of `theory_append_one` after the fence; None for a batch that is more.

    It takes events that follow in one plan, which is there already, and move its head alone.
    """
    if len(batch) != 1 or requests or batch[0].expected_seq == 0:
        return None
    append = batch[0]
    _, _, kinds, ats, hashes, bodies = events(batch)
    if append.changes.plan != {"updated_at": ats[-1]}:
        return None
    rows = projected([(append.plan, append.changes)])
    moved = None if rows == _NOTHING else rows
    return append.plan, append.expected_seq, kinds, ats, hashes, bodies, moved


def many(batch: Sequence[Append], requests: Sequence[IdempotencyRow]) -> tuple[Any, ...]:
    """The arguments of `theory_append` after the fence, for any batch."""
    rows = projected((append.plan, append.changes) for append in batch)
    return *events(batch), heads(batch, requests), rows


def events(batch: Sequence[Append]) -> tuple[list[Any], ...]:
    """The columns of a batch's events: plan, seq, kind, at, hash, body.

    Raises `TheoryError` `ERR_CONFLICT` when the events do not follow the expected head.
    """
    plans: list[str] = []
    seqs: list[int] = []
    kinds: list[str] = []
    ats: list[str] = []
    hashes: list[bytes] = []
    bodies: list[bytes] = []
    for append in batch:
        if not append.events:
            message = "a batch has no event for one of its plans"
            raise TheoryError("ERR_CONFLICT", message, {"plan": append.plan})
        for seq, event in enumerate(append.events, start=append.expected_seq + 1):
            if event.seq != seq or event.plan != append.plan:
                message = "the events of a batch do not follow the head that it expects"
                raise TheoryError("ERR_CONFLICT", message, {"plan": append.plan})
            plans.append(event.plan)
            seqs.append(seq)
            kinds.append(event.kind)
            ats.append(event.at)
            hashes.append(to_raw(event.hash))
            bodies.append(event.body)
    return plans, seqs, kinds, ats, hashes, bodies


def heads(batch: Sequence[Append], requests: Iterable[IdempotencyRow]) -> str:
    """New plans, moved heads and answered requests, as JSON."""
    new: list[Json] = []
    moved: list[Json] = []
    for append in batch:
        last = append.events[-1]
        head: Json = {
            "plan": append.plan,
            "head_seq": last.seq,
            "head_hash": last.hash.removeprefix("b3:"),
        }
        given = append.changes.plan
        if append.expected_seq == 0:
            _complete(given, PLAN)
            new.append(head | given)
        else:
            _known(given, PLAN)
            moved.append(head | {"expected": append.expected_seq, "new": given})
    answered = [
        # `answer` is bytes, which the encoder writes as base64.
        {"scope": row.scope, "key": row.key, "body": row.body, "answer": row.answer}
        for row in requests
    ]
    return _json({"new": new, "moved": moved, "requests": answered})


def projected(shares: Iterable[tuple[str, Changes]]) -> str:
    """Everything that is projected but the plans' own rows, as JSON for `theory_project`."""
    limits: list[Json] = []
    moves: list[Json] = []
    transitions: tuple[list[Json], list[Json]] = ([], [])
    executions: tuple[list[Json], list[Json]] = ([], [])
    artifacts: list[Json] = []
    erased: list[Json] = []
    for plan, changes in shares:
        for dimension, limit in changes.limits.items():
            limits.append({"plan": plan, "dimension": dimension, "limit": limit})
        if changes.moves:
            moves += merged(plan, changes.moves)
        for name, given in changes.transitions.items():
            _sort({"plan": plan, "transition": name}, given, TRANSITION, transitions)
        for name, given in changes.executions.items():
            _sort({"plan": plan, "execution_id": name}, given, EXECUTION, executions)
        for path, row in changes.artifacts.items():
            if row is None:
                erased.append({"plan": plan, "path": path})
            else:
                _complete(row, ARTIFACT)
                artifacts.append({"plan": plan, "path": path, **row})
    return _json(
        {
            "limits": limits,
            "moves": moves,
            "transitions": transitions[0],
            "transition_patches": transitions[1],
            "executions": executions[0],
            "execution_patches": executions[1],
            "artifacts": artifacts,
            "erased": erased,
        }
    )


def merged(plan: str, moves: Iterable[BalanceMove]) -> list[Json]:
    """One move a dimension, with what has to hold on the way.

    Law: it is refused exactly when one of the moves, in their order, would be: `least_*` are the
    lowest points of their sums, `most_used` the highest of `reserved + spent` after a guarded one.
    """
    found: dict[str, Json] = {}
    for move in moves:
        row = found.get(move.dimension)
        if row is None:
            row = found[move.dimension] = {
                "plan": plan,
                "dimension": move.dimension,
                "reserved": 0,
                "spent": 0,
                "least_reserved": 0,
                "least_spent": 0,
                "most_used": None,
            }
        row["reserved"] += move.reserved
        row["spent"] += move.spent
        row["least_reserved"] = min(row["least_reserved"], row["reserved"])
        row["least_spent"] = min(row["least_spent"], row["spent"])
        if move.guarded:
            used = row["reserved"] + row["spent"]
            row["most_used"] = used if row["most_used"] is None else max(row["most_used"], used)
    return list(found.values())


def _sort(
    key: Json, given: Mapping[str, Any], known: frozenset[str], into: tuple[list[Json], list[Json]]
) -> None:
    """Law: a row with all its columns is new or replaced; any other changes one that is there."""
    _known(given, known)
    if len(given) == len(known):
        into[0].append({**key, **given})
    else:
        into[1].append({**key, "new": given})


def _complete(given: Mapping[str, Any], known: frozenset[str]) -> None:
    missing = known ^ given.keys()
    if missing:
        message = f"a projected row lacks, or has too many: {', '.join(sorted(missing))}"
        raise TheoryError("ERR_INTERNAL", message)


def _known(given: Mapping[str, Any], known: frozenset[str]) -> None:
    if not given.keys() <= known:
        unknown = ", ".join(sorted(given.keys() - known))
        raise TheoryError("ERR_INTERNAL", f"a projected row has columns no table has: {unknown}")


def _json(lists: Mapping[str, list[Json]]) -> str:
    """Lists without rows are left out: the database does nothing for them."""
    return _ENCODE.encode({name: rows for name, rows in lists.items() if rows}).decode()
