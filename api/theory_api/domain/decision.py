"""What a command leads to: events to append, and effects for after the commit."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeVar

from theory_api.domain import events as ev
from theory_api.domain.state import PlanState
from theory_api.domain.values import Fault, InputBytes, Output
from theory_core import LIMITS

PORTION: Final = 500
"""Entries of one `artifact.produced` or `artifact.consumed` event (its schema's cap)."""

_ROOM: Final = LIMITS["json_in_truth_bytes"] * 3 // 4
"""Bytes of one event's entries; the rest is for its other members."""

_FIXED: Final = 160
"""Bytes of an entry's names, digest and size; its texts at most double when they are escaped."""

Entry = TypeVar("Entry", InputBytes, Output)


def portions(entries: Sequence[Entry]) -> Iterator[tuple[Entry, ...]]:
    """`entries` in pieces that one event each can hold, by number and by bytes."""
    piece: list[Entry] = []
    room = _ROOM
    for entry in entries:
        mime = entry.mime if isinstance(entry, Output) else ""
        size = _FIXED + 2 * len(entry.path.encode()) + 2 * len(mime.encode())
        if piece and (len(piece) == PORTION or size > room):
            yield tuple(piece)
            piece, room = [], _ROOM
        piece.append(entry)
        room -= size
    if piece:
        yield tuple(piece)


@dataclass(frozen=True, slots=True)
class Start:
    """Call the adapter for this execution."""

    execution_id: str


@dataclass(frozen=True, slots=True)
class Stop:
    """Ask the adapter to stop this execution; its outcome comes back as a command."""

    execution_id: str


@dataclass(frozen=True, slots=True)
class Steer:
    """Have this execution stand still or go on, and use no more than this."""

    execution_id: str
    paused: bool
    budget: Mapping[str, int]
    """By dimension, where that is less than its hold."""


@dataclass(frozen=True, slots=True)
class Delay:
    """Do not propose this transition again before the delay has passed."""

    transition: str
    delay_ms: int


Effect = Start | Stop | Steer | Delay


@dataclass(frozen=True, slots=True)
class Decision:
    """Events in their order, then effects. Neither: the command changes nothing."""

    events: tuple[ev.Event, ...] = ()
    effects: tuple[Effect, ...] = ()
    stale: bool = False
    """A predicate's answer is older than what it read: evaluate again and ask again."""


@dataclass(slots=True)
class Draft:
    """A decision in the making: collects events and carries out the cascades of endings."""

    state: PlanState
    events: list[ev.Event] = field(default_factory=list)
    effects: list[Effect] = field(default_factory=list)
    ended: set[str] = field(default_factory=set)
    """Transitions that end in this decision."""
    settled: set[str] = field(default_factory=set)
    """Executions that settle in this decision."""
    paused: bool = False
    """Whether this decision pauses the plan."""

    def emit(self, *events: ev.Event) -> None:
        """Append events."""
        self.events.extend(events)

    def end(self, event: ev.Event, transition: str) -> None:
        """Append the terminal event of a transition that did not succeed; skip its dependents.

        Law: whoever depends, directly or not, on something that did not succeed is skipped.
        """
        self.emit(event)
        self.ended.add(transition)
        waiting = [transition]
        while waiting:
            because = waiting.pop()
            for name in self.state.dependents.get(because, ()):
                if name not in self.ended and self.state.transitions[name].status == "pending":
                    self.emit(ev.TransitionSkipped(transition=name, because=because))
                    self.ended.add(name)
                    waiting.append(name)

    def refuse(self, transition: str, error: Fault) -> None:
        """End a transition that can never be admitted, and what the policy says follows."""
        self.end(ev.TransitionRefused(transition=transition, error=error), transition)
        if self.state.policy is not None and self.state.rules.on_refused == "pause":
            self.pause(f"{transition} was refused: {error.message}")
        else:
            self.halt("the plan is failing")

    def pause(self, reason: str) -> None:
        """Let the policy pause the plan, unless it is not running anyway."""
        if self.state.status == "active" and not self.paused:
            self.paused = True
            self.emit(ev.PlanPaused(by="policy", reason=reason))

    def halt(self, reason: str) -> None:
        """End every transition that has not started."""
        for name, entry in self.state.transitions.items():
            if entry.status == "pending" and name not in self.ended:
                self.emit(ev.TransitionCancelled(transition=name, reason=reason))
                self.ended.add(name)

    def open_after(self) -> Iterable[str]:
        """Executions that still hold their reservation after this decision."""
        return (name for name in self.state.open if name not in self.settled)

    def done(self) -> Decision:
        """The decision."""
        return Decision(tuple(self.events), tuple(self.effects))
