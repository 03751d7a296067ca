"""What one plan's events may say, kept as a bank, a register and a list: shares no domain code."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

MOST: Final = 2**53 - 1
OVER: Final = frozenset({"succeeded", "failed", "refused", "skipped", "cancelled"})
ENDS: Final = {
    "transition.succeeded": "applying",
    "transition.failed": "applying",
    "transition.retried": "applying",
    "transition.refused": "pending",
    "transition.skipped": "pending",
}
"""What ends or repeats a transition, and from which status; a cancellation from either."""

NEXT: Final[Mapping[str, tuple[str, str]]] = {
    "lease.acquired": ("admitted", "leased"),
    "budget.reserved": ("leased", "reserved"),
    "artifact.consumed": ("reserved", "reserved"),
    "secret.used": ("reserved", "reserved"),
    "execution.started": ("reserved", "started"),
    "execution.controlled": ("started", "started"),
    "artifact.produced": ("started", "started"),
    "stream.sealed": ("started", "started"),
    "execution.succeeded": ("started", "ended"),
    "execution.failed": ("started", "ended"),
    "execution.cancelled": ("started", "ended"),
    "execution.orphaned": ("started", "ended"),
    "predicate.checked": ("ended", "ended"),
    "budget.settled": ("ended", "settled"),
    "budget.voided": ("ended", "settled"),
    "budget.breached": ("settled", "settled"),
    "lease.released": ("settled", "released"),
}
"""The order of an execution's events: kind -> stage before and after it."""


@dataclass
class Step:
    """A transition in the register."""

    needs: tuple[str, ...]
    ask: dict[str, int]
    status: str = "pending"
    attempt: int = 1
    execution: str = ""


@dataclass
class Attempt:
    """An execution in the register."""

    transition: str
    number: int
    writes: list[tuple[str, str]]
    stage: str = "admitted"
    how: str = ""
    hold: dict[str, int] | None = None
    unwanted: bool = False
    paused: bool = False
    most: dict[str, int] = field(default_factory=dict)


