"""The world as predicates and inputs see it: what artifacts are there."""

from __future__ import annotations

from typing import Protocol

from theory_api.ports.truth import ArtifactRow


class World(Protocol):
    """Artifacts of one plan, as of its last committed event or later.

    Raises `TheoryError` `ERR_UNAVAILABLE`.
    """

    async def artifact(self, plan: str, path: str) -> ArtifactRow | None:
        """The artifact at an exact plan-relative path."""

    async def artifacts(
        self, plan: str, prefix: str, *, after: str = "", limit: int = 1000
    ) -> list[ArtifactRow]:
        """Artifacts below a prefix that ends in `/`, ordered by path (bytewise)."""
