"""The Docker engine of this machine for tests, and images of processors that are made for it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any, Final

import pytest

import theory_api
from theory_api.adapters.docker.engine import knock
from theory_api.delivery.images import Builder, Source
from theory_api.settings import assets, read

ROOT: Final = Path(theory_api.__file__).parents[2]
LABELS: Final = ("theory.home", "theory.execution", "theory.warm")
LEAN: Final = ROOT / "processors" / "media" / "shotlist" / "1" / "requirements.txt"
"""The lock of a processor that needs the runtime alone."""


def address() -> str:
    """Where this machine's engine listens, as the environment says; empty for the usual socket."""
    return os.environ.get("DOCKER_HOST", "")


def connected() -> Any:  # noqa: ANN401 - the SDK's client
    """A client of the engine; skipped loudly where none answers, but never in CI."""
    import docker  # noqa: PLC0415 - only these tests need it

    try:
        knock(address())
    except OSError as error:
        if os.environ.get("CI"):
            pytest.fail(f"no Docker engine answers, and .ci/run starts one: {error}")
        pytest.skip("NO DOCKER ENGINE ANSWERS: nothing here was tested in containers")
    return docker.from_env(timeout=60)


def image(
    client: Any,  # noqa: ANN401 - the SDK's client
    ref: str,
    folder: Path,
    *,
    lock: Path | None = None,
    mode: str = "mock",
) -> str:
    """Build the image of a processor, have the engine load it, and answer its id."""
    place = folder
    if lock is not None:
        place = folder.parent / f"{folder.name}-locked"
        shutil.copytree(folder, place, dirs_exist_ok=True)
        shutil.copy(lock, place / "requirements.txt")
    settings = read()
    repository = repository_of(ref)
    builder = Builder(settings.cache, assets("wheels"), platform=settings.platform)
    archive = builder.build(Source(ref, place, repository, mode=mode), lambda _text: None)
    with archive.file.open("rb") as stream:
        client.images.load(stream)
    return archive.image_id


def repository_of(ref: str) -> str:
    """The repository that specs of tests name."""
    return "theory/" + ref.replace("/", "-").replace("@", "-v")


def left(client: Any, home: str) -> list[str]:  # noqa: ANN401
    """Names of containers of a home, running or not."""
    wanted = {"label": f"theory.home={home}"}
    found = client.containers.list(all=True, filters=wanted, ignore_removed=True)
    return [container.name for container in found]