@dataclass
class Model:
    """One plan. `read` answers with the laws that an event breaks."""

    status: str = "absent"
    limit: dict[str, int] = field(default_factory=dict)
    spent: dict[str, int] = field(default_factory=dict)
    steps: dict[str, Step] = field(default_factory=dict)
    attempts: dict[str, Attempt] = field(default_factory=dict)
    open: dict[str, Attempt] = field(default_factory=dict)
    rules: dict[str, Any] = field(default_factory=dict)
    breached: bool = False
    doomed: bool = False
    by: dict[str, list[str]] = field(default_factory=dict)
    """Who asked -> kinds of what it came to."""
    broken: list[str] = field(default_factory=list)

    def reserved(self, dimension: str) -> int:
        """The sum of all open holds."""
        return sum((one.hold or {}).get(dimension, 0) for one in self.open.values())

    def law(self, holds: bool, otherwise: str) -> None:  # noqa: FBT001
        if not holds:
            self.broken.append(otherwise)

    def read(self, kind: str, data: Mapping[str, Any]) -> None:
        """Take one event down, and note every law that it breaks."""
        self.law(self.status not in {"completed", "failed", "cancelled"}, f"{kind} after the end")
        if "by" in data:
            self.by.setdefault(data["by"], []).append(kind)
        if kind.startswith("plan."):
            self._plan(kind.removeprefix("plan."), data)
        elif kind == "transition.proposed":
            self.law(data["transition"] not in self.steps, "proposed twice")
            needs = tuple(data.get("depends_on", ()))
            self.steps[data["transition"]] = Step(needs, dict(data["hold"]))
        elif kind == "transition.admitted":
            self._admit(data)
        elif kind in ENDS or kind == "transition.cancelled":
            self._end(kind, data)
        elif kind == "budget.topped_up":
            self.limit = {d: n + data["amount"].get(d, 0) for d, n in self.limit.items()}
            self.law(self.limit == data["limit"], "a top-up that does not add up")
            self.breached = False
        elif "execution_id" in data:
            self._execution(kind, data["execution_id"], data)

    def _plan(self, what: str, data: Mapping[str, Any]) -> None:
        moves = {
            "created": (("absent",), "active"),
            "paused": (("active",), "paused"),
            "resumed": (("paused",), "active"),
            "cancel_requested": (("active", "paused"), "cancelling"),
            "cancelled": (("cancelling",), "cancelled"),
            "completed": (("active", "paused"), "completed"),
            "failed": (("active", "paused"), "failed"),
        }
        before, after = moves[what]
        self.law(self.status in before, f"plan.{what} while {self.status}")
        if what == "created":
            self.limit, self.rules = dict(data["limit"]), dict(data["policy"])
        if after in OVER | {"completed"}:
            self.law(not self.open, f"plan.{what} with open executions")
            ended = all(step.status in OVER for step in self.steps.values())
            self.law(ended, f"plan.{what} with unfinished transitions")
            self.law(data.get("spent", self.spent) == self.spent, f"plan.{what} misstates spending")
        well = all(step.status == "succeeded" for step in self.steps.values())
        self.law(what != "completed" or (well and not self.doomed), "completed without success")
        self.status = after

    def _admit(self, data: Mapping[str, Any]) -> None:
        step, name = self.steps[data["transition"]], data["execution_id"]
        self.law(self.status == "active", f"admitted while {self.status}")
        self.law(not self.breached, "admitted after a breach that no top-up answered")
        self.law(not self.doomed, "admitted in a failing plan")
        self.law(step.status == "pending", f"admitted while {step.status}")
        self.law(step.attempt == data["attempt"], "admitted under another attempt's number")
        self.law(name not in self.attempts, "two attempts of one name")
        ready = all(self.steps[need].status == "succeeded" for need in step.needs)
        self.law(ready, "admitted before its dependencies")
        writes = [(one["kind"], one["path"].rstrip("/") + "/") for one in data["write_set"]]
        step.status, step.execution = "applying", name
        made = Attempt(data["transition"], data["attempt"], writes)
        self.attempts[name] = self.open[name] = made

    def _execution(self, kind: str, name: str, data: Mapping[str, Any]) -> None:
        attempt = self.attempts.get(name)
        if attempt is None or kind not in NEXT:
            self.law(kind not in NEXT, f"{kind} of an execution that was never admitted")
            return
        before, after = NEXT[kind]
        self.law(attempt.stage == before, f"{kind} of an execution that is {attempt.stage}")
        attempt.stage = after
        step = self.steps[attempt.transition]
        mine = (attempt.transition, attempt.number)
        self.law(
            (data.get("transition"), data.get("attempt", mine[1])) == mine, f"{kind} of another"
        )
        if kind == "lease.acquired":
            others = [one for one in self.open.values() if one is not attempt]
            free = not any(overlap(attempt.writes, other.writes) for other in others)
            self.law(free, "leases that overlap")
        elif kind == "budget.reserved":
            self._reserve(attempt, step, data["hold"])
        elif kind.startswith("execution.") and after == "ended":
            attempt.how = kind.removeprefix("execution.")
        elif kind == "execution.controlled":
            self._control(attempt, data)
        elif kind == "budget.settled":
            self._settle(attempt, data)
        elif kind == "budget.voided":
            self.law(attempt.how == "orphaned", f"voided although it {attempt.how}")
            self.law(attempt.hold == data["hold"], "a void of another hold")
            self.open.pop(name, None)
        elif kind == "budget.breached":
            self.breached = True
            self.doomed |= self.rules["on_breach"] == "fail"
        if kind == "budget.settled":
            self.open.pop(name, None)

    def _control(self, attempt: Attempt, data: Mapping[str, Any]) -> None:
        op, budget = data["op"], data.get("budget", {})
        self.law(self.status in {"active", "paused"}, f"{op} while the plan is {self.status}")
        self.law(not attempt.unwanted, f"{op} of an execution that was cancelled")
        self.law(op != "pause" or not attempt.paused, "paused twice")
        self.law(op != "resume" or attempt.paused, "resumed although it goes on")
        limits = dict.fromkeys(self.limit, 0) | (attempt.hold or {}) | attempt.most
        rises = [name for name, most in budget.items() if most > limits.get(name, MOST)]
        self.law(not rises, f"a budget that rises: {rises}")
        attempt.unwanted = op == "cancel"
        attempt.paused = op == "pause" or (attempt.paused and op != "resume")
        attempt.most |= budget

    def _reserve(self, attempt: Attempt, step: Step, hold: dict[str, int]) -> None:
        self.law(hold == step.ask, "a hold that is not what was asked for")
        for dimension, amount in hold.items():
            taken = self.spent.get(dimension, 0) + self.reserved(dimension)
            room = self.limit.get(dimension, MOST) - taken
            self.law(amount <= room, f"{dimension}: {amount} reserved, {room} were free")
        attempt.hold = dict(hold)

    def _hopeless(self, step: Step) -> bool:
        """Whether a hold would not fit even if every other one came back."""
        return any(
            amount > self.limit.get(dimension, MOST) - self.spent.get(dimension, 0)
            for dimension, amount in step.ask.items()
        )

    def _settle(self, attempt: Attempt, data: Mapping[str, Any]) -> None:
        hold = attempt.hold or {}
        self.law(hold == data["hold"], "a settle of another hold")
        self.law(set(hold) <= set(data["actual"]), "a held dimension is not settled")
        for dimension, amount in data["actual"].items():
            self.law(0 <= amount <= MOST, f"{dimension}: {amount} spent")
            if data["basis"][dimension] == "hold":
                room = MOST - self.spent.get(dimension, 0)
                held = amount == min(hold.get(dimension, -1), room)
                self.law(held, "unknown usage not settled at its hold")
            self.spent[dimension] = self.spent.get(dimension, 0) + amount

    def _end(self, kind: str, data: Mapping[str, Any]) -> None:
        step, what = self.steps[data["transition"]], kind.removeprefix("transition.")
        running, attempt = "execution_id" in data, None
        before = ENDS.get(kind, "applying" if running else "pending")
        self.law(step.status == before, f"{kind} while {step.status}")
        if running:
            attempt = self.attempts.get(data["execution_id"])
            known = attempt is not None and step.execution == data["execution_id"]
            self.law(known, f"{kind} by an attempt that is not the newest")
            self.law(
                attempt is None or attempt.stage == "released", f"{kind} before the settlement"
            )
            well = attempt is not None and attempt.how == "succeeded"
            self.law(what != "succeeded" or well, "succeeded without a successful execution")
        step.status = what
        if what == "retried":
            wanted = attempt is None or not attempt.unwanted
            self.law(wanted, "retried although its execution was cancelled")
            self.law(data["next_attempt"] == step.attempt + 1, "a retry without a new attempt")
            step.status, step.attempt = "pending", data["next_attempt"]
        elif what == "skipped":
            because = self.steps[data["because"]].status
            self.law(because in OVER - {"succeeded"}, f"skipped because of one that is {because}")
        elif what == "refused":
            for_want = data["error"]["code"] == "ERR_BUDGET_EXCEEDED"
            self.law(not for_want or self._hopeless(step), "refused although its hold may fit")
            self.doomed |= self.rules["on_refused"] == "fail"


def overlap(left: Iterable[tuple[str, str]], right: Iterable[tuple[str, str]]) -> bool:
    """Whether two write sets may name one address."""
    return any(
        path == other
        or (kind == "prefix" and other.startswith(path))
        or (other_kind == "prefix" and path.startswith(other))
        for kind, path in left
        for other_kind, other in right
    )
