"""Copy artifacts into a folder of the person who asks."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from theory_api.services.queries import Content, Queries
from theory_api.services.views import ArtifactView
from theory_core import TheoryError

Copied = tuple[ArtifactView, Path]
"""An artifact and the file that holds its bytes now."""


async def copy(content: Content, target: Path) -> None:
    """Write an artifact's verified bytes to a file, whole or not at all.

    Raises `TheoryError`: `ERR_STORAGE`, `ERR_ARTIFACT_DIGEST`.
    """
    part = target.with_name(f".{target.name}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            with part.open("wb") as file:
                async for piece in content.stream(0, None):
                    file.write(piece)
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        message = f"{target} cannot be written: {error.strerror}"
        raise TheoryError("ERR_STORAGE", message, {}) from error


async def copy_below(
    queries: Queries, plan: str, prefix: str, found: Sequence[ArtifactView], folder: Path
) -> list[Copied]:
    """Copy the artifacts below a write prefix into `folder`, by their paths below it."""
    written: list[Copied] = []
    for artifact in found:
        below = PurePosixPath(artifact.path.removeprefix(prefix))
        # Canonical paths have no dot segments and no empty ones: nothing leaves the folder.
        target = folder.joinpath(*below.parts)
        await copy(await queries.artifact(plan, artifact.path), target)
        written.append((artifact, target))
    return written


def shown(path: Path) -> str:
    """A path as people type it: relative where it lies below the current folder."""
    try:
        return os.fspath(path.relative_to(Path.cwd()))
    except ValueError:
        return os.fspath(path)
