"""Registry snapshots that plans pinned, kept as artifacts: the id is the content id."""

from __future__ import annotations

from theory_api.domain.registry import RegistrySnapshot
from theory_api.ports.artifacts import ArtifactStore
from theory_core import TheoryError


class PinnedSnapshots:
    """`Snapshots` over an artifact store; see `theory_api.ports.registry` for the contract."""

    def __init__(self, artifacts: ArtifactStore, current: RegistrySnapshot) -> None:
        self._artifacts = artifacts
        self._current = current
        self._known = {current.id: current}
        self._pinned = False

    @property
    def current(self) -> RegistrySnapshot:
        """The snapshot of the registry as this process found it."""
        return self._current

    async def pin(self) -> RegistrySnapshot:
        """The current snapshot, durable on return."""
        if not self._pinned:
            blob = await self._artifacts.put(self._current.document)
            if blob.cid != self._current.id:
                message = "the registry snapshot's id is not the digest of its document"
                raise TheoryError("ERR_ARTIFACT_DIGEST", message, {"cid": blob.cid})
            self._pinned = True
        return self._current

    async def get(self, snapshot_id: str) -> RegistrySnapshot:
        """A pinned snapshot, from memory or the artifact store."""
        known = self._known.get(snapshot_id)
        if known is None:
            document = await self._artifacts.get(snapshot_id)
            known = self._known[snapshot_id] = RegistrySnapshot.from_document(document)
        return known
