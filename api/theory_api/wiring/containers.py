"""Images and waiting containers of this machine, for people: built, started, listed, stopped."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from theory_api.adapters.docker.engine import Engine
from theory_api.adapters.docker.images import BUILT, Chosen, Images
from theory_api.adapters.docker.sandbox import limits
from theory_api.adapters.docker.warm import Kind, Pool, pool
from theory_api.adapters.process import folder_resolver
from theory_api.adapters.run_v1.health import HealthPace
from theory_api.delivery.images import Archive, Builder, Source
from theory_api.delivery.pins import Pinned, pin
from theory_api.delivery.snapshot import load_registry
from theory_api.settings import VARIABLES, Settings
from theory_api.wiring import start_logging
from theory_core import TheoryError

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


@dataclass(frozen=True, slots=True)
class Pushed:
    """An image as a registry has it."""

    ref: str
    platform: str
    image_id: str
    digest: str
    reference: str
    """`host/repository@sha256:…`: how it is pulled."""


class Containers:
    """What the command line does with the engine; every method raises `ERR_DOCKER` without one."""

    def __init__(self, settings: Settings, engine: Engine, waiting: Pool) -> None:
        self._settings = settings
        self._engine = engine
        self._waiting = waiting

    async def build(
        self, ref: str, *, mode: str, on_progress: Progress, platform: str = ""
    ) -> Archive:
        """Build the image of a processor from its source and have the engine take it in.

        It is for this machine, or for another `platform`. Raises `TheoryError`: `ERR_NOT_FOUND`,
        `ERR_UNAVAILABLE`, `ERR_STORAGE`.
        """
        settings = self._settings
        spec = load_registry(settings.registry).processor(ref)
        where = platform or settings.platform
        folder = folder_resolver(settings.processors)(ref)
        source = Source(ref, folder, spec.image, mode, self._tag(where))
        builder = Builder(settings.cache, settings.wheels, platform=where)
        archive = await asyncio.to_thread(builder.build, source, on_progress)
        found = await self._engine.image(archive.reference)
        if found is None or found.id != archive.image_id:
            on_progress(f"Loading the image of {ref}")
            await self._engine.load(archive.file)
        return archive

    async def push(self, ref: str, *, platform: str = "") -> Pushed:
        """Take what was built last of a processor to the registry of images.

        Raises `TheoryError`: `ERR_INPUTS` (no registry is named), `ERR_NOT_FOUND`,
        `ERR_IMAGE_NOT_FOUND`, `ERR_REGISTRY_MISMATCH` (it was built for another platform, or is
        another image there), `ERR_UPLOAD`.
        """
        repository = self._repository(ref)
        images = self._images(platform or self._settings.platform)
        return await self._push(ref, repository, images, await images.choose(repository, None))

    async def _push(self, ref: str, repository: str, images: Images, built: Chosen) -> Pushed:
        pushed = await images.push(repository, built)
        reference = f"{images.place(repository)}@{pushed.digest}"
        return Pushed(ref, images.platform, pushed.id, str(pushed.digest), reference)

    def _repository(self, ref: str) -> str:
        """Where the images of a processor belong, once it is known in which registry."""
        repository = load_registry(self._settings.registry).processor(ref).image
        if not self._settings.image_registry and "." not in repository.partition("/")[0]:
            variable, meaning = VARIABLES["image_registry"]
            message = f"invalid inputs payload: {variable} is not set: {meaning}"
            raise TheoryError("ERR_INPUTS", message, {"variable": variable})
        return repository

    def _images(self, platform: str) -> Images:
        return Images(
            self._engine,
            registry=self._settings.image_registry,
            platform=platform,
            built=self._tag(platform),
        )

    def _tag(self, platform: str) -> str:
        """Law: what was built for other machines never takes the place of what runs here."""
        return BUILT if platform == self._settings.platform else f"{BUILT}-{platform}"

    async def publish(
        self, ref: str, *, lane: str, on_progress: Progress, platform: str = ""
    ) -> tuple[Pushed, Pinned]:
        """Build an image for both modes, push it, and pin what the registry has.

        Laws: what is pushed is what was built, whatever else is built meanwhile; the pin comes
        last, and whatever fails before leaves the lane as it was. Raises `TheoryError` as `build`,
        `push` and `theory_api.delivery.pins.pin`.
        """
        repository = self._repository(ref)
        built = await self.build(ref, mode="real", on_progress=on_progress, platform=platform)
        on_progress(f"Pushing the image of {ref}")
        images = self._images(platform or self._settings.platform)
        pushed = await self._push(ref, repository, images, Chosen(built.image_id, None))
        pinned = await asyncio.to_thread(
            pin,
            self._settings.registry,
            ref,
            lane=lane,
            platform=pushed.platform,
            digest=pushed.digest,
        )
        return pushed, pinned

    async def start(self, ref: str) -> list[str]:
        """Start as many containers as the processor declares at once; those there are count.

        Raises `TheoryError`: `ERR_NOT_FOUND`, `ERR_IMAGE_NOT_FOUND`, `ERR_IMAGE_UNPINNED`,
        `ERR_IMAGE_PULL`, `ERR_REGISTRY_MISMATCH`, `ERR_HEALTH`.
        """
        settings, snapshot = self._settings, load_registry(self._settings.registry)
        spec = snapshot.processor(ref)
        expected = snapshot.pin(ref, lane=settings.lane, platform=settings.platform)
        chosen = await self._images(settings.platform).choose(spec.image, expected)
        kind = Kind(ref, chosen, limits(spec))
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
    engine = Engine(settings.docker_host, runtime=settings.docker_runtime)
    try:
        yield Containers(settings, engine, pool(engine, settings.home))
    finally:
        engine.close()
