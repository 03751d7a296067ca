"""A second reading of a ledger: plain data in, laws out; shares no code with the domain."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

ENDS_PLAN = {"plan.completed", "plan.failed", "plan.cancelled"}
ENDS_TRANSITION = {
    "transition.succeeded",
    "transition.failed",
    "transition.refused",
    "transition.skipped",
    "transition.cancelled",
}


@dataclass
class Audit:
    """What the events so far say, kept as a bank, a register and a list would keep it."""

    limit: dict[str, int] = field(default_factory=dict)
    spent: dict[str, int] = field(default_factory=dict)
    holds: dict[str, dict[str, int]] = field(default_factory=dict)
    leases: dict[str, list[tuple[str, str]]] = field(default_factory=dict)
    closed: set[str] = field(default_factory=set)
    ended: dict[str, str] = field(default_factory=dict)
    final: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)

    @property
    def reserved(self) -> dict[str, int]:
        """Sum of all open holds."""
        total: dict[str, int] = {}
        for hold in self.holds.values():
            for name, amount in hold.items():
                total[name] = total.get(name, 0) + amount
        return total

    def read(self, kind: str, data: Mapping[str, Any]) -> None:
        """Take one event down, and note every law that it breaks."""
        self._law(not self.final, f"{kind} after {self.final}")
        name = data.get("transition")
        if name in self.ended:
            self._law(not kind.startswith("transition."), f"{kind} of {name} after its end")
            self._law(kind != "budget.reserved", f"{kind} of {name} after its end")
        if kind in ENDS_PLAN:
            self.final.append(kind)
            self._law(not self.holds, f"{kind} with open holds")
            self._law(not self.leases, f"{kind} with open leases")
        elif kind in ENDS_TRANSITION:
            self.ended[data["transition"]] = kind
        elif kind in {"plan.created", "budget.topped_up"}:
            self.limit = dict(data["limit"])
        elif kind.startswith("budget.") and kind != "budget.breached":
            self._bank(kind, data["execution_id"], data)
        elif kind == "lease.acquired":
            self._lease(data["execution_id"], data["selectors"])
        elif kind == "lease.released":
            self._law(data["execution_id"] in self.leases, "a lease is released twice")
            self.leases.pop(data["execution_id"], None)

    def _law(self, holds: bool, otherwise: str) -> None:  # noqa: FBT001
        if not holds:
            self.broken.append(otherwise)

    def _bank(self, kind: str, ident: str, data: Mapping[str, Any]) -> None:
        if kind == "budget.reserved":
            self._law(ident not in self.holds and ident not in self.closed, "reserved twice")
            reserved = self.reserved
            for name, ask in data["hold"].items():
                taken = self.spent.get(name, 0) + reserved.get(name, 0)
                self._law(taken + ask <= self.limit.get(name, 2**53 - 1), f"{name} over its limit")
            self.holds[ident] = dict(data["hold"])
            return
        self._law(self.holds.pop(ident, None) == data["hold"], f"{kind} of another hold")
        self._law(ident not in self.closed, "settled twice")
        self.closed.add(ident)
        for name, amount in data.get("actual", {}).items():
            self._law(amount >= 0, "negative usage")
            self.spent[name] = self.spent.get(name, 0) + amount

    def _lease(self, ident: str, selectors: Iterable[Mapping[str, str]]) -> None:
        mine = [(one["kind"], one["path"].rstrip("/") + "/") for one in selectors]
        for other in self.leases.values():
            for kind, path in other:
                for my_kind, my_path in mine:
                    inside = kind == "prefix" and my_path.startswith(path)
                    around = my_kind == "prefix" and path.startswith(my_path)
                    self._law(not (inside or around or path == my_path), "leases overlap")
        self.leases[ident] = mine
