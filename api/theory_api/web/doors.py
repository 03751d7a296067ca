"""What the web needs from the rest: services, the live feed, and who may come in."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Protocol

from litestar.di import NamedDependency

from theory_api.ports.truth import StoredEvent
from theory_api.scheduler.shards import Served
from theory_api.scheduler.watching import Watching
from theory_api.services.ledger import Ledgers
from theory_api.services.plans import PlanCommands, Submitter
from theory_api.services.queries import Queries
from theory_api.services.world import Worlds
from theory_core import TheoryError


class Scheduler(Submitter, Protocol):
    """The part of the scheduler that the web talks to."""

    def subscribe(self, plan: str, *, after: int = 0) -> AsyncIterator[StoredEvent]:
        """Every event with `seq > after`, once and in order; ends after the plan's last one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Doors:
    """Everything behind the web, handed over by the composition root."""

    plans: PlanCommands
    queries: Queries
    ledgers: Ledgers
    worlds: Worlds
    engine: Scheduler
    watching: Watching
    key: str
    """The bearer key of this home."""
    tenant: str
    """The tenant that the key belongs to."""
    principal: str
    """Who acts with the key, in events and idempotency scopes."""
    unready: Callable[[], TheoryError | None]
    """Why the scheduler cannot serve, or None while it can."""
    version: str
    served: Callable[[], Served] = lambda: Served(())
    """The shards that this process serves."""
    send_timeout_s: float = 10.0
    """How long one frame may wait for a slow reader before the stream is cut."""


InjectedDoors = NamedDependency[Doors]
"""The doors as controllers are given them."""
