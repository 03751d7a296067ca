"""The one writer of `pins/{lane}.yaml`: which digest of a processor's image a lane runs."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from theory_api.delivery.snapshot import ENVIRONMENTS, load_registry
from theory_core import TheoryError

HEADER: Final = "# Written by `theory registry pin`; do not edit.\nschema: theory.pins.v1\n"
PLATFORMS: Final = ("amd64", "arm64")

_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")
_MODE: Final = 0o644


@dataclass(frozen=True, slots=True)
class Pinned:
    """A pin as it stands now."""

    ref: str
    lane: str
    platform: str
    digest: str
    before: str
    """What was pinned until now; empty if nothing was."""
    snapshot: str
    """Id of the registry with it."""

    @property
    def changed(self) -> bool:
        """Whether another image runs in the lane from now on."""
        return self.digest != self.before


def pin(registry: Path, ref: str, *, lane: str, platform: str, digest: str) -> Pinned:
    """Pin the image of a processor for a platform in a lane; the rest of the file stays.

    Laws: nothing is written into a registry that does not fit, nor what would not; whoever reads
    the file meanwhile finds it as it was or as it is; two writers come one after the other. It
    blocks. Raises `TheoryError`: `ERR_INPUTS`, `ERR_NOT_FOUND` (no such processor), `ERR_STORAGE`.
    """
    known: tuple[tuple[str, bool], ...] = (
        (f"a lane with pins is one of {', '.join(ENVIRONMENTS)}", lane in ENVIRONMENTS),
        (f"a platform is one of {', '.join(PLATFORMS)}", platform in PLATFORMS),
        ("a digest is sha256: and 64 hex digits", _DIGEST.fullmatch(digest) is not None),
    )
    for rule, kept in known:
        if not kept:
            raise TheoryError("ERR_INPUTS", f"invalid inputs payload: {rule}", {"reason": "pin"})
    try:
        with _alone(registry / "pins"):
            snapshot = load_registry(registry)
            snapshot.processor(ref)
            pins = {name: dict(digests) for name, digests in snapshot.pins[lane].items()}
            before = pins.get(ref, {}).get(platform, "")
            if before != digest:
                pins[ref] = {**pins.get(ref, {}), platform: digest}
                _replace(registry / "pins" / f"{lane}.yaml", text(pins))
                snapshot = load_registry(registry)
    except OSError as error:
        message = f"storage unavailable: pins cannot be written: {error.strerror}"
        remedy = "Name a registry of your own that can be written to (THEORY_REGISTRY)."
        raise TheoryError("ERR_STORAGE", message, {"remedy": remedy}) from error
    return Pinned(ref, lane, platform, digest, before, snapshot.id)


def text(pins: Mapping[str, Mapping[str, str]]) -> str:
    """The file with these pins. Law: the same pins are the same bytes."""
    if not pins:
        return f"{HEADER}pins: {{}}\n"
    lines = [
        f"  {ref}:\n" + "".join(f"    {name}: {digests[name]}\n" for name in sorted(digests))
        for ref, digests in sorted(pins.items())
    ]
    return f"{HEADER}pins:\n{''.join(lines)}"


def _replace(file: Path, content: str) -> None:
    """Hidden until it is whole: what begins with a dot is no file of a registry."""
    part = file.with_name(f".{file.name}.part")
    handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, _MODE)
    with os.fdopen(handle, "w", encoding="ascii") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(handle)
    part.replace(file)


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One writer at a time, without a file for its lock; the lock dies with its process."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
        os.fsync(handle)
    finally:
        os.close(handle)
