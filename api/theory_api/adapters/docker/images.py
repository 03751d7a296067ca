"""Which image of the engine a processor runs in: the pinned one, or what was built here last."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from theory_api.adapters.docker.engine import Engine, Image
from theory_api.adapters.run_v1.calling import coded
from theory_core import TheoryError

BUILT: Final = "build"
"""The tag of what was built here last; it is resolved to an image id before anything runs."""
TAG_LENGTH: Final = 32
"""Characters of an image id that a pushed image is tagged with."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """An image to run."""

    id: str
    digest: str | None
    """The pinned digest under which the engine knows it."""


class Images:
    """Finds images; `registry` is the host that pinned ones are pulled from.

    `built` is the tag of what was built here last.
    """

    def __init__(self, engine: Engine, *, registry: str, platform: str, built: str = BUILT) -> None:
        self._engine = engine
        self._registry = registry
        self.platform = platform
        self._built = built
        self._pinned: dict[tuple[str, str], Chosen] = {}

    async def choose(self, repository: str, expected: str | None) -> Chosen:
        """The image of a repository: by its digest, else as it was built here last.

        Raises `TheoryError`: `ERR_IMAGE_NOT_FOUND`, `ERR_IMAGE_PULL`, `ERR_REGISTRY_MISMATCH`
        (another platform, or another digest than was asked for), `ERR_DOCKER`.
        """
        if expected is None:
            found = await self._engine.image(f"{repository}:{self._built}")
            if found is None:
                raise coded("ERR_IMAGE_NOT_FOUND", "build it: theory image build")
            self._check(found)
            return Chosen(found.id, None)
        known = self._pinned.get((repository, expected))
        if known is None:
            known = self._pinned[repository, expected] = await self._find(repository, expected)
        return known

    async def _find(self, repository: str, expected: str) -> Chosen:
        place = self.place(repository)
        found = await self._engine.image(f"{place}@{expected}")
        if found is None:
            await self._engine.pull(place, expected)
            found = await self._engine.image(f"{place}@{expected}")
        if found is None:
            raise coded("ERR_IMAGE_NOT_FOUND", expected)
        self._check(found)
        if expected not in found.digests:
            raise coded("ERR_REGISTRY_MISMATCH", "image_digest")
        return Chosen(found.id, expected)

    def place(self, repository: str) -> str:
        """Where the images of a repository are had from."""
        return f"{self._registry}/{repository}" if self._registry else repository

    async def push(self, repository: str, built: Chosen) -> Chosen:
        """Have the registry take what was built here, and answer it with its digest there.

        Laws: the tag is the image id's, so no tag ever moves to another image; the digest counts
        if the engine knows the same image by it. Raises `TheoryError` as `Engine.push`, and
        `ERR_REGISTRY_MISMATCH`.
        """
        place = self.place(repository)
        tag = built.id.removeprefix("sha256:")[:TAG_LENGTH]
        digest = await self._engine.push(built.id, place, tag)
        found = await self._engine.image(f"{place}@{digest}")
        if found is None or found.id != built.id:
            raise coded("ERR_REGISTRY_MISMATCH", "the registry has another image than was pushed")
        return Chosen(built.id, digest)

    def forget(self, chosen: Chosen) -> None:
        """An image that was known is not there any more."""
        self._pinned = {key: one for key, one in self._pinned.items() if one.id != chosen.id}

    def _check(self, found: Image) -> None:
        """Law: an image for another machine is a mismatch, never emulated silently."""
        if found.platform != self.platform:
            raise coded("ERR_REGISTRY_MISMATCH", "platform")


def absent(error: TheoryError) -> bool:
    """Whether the engine refused because something is not there."""
    return error.detail.get("status") == 404  # noqa: PLR2004 - HTTP
