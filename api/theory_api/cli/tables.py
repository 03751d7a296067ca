"""Results as people read them on a terminal: plain tables on stdout."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import msgspec
import rich_click as click

from theory_api.cli.costs import amount, heading, used
from theory_api.cli.failures import remedy
from theory_core import canonicalize

if TYPE_CHECKING:
    from theory_api.services.views import (
        ArtifactView,
        ErrorView,
        PlanPage,
        PlanView,
        PlanWhy,
        TransitionView,
    )


def as_json(view: object) -> None:
    """An answer as one line of canonical JSON."""
    click.echo(canonicalize(msgspec.to_builtins(view)) + b"\n", nl=False)


def table(rows: Iterable[Sequence[str]], *, right: frozenset[int] = frozenset()) -> list[str]:
    """Lines of columns that are as wide as they need to be; columns in `right` align right."""
    cells = [[str(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if place in right else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in cells
    ]


def say(lines: Iterable[str]) -> None:
    """Lines of a result, on stdout."""
    for line in lines:
        click.echo(line)


def plans(page: PlanPage) -> list[str]:
    """A page of plans."""
    if not page.plans:
        return ["no plans"]
    head = ("plan", "status", "transitions", "events", "updated")
    rows = [
        (
            row.plan,
            _status(row.status, row.error_code),
            row.transitions,
            row.head_seq,
            row.updated_at,
        )
        for row in page.plans
    ]
    lines = table([head, *([str(cell) for cell in row] for row in rows)], right=frozenset({2, 3}))
    if page.next is not None:
        lines.append(f"more: --after {page.next}")
    return lines


def plan(view: PlanView) -> list[str]:
    """A plan: where it stands, its steps, its budget, its outputs."""
    lines = [
        f"{view.plan}  {view.status}  lane {view.lane}",
        f"head  {view.head_seq} {view.head_hash}",
        f"registry  {view.registry_snapshot}",
    ]
    lines += failure(view.error)
    head = ("transition", "processor", "status", "attempt")
    steps = [
        (row.transition, row.processor_ref, _status(row.status, row.error_code), str(row.attempt))
        for row in view.transitions
    ]
    lines += ["", *table([head, *steps], right=frozenset({3}))]
    lines += ["", *costs(view)]
    if view.outputs:
        lines += ["", *outputs(view.outputs)]
        if not view.outputs_complete:
            lines.append("and more: theory artifact ls")
    return lines


def failure(error: ErrorView | None) -> list[str]:
    """Why a plan failed, and what to do about the step that is to blame."""
    if error is None:
        return []
    cause = str(error.detail.get("cause", error.code))
    return [f"error  {cause}: {error.message}", f"  what to do: {remedy(cause)}"]


def costs(view: PlanView) -> list[str]:
    """What each step reserved and spent, and what that leaves of the plan's budget."""
    shown = used([{line.dimension: line.spent for line in view.budget}])
    rows: list[Sequence[str]] = [("step", "", *(heading(name) for name in shown))]
    for step in view.transitions:
        held, spent = totals(step)
        rows.append(
            (step.transition, "reserved", *(amount(name, held.get(name)) for name in shown))
        )
        rows.append(("", "spent", *(amount(name, spent.get(name)) for name in shown)))
    by_name = {line.dimension: line for line in view.budget}
    rows.append(("plan", "limit", *(amount(name, by_name[name].limit) for name in shown)))
    rows.append(("", "spent", *(amount(name, by_name[name].spent) for name in shown)))
    return table(rows, right=frozenset(range(2, len(shown) + 2)))


def totals(step: TransitionView) -> tuple[dict[str, int], dict[str, int]]:
    """What the attempts of a step reserved and were settled at, added up."""
    held: dict[str, int] = {}
    spent: dict[str, int] = {}
    for attempt in step.executions:
        _add(held, attempt.reserved)
        _add(spent, attempt.spent or {})
    return held, spent


def outputs(found: Sequence[ArtifactView]) -> list[str]:
    """Artifacts with their sizes and the begin of their digests."""
    rows = [(row.path, str(row.size_bytes), row.cid[:15], row.mime) for row in found]
    return table([("artifact", "bytes", "cid", "type"), *rows], right=frozenset({1}))


def why(view: PlanWhy) -> list[str]:
    """What holds each transition that has not succeeded."""
    if not view.waiting:
        return [f"{view.plan} is {view.status}; every transition succeeded"]
    rows = [(row.transition, row.status, row.condition, row.reason) for row in view.waiting]
    return table([("transition", "status", "condition", "reason"), *rows])


def _add(total: dict[str, int], vector: Mapping[str, int]) -> None:
    for name, value in vector.items():
        total[name] = total.get(name, 0) + value


def _status(status: str, code: str | None) -> str:
    return status if code is None else f"{status} ({code})"
