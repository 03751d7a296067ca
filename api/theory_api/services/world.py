"""What stands at any WorldPath of a plan: the plan's facets as one address space."""

from __future__ import annotations

from typing import Any

import msgspec

from theory_api.domain.events import PlanCreated
from theory_api.domain.kinds import from_data
from theory_api.ports.truth import ReadModel
from theory_api.services.queries import Queries, event_view
from theory_api.services.streams import sealed
from theory_api.services.views import WorldView
from theory_core import TheoryError, WorldPath


class Worlds:
    """Answers addresses (spec: WorldPath, the World is addressable).

    Raises `TheoryError`: the path codes for a text that is no WorldPath, `ERR_NOT_FOUND`.
    """

    def __init__(self, read: ReadModel, queries: Queries) -> None:
        self._read = read
        self._queries = queries

    async def at(self, path: str, *, after: str = "") -> WorldView:
        """What stands at an absolute path or `world://` address; lists begin after `after`."""
        world = WorldPath(path)
        plan = world.root
        value: Any
        match (world.facet, tuple(world.segments)):
            case ("plan", ()):
                kind, value = "plan", await self._queries.show(plan)
            case ("plan", ("budget",)):
                kind, value = "budget", await self._budget(plan)
            case ("plan", ("policy",)):
                kind, value = "policy", await self._policy(plan)
            case ("plan", ("transitions", name)):
                kind, value = "transition", await self._transition(plan, name)
            case ("ledger", (seq,)):
                kind, value = "event", await self._event(plan, seq)
            case ("artifacts", _) if world.is_prefix:
                kind, value = (
                    "artifacts",
                    await self._queries.artifacts(plan, str(world), after=after),
                )
            case ("artifacts", _):
                content = await self._queries.artifact(plan, str(world))
                kind, value = "artifact", content.artifact
            case ("streams", _) if world.is_prefix:
                kind, value = "streams", await sealed(self._read, world, after)
            case ("streams", (_, *_)):
                kind, value = "stream", await sealed(self._read, world, after)
            case _:
                raise _nothing()
        return WorldView(
            path=str(world), uri=str(world.uri), kind=kind, value=msgspec.to_builtins(value)
        )

    async def _budget(self, plan: str) -> Any:  # noqa: ANN401
        await self._read.plan(plan)
        return await self._queries.budget(plan)

    async def _policy(self, plan: str) -> Any:  # noqa: ANN401
        await self._read.plan(plan)
        first = event_view((await self._read.events(plan, limit=1))[0]).event
        created = from_data(first.kind, first.data)
        if not isinstance(created, PlanCreated):
            raise _nothing()
        return created.policy

    async def _transition(self, plan: str, name: str) -> Any:  # noqa: ANN401
        for entry in (await self._queries.show(plan)).transitions:
            if entry.transition == name:
                return entry
        raise _nothing()

    async def _event(self, plan: str, seq: str) -> Any:  # noqa: ANN401
        row = await self._read.plan(plan)
        number = int(seq) if seq.isascii() and seq.isdigit() and len(seq) < 16 else 0  # noqa: PLR2004
        if not 1 <= number <= row.head_seq or seq != str(number):
            raise _nothing()
        stored = await self._read.events(plan, after=number - 1, limit=1)
        return event_view(stored[0])


def _nothing() -> TheoryError:
    return TheoryError("ERR_NOT_FOUND", "nothing stands at this address", {})
