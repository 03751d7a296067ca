"""Layers of an image as tar files: the same contents are the same bytes, whoever writes them."""

from __future__ import annotations

import io
import stat
import tarfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Final

_READ_BYTES: Final = 1 << 20
_PLAIN: Final = 0o644
_EXECUTABLE: Final = 0o755


@dataclass(frozen=True, slots=True)
class Entry:
    """A file, a folder or a link of a layer: its place in the image, and where it comes from."""

    name: str
    """Relative to the image's root, with `/` between its parts."""
    source: Path | bytes | None = None
    """A file of this machine, bytes, or None for a folder."""

    @property
    def order(self) -> tuple[str, ...]:
        """Folders come before what is in them, whatever characters names have."""
        return tuple(self.name.split("/"))


def below(folder: Path, place: str, *, wanted: Callable[[Path], bool]) -> Iterator[Entry]:
    """Everything below a folder, as it will lie at `place`."""
    for path in folder.rglob("*"):
        relative = path.relative_to(folder)
        if wanted(relative):
            source = None if path.is_dir() and not path.is_symlink() else path
            yield Entry(f"{place}/{relative.as_posix()}", source)


def write(target: Path, entries: Iterable[Entry]) -> str:
    """Write a layer and answer its diff id, `sha256:…`.

    Law: order, owners, times and modes follow from the entries alone. Raises `OSError`.
    """
    known = {entry.name: entry for entry in entries}
    for name in list(known):
        for parent in Path(name).parents:
            if parent.as_posix() != ".":
                known.setdefault(parent.as_posix(), Entry(parent.as_posix()))
    with tarfile.open(target, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for entry in sorted(known.values(), key=lambda one: one.order):
            _add(archive, entry)
    return digest_of(target)


def digest_of(file: Path) -> str:
    """`sha256:` digest of a file; raises `OSError`."""
    found = sha256()
    with file.open("rb") as stream:
        while piece := stream.read(_READ_BYTES):
            found.update(piece)
    return f"sha256:{found.hexdigest()}"


def _add(archive: tarfile.TarFile, entry: Entry) -> None:
    facts = tarfile.TarInfo(entry.name)
    facts.mode = _EXECUTABLE
    if entry.source is None:
        facts.type = tarfile.DIRTYPE
        archive.addfile(facts)
        return
    if isinstance(entry.source, bytes):
        facts.mode, facts.size = _PLAIN, len(entry.source)
        archive.addfile(facts, io.BytesIO(entry.source))
        return
    found = entry.source.lstat()
    if stat.S_ISLNK(found.st_mode):
        facts.type, facts.linkname = tarfile.SYMTYPE, str(entry.source.readlink())
        archive.addfile(facts)
        return
    facts.mode = _EXECUTABLE if found.st_mode & stat.S_IXUSR else _PLAIN
    facts.size = found.st_size
    with entry.source.open("rb") as stream:
        archive.addfile(facts, stream)
