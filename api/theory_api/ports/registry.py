"""Registry snapshots by id: what a plan pinned stays what it was."""

from __future__ import annotations

from typing import Protocol

from theory_api.domain.registry import RegistrySnapshot


class Snapshots(Protocol):
    """Keeps every registry snapshot that a plan pinned."""

    @property
    def current(self) -> RegistrySnapshot:
        """The snapshot of the registry as this process found it."""

    async def pin(self) -> RegistrySnapshot:
        """The current snapshot, durable on return."""

    async def get(self, snapshot_id: str) -> RegistrySnapshot:
        """A pinned snapshot; `ERR_NOT_FOUND`, `ERR_ARTIFACT_DIGEST`."""
