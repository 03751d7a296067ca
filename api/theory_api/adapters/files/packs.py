"""Packs: many small blobs in one file, found by an index beside it.

A pack is a finished journal (see `record`), or several packs merged into one; what else a journal
held lies in it as dead bytes until it is merged. `packs/x.pack` has its index in `packs/x.idx`.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import threading
import time
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Final

import structlog

from theory_api.adapters.files.disk import STALE_S, Disk, storage, translated
from theory_api.adapters.files.index import Index, encode, entry, key
from theory_api.adapters.files.making import Making, named
from theory_api.adapters.files.merging import Damaged, chosen, merging, successor
from theory_api.adapters.files.record import BLOB, salvaged, sliced
from theory_core import TheoryError, digest

log = structlog.get_logger(__name__)

SUFFIX: Final = ".pack"
INDEX: Final = ".idx"


class Pack:
    """An open pack; what it holds stays readable when its name is gone. Every method blocks."""

    def __init__(self, path: Path, file: _Open, index: Index) -> None:
        """Made by `Packs`."""
        self.path = path
        self.size = file.size
        self.index = index
        self._file = file

    def read(self, size: int, place: int) -> bytes:
        """Bytes as they lie there."""
        return self._file.read(size, place)


class Packs:
    """The packs of one folder of artifacts, shared by processes. Every method blocks.

    Law: a pack never changes. It gets its name when it is durable and its index is named, and goes
    once another pack that has all its blobs is durable. Raises `TheoryError` `ERR_STORAGE`.
    """

    def __init__(self, root: Path, disk: Disk | None = None, *, owner: bool = True) -> None:
        """`root` is the folder of the artifacts; who is no `owner` of it only reads."""
        self._root = root
        self._folder = root / "packs"
        self._disk = disk or Disk()
        self._owner = owner
        self._turn = threading.Lock()
        self._damaged: set[str] = set()
        self.known: tuple[Pack, ...] = ()
        """Newest first; replaced as a whole, so that a reader needs no lock."""

    def find(self, cid: str) -> bytes | None:
        """The bytes, from the newest pack known that has them as they should be, or None.

        Law: a pack that cannot be read counts only where no other has them.
        """
        wanted, fault = key(cid), None
        for pack in self.known:
            try:
                found = pack.index.find(wanted)
                if found is not None and digest(data := pack.read(found[1], found[0])) == cid:
                    return data
            except OSError as error:
                fault = fault or error
        if fault is not None:
            raise storage(fault) from fault
        return None

    def named(self, cid: str) -> bool:
        """Whether a pack known has the digest in its index, whatever its bytes are."""
        wanted = key(cid)
        with translated():
            return any(pack.index.find(wanted) for pack in self.known)

    def refresh(self) -> None:
        """See what other processes have made and merged.

        Law: two listings alike, for one may miss a merged pack and, later, its sources.
        """
        with self._turn, translated():
            names = self._names()
            while True:
                opened = {pack.path.name: pack for pack in self.known}
                self.known = tuple(self._opened(names, opened))
                last, names = names, self._names()
                if names == last:
                    return

    def add(self, path: Path) -> None:
        """Know of a pack that was just made."""
        with self._turn, translated(), suppress(FileNotFoundError):  # Or it was merged already.
            known = {pack.path.name: pack for pack in self.known}
            if path.name not in known:
                known[path.name] = self._open(path)
            self.known = tuple(known[name] for name in sorted(known, reverse=True))
            return
        self.refresh()

    def take(self, journal: Path, blobs: Iterable[tuple[str, int, int]], size: int) -> Path:
        """Make a pack of a journal of `size` bytes by giving it another name.

        `blobs` are cids, places and sizes; all of it must be durable, and nothing else be there.
        """
        path = self._folder / f"{journal.stem}{SUFFIX}"
        with translated():
            self._disk.make_folder(self._folder, self._root)
            data = encode((entry(*blob) for blob in blobs), size)
            named(self._disk, self._root, data, path.with_suffix(INDEX))
            self._disk.replace(journal, path)
            self._disk.sync_folder(journal.parent)
        return path

    def write(self, journal: Path, blobs: dict[str, bytes]) -> Path:
        """Make a pack of blobs by cid that were in a journal; its name was not there before."""
        path = self._folder / f"{journal.stem}-{secrets.token_hex(4)}{SUFFIX}"
        with translated(), Making(self._disk, self._root) as made:
            self._disk.make_folder(self._folder, self._root)
            for cid, data in sorted(blobs.items()):
                made.add(cid, data)
            made.finish(path, INDEX)
        return path

    def merge(self) -> Generator[None]:
        """Merge what is worth it, in steps of a few milliseconds; nothing while another does.

        Law: bytes that are not what they should be, or cannot be read, are neither copied nor
        dropped: their pack stays, and the others are merged without it.
        """
        with translated(), self._alone() as alone:
            if not alone:
                return
            self.refresh()
            while packs := chosen([p for p in self.known if p.path.name not in self._damaged]):
                try:
                    with Making(self._disk, self._root) as made:
                        yield from merging(packs, made)
                        made.finish(successor(packs), INDEX)
                except Damaged as error:
                    log.warning("pack.damaged", pack=error.pack, cid=error.cid, why=error.why)
                    self._damaged.add(error.pack)
                    continue
                log.info("pack.merged", packs=len(packs), size_bytes=made.size)
                self.refresh()
                for pack in packs:
                    self._disk.remove(pack.path)
                    pack.path.with_suffix(INDEX).unlink(missing_ok=True)
                self.refresh()
                yield

    def sweep(self) -> int:
        """Remove the indexes whose packs are gone, or never came, for a day; how many."""
        count = 0
        with translated():
            for file in self._folder.glob(f"*{INDEX}"):
                if file.with_suffix(SUFFIX).exists():
                    continue
                with suppress(FileNotFoundError):  # Who merged its pack was first.
                    if time.time() - file.lstat().st_mtime > STALE_S:
                        file.unlink()
                        count += 1
        return count

    @contextmanager
    def _alone(self) -> Iterator[bool]:
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        self._disk.make_folder(self._folder, self._root)
        handle = os.open(self._folder / "lock", flags, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            yield False
            return
        try:
            yield True
        finally:
            os.close(handle)

    def _names(self) -> list[str]:
        try:
            with os.scandir(self._folder) as found:
                plain = [item.name for item in found if item.is_file(follow_symlinks=False)]
        except FileNotFoundError:
            return []
        return sorted((name for name in plain if name.endswith(SUFFIX)), reverse=True)

    def _opened(self, names: list[str], opened: dict[str, Pack]) -> Iterator[Pack]:
        for name in names:
            with suppress(FileNotFoundError):  # Merged meanwhile: the next listing says so.
                yield opened.get(name) or self._open(self._folder / name)

    def _open(self, path: Path) -> Pack:
        file = _Open(self._disk, self._disk.open(path))
        beside = path.with_suffix(INDEX)
        index = self._loaded(path, file)
        if index is not None:
            return Pack(path, file, index)
        log.warning("pack.indexed", pack=path.name, why="its index is missing or not sound")
        found = salvaged(file.read, file.size)
        places = ((r.name, end - len(r.body), len(r.body)) for r, end in found if r.kind == BLOB)
        data = encode((entry(*blob) for blob in places), file.size)
        if self._owner and path.name not in self._damaged:
            named(self._disk, self._root, data, beside)
        index = Index.load(partial(sliced, data), len(data), file.size)
        if index is None:
            raise TheoryError("ERR_INTERNAL", "an index that was just made is not sound")
        return Pack(path, file, index)

    def _loaded(self, path: Path, file: _Open) -> Index | None:
        """The index beside a pack, if it is sound.

        Law: one that cannot be read may be sound, so it is not replaced, nor its pack merged.
        """
        with suppress(FileNotFoundError):
            kept = _Open(self._disk, self._disk.open(path.with_suffix(INDEX)))
            try:
                return Index.load(kept.read, kept.size, file.size)
            except OSError as error:
                log.warning("pack.damaged", pack=path.name, cid=None, why=str(error))
                self._damaged.add(path.name)
        return None


class _Open:
    """An open file, closed when the last who reads it has let go."""

    def __init__(self, disk: Disk, handle: int) -> None:
        self._disk = disk
        self._handle = handle
        self.size = os.fstat(handle).st_size

    def read(self, size: int, place: int) -> bytes:
        return self._disk.read(self._handle, size, place)

    def __del__(self) -> None:
        os.close(self._handle)
