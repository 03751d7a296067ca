"""What the journals of other processes hold: each is read once, and then only what was appended."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from theory_api.adapters.files.disk import Disk, translated
from theory_api.adapters.files.journal import SUFFIX
from theory_api.adapters.files.record import BLOB, DROP, NOTE, Record, scan
from theory_core import digest


@dataclass(slots=True)
class _Seen:
    """What was read of a journal so far: where things lie, and what was dropped."""

    inode: int
    end: int = 0
    blobs: dict[str, tuple[int, int]] = field(default_factory=dict)
    notes: dict[str, tuple[int, int]] = field(default_factory=dict)
    dropped: set[str] = field(default_factory=set)

    def take(self, record: Record, end: int) -> None:
        """One record more."""
        size = len(record.body)
        self.end = end
        if record.kind == BLOB:
            self.blobs[record.name] = end - size, size
        elif record.kind == NOTE:
            self.notes[record.name] = end - size, size
            self.dropped.discard(record.name)
        elif record.kind == DROP:
            self.notes.pop(record.name, None)
            self.dropped.add(record.name)


class Beside:
    """The journals in a folder that are not this process's. Every method blocks.

    Law: what is not here any more is in packs or files by then: look there afterwards. Raises
    `TheoryError` `ERR_STORAGE`.
    """

    def __init__(
        self, folder: Path, owns: Callable[[Path], bool], disk: Disk | None = None
    ) -> None:
        """`owns` tells the files that this process needs not read."""
        self._folder = folder
        self._owns = owns
        self._disk = disk or Disk()
        self._turn = threading.Lock()
        self._seen: dict[Path, _Seen] = {}

    def blob(self, cid: str) -> bytes | None:
        """The bytes, as they should be, or None."""
        with self._turn:
            for file, seen in self._look():
                data = self._body(file, seen.blobs.get(cid))
                if data is not None and digest(data) == cid:
                    return data
        return None

    def note(self, name: str) -> bytes | None:
        """The newest note of this name that was not dropped later, or None."""
        with self._turn:
            for file, seen in reversed(self._look()):
                if name in seen.notes:
                    return self._body(file, seen.notes[name])
                if name in seen.dropped:
                    break
        return None

    def noted(self) -> frozenset[str]:
        """Names of the notes that were not dropped."""
        found = set[str]()
        with self._turn:
            for _, seen in self._look():
                found = (found - seen.dropped) | seen.notes.keys()
        return frozenset(found)

    def _look(self) -> list[tuple[Path, _Seen]]:
        """Every file, by age."""
        with translated():
            files = [file for file in self._folder.glob(f"*{SUFFIX}") if not self._owns(file)]
            found = ((file, self._read_on(file)) for file in sorted(files))
            self._seen = {file: seen for file, seen in found if seen is not None}
            return list(self._seen.items())

    def _read_on(self, file: Path) -> _Seen | None:
        try:
            handle = self._disk.open(file)
        except FileNotFoundError:
            return None
        try:
            status = os.fstat(handle)
            seen = self._seen.get(file)
            if seen is None or seen.inode != status.st_ino:
                seen = _Seen(status.st_ino)
            for record, end in scan(partial(self._disk.read, handle), seen.end, status.st_size):
                seen.take(record, end)
            return seen
        finally:
            self._disk.close(handle)

    def _body(self, file: Path, where: tuple[int, int] | None) -> bytes | None:
        if where is None:
            return None
        with translated():
            try:
                handle = self._disk.open(file)
            except FileNotFoundError:
                return None
            try:
                return self._disk.read(handle, where[1], where[0])
            finally:
                self._disk.close(handle)
