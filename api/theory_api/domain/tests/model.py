"""A plan as a bank, a register and a list would run it: the oracle of the state machine."""

from dataclasses import dataclass, field


@dataclass
class Step:
    """One entry of the register."""

    needs: tuple[str, ...]
    ask: dict[str, int]
    shared: str | None
    status: str = "pending"
    tries: int = 0
    lost: bool = False
    unwanted: bool = False


@dataclass
class Model:
    """What a plan must be after each command, worked out by the simplest means."""

    limit: dict[str, int]
    steps: dict[str, Step]
    attempts: int
    pause_on_refused: bool
    pause_on_breach: bool
    status: str = "active"
    breached: bool = False
    doomed: bool = False
    spent: dict[str, int] = field(default_factory=dict)
    ends: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        for name, step in self.steps.items():
            if step.status == "pending" and not self.fits(step, holds=False):
                self.refuse(name)

    def open(self) -> list[str]:
        return [name for name, step in self.steps.items() if step.status == "applying"]

    def waiting(self) -> list[str]:
        return [name for name, step in self.steps.items() if step.status == "pending"]

    def reserved(self, dimension: str) -> int:
        return sum(self.steps[name].ask.get(dimension, 0) for name in self.open())

    def fits(self, step: Step, *, holds: bool) -> bool:
        asked = {one: ask for one, ask in step.ask.items() if one in self.limit}
        taken = {one: self.spent.get(one, 0) + holds * self.reserved(one) for one in asked}
        return all(taken[one] + ask <= self.limit[one] for one, ask in asked.items())

    def free(self, step: Step) -> bool:
        held = [other for name in self.open() if (other := self.steps[name].shared)]
        return not any(overlap(step.shared, other) for other in held if step.shared)

    def admit(self, name: str) -> None:
        step = self.steps[name]
        if step.status != "pending" or self.status != "active" or self.breached or self.doomed:
            return
        ready = all(self.steps[one].status == "succeeded" for one in step.needs)
        if not self.fits(step, holds=False):
            self.refuse(name)
        elif ready and self.free(step) and self.fits(step, holds=True):
            step.status = "applying"
            step.tries += 1

    def refuse(self, name: str) -> None:
        if self.steps[name].status == "pending" and self.status in {"active", "paused"}:
            self.end(name, "refused")
            self.react(pause=self.pause_on_refused)

    def react(self, *, pause: bool) -> None:
        if not pause:
            self.doomed = True
            self.end_pending()
        elif self.status == "active":
            self.status = "paused"

    def complete(self, name: str, how: str, used: dict[str, int]) -> None:
        step = self.steps[name]
        if step.status != "applying":
            return
        how, step.lost = "orphaned" if step.lost else how, False
        booked = {} if how == "void" else step.ask | used
        bound = {*self.limit, *step.ask}
        over = any(booked[one] > step.ask.get(one, 0) for one in booked if one in bound)
        self.spent |= {one: self.spent.get(one, 0) + booked[one] for one in booked}
        excused = how in {"void", "cancelled"}
        step.tries -= excused
        self.settle(name, how, again=not over and (excused or step.tries < self.attempts))
        if over:
            self.breached = True
            self.react(pause=self.pause_on_breach)
        if self.status == "cancelling" and not self.open():
            self.status = "cancelled"

    def stop(self, name: str) -> None:
        step = self.steps[name]
        running = step.status == "applying" and not step.lost
        step.unwanted |= running and self.status != "cancelling"

    def orphan(self, name: str) -> None:
        self.steps[name].lost = self.steps[name].status == "applying"

    def settle(self, name: str, how: str, *, again: bool) -> None:
        if how == "succeeded":
            self.end(name, "succeeded")
        elif self.status == "cancelling" or self.steps[name].unwanted:
            self.end(name, "failed" if how == "failed" else "cancelled")
        elif again and not self.doomed:
            self.steps[name].status = "pending"
        else:
            self.end(name, "failed")

    def end(self, name: str, how: str) -> None:
        self.steps[name].status = how
        self.ends.append(name)
        for other, step in self.steps.items():
            if how != "succeeded" and name in step.needs and step.status == "pending":
                self.end(other, "skipped")

    def end_pending(self) -> None:
        for name in self.waiting():
            self.steps[name].status = "cancelled"
            self.ends.append(name)

    def cancel(self) -> None:
        if self.status in {"active", "paused"}:
            self.end_pending()
            self.status = "cancelling" if self.open() else "cancelled"

    def conclude(self) -> None:
        if self.status in {"active", "paused"} and len(self.ends) == len(self.steps):
            well = all(step.status == "succeeded" for step in self.steps.values())
            self.status = "completed" if well and not self.doomed else "failed"


def overlap(left: str, right: str) -> bool:
    """Whether two selectors, prefixes if they end in a slash, may name one address."""
    a, b = left.rstrip("/") + "/", right.rstrip("/") + "/"
    return a == b or (left == a and b.startswith(a)) or (right == b and a.startswith(b))
