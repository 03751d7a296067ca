"""What happens to a plan while somebody waits: its steps as events and notices tell them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from theory_api.cli.costs import sentence

ENDED: Final = frozenset({"succeeded", "failed", "cancelled", "skipped", "refused"})


@dataclass(slots=True)
class Row:
    """One step of the plan."""

    status: str = "waiting"
    attempt: int = 1
    reserved: Mapping[str, int] = field(default_factory=dict)
    spent: Mapping[str, int] = field(default_factory=dict)
    note: str = ""
    progress: float | None = None


class Board:
    """The steps of one plan, in the order in which they were proposed."""

    def __init__(self) -> None:
        self.rows: dict[str, Row] = {}

    def event(self, kind: str, data: Mapping[str, Any]) -> str | None:
        """Take in an event; a sentence about it where people want one."""
        if kind == "transition.proposed":
            self.rows[data["transition"]] = Row()
            return None
        if kind.startswith("plan."):
            return _about_plan(kind, data)
        row = self.rows.get(data.get("transition", ""))
        return None if row is None else _about_step(kind, data, row)

    def notice(self, transition: str, phase: str, text: str, progress: float | None) -> str | None:
        """Take in what is no event; a sentence about it where it is news."""
        row = self.rows.get(transition)
        if row is not None and row.status in ENDED:
            return None
        if row is not None:
            row.note, row.progress = text or phase, progress
        # Preparations may begin before the first event was read.
        return f"{transition}: {text}" if text and phase == "prepare" else None


def _about_step(kind: str, data: Mapping[str, Any], row: Row) -> str | None:
    name = data["transition"]
    match kind:
        case "budget.reserved":
            row.reserved = data["hold"]
        case "budget.settled":
            row.spent = _sum(row.spent, data["actual"])
        case "execution.started":
            row.status, row.attempt, row.note = "running", data["attempt"], ""
            again = f" (attempt {row.attempt})" if row.attempt > 1 else ""
            return f"{name}: started{again}, reserved {sentence(row.reserved)}"
        case "execution.controlled":
            row.note = data["op"].replace("_", " ")
            return f"{name}: {row.note}, asked for by {data['by']}"
        case "transition.retried":
            row.status, row.note = "waiting", f"again after {data['error']['code']}"
            delay = data["delay_ms"] / 1000
            return f"{name}: {_fault(data['error'])}; next attempt in {delay:.1f} s"
        case _ if kind.removeprefix("transition.") in ENDED:
            return f"{name}: {_ending(kind.removeprefix('transition.'), data, row)}"
    return None


def _ending(status: str, data: Mapping[str, Any], row: Row) -> str:
    row.status, row.note, row.progress = status, "", None
    if "error" in data:
        row.note = data["error"]["code"]
        return f"{status}, {_fault(data['error'])}"
    if "because" in data:
        row.note = f"because of {data['because']}"
        return f"{status} {row.note}"
    row.note = data.get("reason", "")
    return f"{status}, spent {sentence(row.spent)}" if row.spent else status


def _about_plan(kind: str, data: Mapping[str, Any]) -> str | None:
    match kind:
        case "plan.created" | "plan.child_created":
            return None
        case "plan.failed":
            return f"plan failed, {_fault(data['error'])}"
        case "plan.cancel_requested":
            return "plan: cancel requested, waiting until everything has stopped"
        case _:
            return kind.replace(".", " ", 1)


def _fault(error: Mapping[str, Any]) -> str:
    return f"{error['code']}: {error['message']}"


def _sum(left: Mapping[str, int], right: Mapping[str, int]) -> dict[str, int]:
    return {name: left.get(name, 0) + right.get(name, 0) for name in {**left, **right}}
