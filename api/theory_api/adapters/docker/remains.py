"""What owners that died left in the engine: found by label and mark, ended, removed."""

from __future__ import annotations

import asyncio
from collections.abc import Set as AbstractSet

import structlog

from theory_api.adapters.docker.engine import Engine
from theory_api.adapters.docker.sandbox import LABEL_EXECUTION, LABEL_HOME
from theory_api.adapters.docker.warm import Pool
from theory_api.adapters.run_v1.places import Places
from theory_api.ports.adapter import Standing
from theory_core import TheoryError

log = structlog.get_logger(__name__)


class Remains:
    """Executions of a home that nobody here runs.

    The mark of an execution that was lent a waiting container names that container.
    """

    def __init__(self, engine: Engine, places: Places, pool: Pool, home: str) -> None:
        self._engine = engine
        self._places = places
        self._pool = pool
        self._home = home
        self._swept = False

    async def standing(self, execution_id: str) -> Standing:
        """Where an execution stands; raises `TheoryError` `ERR_DOCKER` if it cannot be known."""
        if not await asyncio.to_thread(self._places.is_marked, execution_id):
            return Standing.ABSENT
        lent = await asyncio.to_thread(self._places.noted, execution_id)
        if lent and await self._pool.works_for(lent, execution_id):
            return Standing.RUNNING
        return Standing.RUNNING if await self._containers(execution_id) else Standing.GONE

    async def remove(self, execution_id: str) -> bool:
        """Kill and remove what is left of an execution; whether nothing is."""
        if not await asyncio.to_thread(self._places.is_marked, execution_id):
            return True
        try:
            lent = await asyncio.to_thread(self._places.noted, execution_id)
            if lent and not await self._pool.abandoned(lent, execution_id):
                return False
        except TheoryError as error:
            log.warning("adapter.container.unstopped", code=error.code, reason=error.message)
            return False
        return await self.remove_own(execution_id)

    async def remove_own(self, execution_id: str) -> bool:
        """Kill and remove the containers of an execution's own; whether none is left."""
        try:
            found = await self._containers(execution_id)
            for container in found:
                await self._engine.remove(container)
            return not found or not await self._containers(execution_id)
        except TheoryError as error:
            log.warning("adapter.container.unstopped", code=error.code, reason=error.message)
            return False

    async def sweep(self, living: AbstractSet[str]) -> None:
        """Once: remove the containers of this home that no mark speaks of, and no pool."""
        if self._swept:
            return
        labels = {LABEL_HOME: self._home, LABEL_EXECUTION: ""}
        for found in await self._engine.containers(labels):
            name = found["Labels"][LABEL_EXECUTION]
            marked = await asyncio.to_thread(self._places.is_marked, name)
            if name not in living and not marked:
                log.warning("adapter.container.reaped", execution_id=name)
                await self._engine.remove(found["Id"])
        await self._pool.sweep()
        self._swept = True

    async def _containers(self, execution_id: str) -> list[str]:
        labels = {LABEL_HOME: self._home, LABEL_EXECUTION: execution_id}
        return [found["Id"] for found in await self._engine.containers(labels)]
