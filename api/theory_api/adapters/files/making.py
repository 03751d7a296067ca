"""New packs, written aside and named when they are durable."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from theory_api.adapters.files.disk import Disk, part_name
from theory_api.adapters.files.index import entry, trailer
from theory_api.adapters.files.record import BLOB, Record
from theory_core import Hasher

_PIECE: Final = 256 * 1024


class Making:
    """A pack and its index in the making, a context; every method blocks and raises `OSError`.

    Law: what was not finished leaves no trace; the index gets its name first.
    """

    def __init__(self, disk: Disk, root: Path) -> None:
        """`root` is the folder of the artifacts; parts lie in `parts/` below it."""
        self._disk = disk
        self._parts = tuple(root / "parts" / part_name() for _ in range(2))
        self._root = root
        self._handles: list[int] = []
        self._pending = (bytearray(), bytearray())
        self._hasher = Hasher()
        self._count = 0
        self.size = 0

    def __enter__(self) -> Self:
        """Make both files."""
        self._disk.make_folder(self._root / "parts", self._root)
        try:
            self._handles += [self._disk.create(part) for part in self._parts]
        except BaseException:
            self._drop()
            raise
        return self

    def add(self, cid: str, data: bytes) -> bool:
        """Append a blob, cids in rising order; whether something was written to the disk."""
        record = Record(BLOB, cid, data).encode()
        self.size += len(record)
        self._pending[0].extend(record)
        self._pending[1].extend(entry(cid, self.size - len(data), len(data)))
        self._count += 1
        if len(self._pending[0]) < _PIECE:
            return False
        self._write()
        return True

    def finish(self, path: Path, index: str) -> None:
        """Make both durable, and give them their names."""
        self._write()
        self._disk.write(self._handles[1], trailer(self._hasher, self._count, self.size))
        for handle in self._handles:
            self._disk.sync(handle)
        self._close()
        self._disk.replace(self._parts[1], path.with_suffix(index))
        self._disk.replace(self._parts[0], path)

    def _write(self) -> None:
        pack, entries = map(bytes, self._pending)
        for handle, data in zip(self._handles, (pack, entries), strict=True):
            self._disk.write(handle, data)
        self._hasher.update(entries)
        for pending in self._pending:
            pending.clear()

    def _close(self) -> None:
        while self._handles:
            self._disk.close(self._handles.pop())

    def _drop(self) -> None:
        self._close()
        for part in self._parts:
            with suppress(OSError):
                part.unlink()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Remove what was not named; a part that stays is swept later."""
        self._drop()


def named(disk: Disk, root: Path, data: bytes, path: Path) -> None:
    """Put a whole file in its place, durably; a file that was there is replaced."""
    disk.make_folder(root / "parts", root)
    part = root / "parts" / part_name()
    try:
        handle = disk.create(part)
        try:
            disk.write(handle, data)
            disk.sync(handle)
        finally:
            disk.close(handle)
        disk.replace(part, path)
    finally:
        with suppress(OSError):
            part.unlink()
