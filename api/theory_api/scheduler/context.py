"""What the scheduler's parts share: the ports, the limits, and who listens for progress."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from theory_api.ports.adapter import Adapter
from theory_api.ports.artifacts import ArtifactStore
from theory_api.ports.clock import Clock
from theory_api.ports.folds import FoldStore
from theory_api.ports.intake import Intakes
from theory_api.ports.registry import Snapshots
from theory_api.ports.scratch import Keeping, Scratch
from theory_api.ports.stream_bus import StreamBus
from theory_api.ports.world import World
from theory_api.scheduler.capacity import Capacity
from theory_api.scheduler.hub import Hub

PASSING: Final = frozenset({"ERR_UNAVAILABLE", "ERR_STORAGE"})
"""Faults of a store or an adapter that may pass: the scheduler waits and asks again."""


@dataclass(frozen=True, slots=True)
class Notice:
    """Something for people who wait; not part of any ledger."""

    plan: str
    transition: str
    phase: str
    """`prepare`, `run`, or a phase that the processor names."""
    text: str = ""
    progress: float | None = None
    """Share done, 0 to 1, where it is known."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How much at once, and how often the scheduler looks."""

    parallel: int = 4
    """Executions at once over all plans of a process."""
    meter_s: float = 0.2
    """Between two looks at running usage."""
    poll_s: float = 1.0
    """Between two looks at admission predicates that were false."""
    stop_grace_s: float = 30.0
    """How long a confirmed stop may take before the execution counts as orphaned."""
    doubt_s: float = 60.0
    """After a commit that nobody answered, until its plan is read again: it may have come late."""
    overtime_s: float = 120.0
    """After a run's own timeout, until it is stopped though its adapter has not returned."""
    fold_events: int = 500
    """Events of a plan between two of its kept folds."""
    prepare_s: float = 1800.0
    """How long making an adapter ready may take; a large image over a slow line is let be."""
    recovery_s: float = 1.0
    """How long a start waits for decisions about open executions; they go on behind it."""
    recovering: int = 256
    """Open executions of an earlier owner that are decided about at once."""


@dataclass(frozen=True, slots=True)
class Context:
    """The ports of one scheduler. No part of it is global."""

    world: World
    artifacts: ArtifactStore
    scratch: Scratch
    intakes: Intakes
    snapshots: Snapshots
    adapters: Mapping[str, Adapter]
    clock: Clock
    platform: str
    """`amd64` or `arm64`: what declared facts of an execution say."""
    default_adapter: str = "process"
    pace: Pace = field(default_factory=Pace)
    notify: Callable[[Notice], None] = lambda _notice: None
    keeping: Keeping | None = None
    """Keeps notes together with what they name; None: artifacts first, then the note."""
    folds: FoldStore | None = None
    """What shortens a start; without it every ledger is folded from its first event."""
    hub: Hub | None = None
    """Where commits are published; readers of one that outlives its scheduler stay."""
    streams: StreamBus | None = None
    """Who hands the frames of runs on to those who watch; None: nobody watches."""
    capacity: Capacity | None = None
    """Places shared with other schedulers of this process; None: the pace's `parallel` alone."""
    secret: Callable[[str], str | None] = lambda _name: None
    """The value of a secret, as far as this process knows it: what no run may tell."""
