"""Images and waiting containers of this machine, for people: built, started, listed, stopped."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from theory_api.adapters.docker.engine import Engine
from theory_api.adapters.docker.images import Images
from theory_api.adapters.docker.sandbox import limits
from theory_api.adapters.docker.warm import Kind, Pool, pool
from theory_api.adapters.process import folder_resolver
from theory_api.adapters.run_v1.health import HealthPace
from theory_api.delivery.images import Archive, Builder, Source
from theory_api.delivery.snapshot import load_registry
from theory_api.settings import Settings
from theory_api.wiring import start_logging

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Waiting:
    """A container that waits for work."""

    name: str
    ref: str
    image: str
    digest: str
    container: str
    busy: bool


class Containers:
    """What the command line does with the engine; every method raises `ERR_DOCKER` without one."""

    def __init__(self, settings: Settings, engine: Engine, waiting: Pool) -> None:
        self._settings = settings
        self._engine = engine
        self._waiting = waiting

    async def build(self, ref: str, *, mode: str, on_progress: Progress) -> Archive:
        """Build the image of a processor from its source and have the engine take it in.

        Raises `TheoryError`: `ERR_NOT_FOUND`, `ERR_UNAVAILABLE`, `ERR_STORAGE`.
        """
        settings = self._settings
        spec = load_registry(settings.registry).processor(ref)
        source = Source(ref, folder_resolver(settings.processors)(ref), spec.image, mode)
        builder = Builder(settings.cache, settings.wheels, platform=settings.platform)
        archive = await asyncio.to_thread(builder.build, source, on_progress)
        found = await self._engine.image(archive.reference)
        if found is None or found.id != archive.image_id:
            on_progress(f"Loading the image of {ref}")
            await self._engine.load(archive.file)
        return archive

    async def start(self, ref: str) -> list[str]:
        """Start as many containers as the processor declares at once; those there are count.

        Raises `TheoryError`: `ERR_NOT_FOUND`, `ERR_IMAGE_NOT_FOUND`, `ERR_IMAGE_UNPINNED`,
        `ERR_IMAGE_PULL`, `ERR_REGISTRY_MISMATCH`, `ERR_HEALTH`.
        """
        settings, snapshot = self._settings, load_registry(self._settings.registry)
        spec = snapshot.processor(ref)
        expected = snapshot.pin(ref, lane=settings.lane, platform=settings.platform)
        images = Images(self._engine, registry=settings.image_registry, platform=settings.platform)
        chosen = await images.choose(spec.image, expected)
        kind = Kind(ref, chosen, limits(spec, "mock"))
        there = [one for one in await self.listed(ref) if one.image == chosen.id]
        missing = max(0, spec.runtime.concurrency - len(there))
        return [await self._waiting.start(kind, pace=HealthPace()) for _ in range(missing)]

    async def stop(self, ref: str) -> list[str]:
        """Stop the containers of a processor, or of all; whoever runs in one is killed."""
        listed = await self.listed(ref)
        for one in listed:
            await self._waiting.discard(one.name)
        return [one.name for one in listed]

    async def listed(self, ref: str = "") -> list[Waiting]:
        """The waiting containers of a processor, or of all."""
        names = Waiting.__dataclass_fields__
        return [
            Waiting(**{name: facts[name] for name in names})
            for facts in await self._waiting.listed(ref)
        ]

    async def said(self, one: Waiting, *, lines: int) -> str:
        """What a container wrote last."""
        found = await self._waiting.said(one.container, lines=lines)
        return found.decode("utf-8", "replace")


@contextlib.asynccontextmanager
async def containers(settings: Settings) -> AsyncIterator[Containers]:
    """The containers of a home, until the block ends; they stay."""
    start_logging(settings)
    engine = Engine(settings.docker_host)
    try:
        yield Containers(settings, engine, pool(engine, settings.home))
    finally:
        engine.close()
