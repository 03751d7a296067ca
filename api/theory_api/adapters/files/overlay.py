"""What is durable in this process's journals alone, and how it comes into packs and files."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

import structlog

from theory_api.adapters.files.artifacts import CID, FileArtifacts, rotten
from theory_api.adapters.files.beside import Beside
from theory_api.adapters.files.blocking import in_thread
from theory_api.adapters.files.disk import Disk, translated
from theory_api.adapters.files.home import Home, open_shard
from theory_api.adapters.files.journal import Journal
from theory_api.adapters.files.packs import Packs
from theory_api.adapters.files.record import BLOB, DROP, NOTE, Record
from theory_api.adapters.files.scratch import FileScratch
from theory_core import TheoryError

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Rotation:
    """When a journal is ended, and what it holds brought elsewhere."""

    size: int = 16 * 1024 * 1024
    """Bytes."""
    after_s: float = 60.0
    """Seconds with something in it."""


MINUTE: Final = Rotation()


@dataclass(slots=True)
class _Held:
    """What one journal file holds: blobs with the places of their ends, names of notes."""

    blobs: dict[str, tuple[int, bytes]] = field(default_factory=dict)
    notes: set[str] = field(default_factory=set)
    size: int | None = 0
    """Bytes up to the end of what landed; None if the file must not become a pack as it is."""
    pack: Path | None = None
    """Where the blobs are by now."""


class Overlay:
    """Blobs and notes of one home, wherever they are.

    Law: a journal file goes, or becomes a pack, only when everything else in it is durable
    elsewhere or dropped.
    """

    def __init__(
        self,
        home: Home,
        disk: Disk | None = None,
        *,
        owner: bool = True,
        rotation: Rotation = MINUTE,
    ) -> None:
        """`home` with its folders; who is no `owner` of it, or of shards of it, only asks."""
        self.journal = Journal(home.journals, landed=self._landed, disk=disk)
        self.beside = Beside(home.journals, self.journal.owns)
        self.artifacts = FileArtifacts(home.artifacts, disk=disk)
        self.packs = Packs(home.artifacts, disk, owner=owner)
        self.rotation = rotation
        self.blobs: dict[str, bytes] = {}
        self.notes: dict[str, bytes] = {}
        """By `{shard}/{execution id}`."""
        self._inherited: set[str] = set()
        """Notes that came from journals of others."""
        self.size = 0
        self._home = home
        self._disk = disk
        self._scratch: dict[str, FileScratch] = {}
        """By shard."""
        self._filed: set[str] = set()
        self._held: dict[Path, _Held] = {}

    async def scratch(self, shard: str) -> FileScratch:
        """Where the notes of a shard have files of their own, made at first; "" is the home.

        Raises `TheoryError` `ERR_STORAGE`.
        """
        if shard not in self._scratch:
            made = await in_thread(partial(open_shard, self._home, shard)) if shard else self._home
            self._scratch[shard] = FileScratch(made.scratch, disk=self._disk)
        return self._scratch[shard]

    async def put(self, data: bytes, cid: str) -> None:
        """Make a blob durable; raises `TheoryError` `ERR_STORAGE`."""
        if cid not in self.blobs:
            await self.journal.write(Record(BLOB, cid, data))

    def find(self, cid: str) -> bytes | None:
        """A small blob that has no file of its own, as it should be; it blocks.

        Law: a copy that is not what it should be, or cannot be read, counts only where there is
        no other. Raises `TheoryError` `ERR_ARTIFACT_DIGEST`, `ERR_STORAGE`.
        """
        if not CID.fullmatch(cid):
            return None
        found = None
        with suppress(TheoryError):  # Asked again where no other copy is, and not suppressed.
            found = self.packs.find(cid)
        if found is None and not self.artifacts.held(cid):
            found = self.beside.blob(cid)
            if found is None:
                self.packs.refresh()
                found = self.packs.find(cid)
            if found is None and self.packs.named(cid):
                raise rotten(cid)
        return found

    async def save(self, name: str, note: bytes, named: Mapping[str, bytes] | None = None) -> None:
        """Make a note durable, with blobs by cid that it names; `TheoryError` `ERR_STORAGE`.

        Law: a note is never found without them, as they lie before it in its journal or elsewhere.
        """
        blobs = [Record(BLOB, *item) for item in (named or {}).items() if item[0] not in self.blobs]
        await self.journal.write(Record(NOTE, name, note), before=blobs)

    async def drop(self, name: str) -> None:
        """Forget a note. A crash may bring it back: its execution is settled, nobody asks."""
        known = self.notes.pop(name, None) is not None
        self._inherited.discard(name)
        if known:
            self.journal.add(Record(DROP, name))
        if not known or name in self._filed:
            self._filed.discard(name)
            shard, _, execution_id = name.rpartition("/")
            await (await self.scratch(shard)).drop(execution_id)

    def _landed(self, record: Record, file: Path, end: int) -> None:
        held = self._held.setdefault(file, _Held())
        held.size = end
        if record.kind == BLOB:
            held.blobs[record.name] = end, record.body
            if record.name not in self.blobs:
                self.blobs[record.name] = record.body
                self.size += len(record.body)
        elif record.kind == NOTE:
            held.notes.add(record.name)
            self.notes[record.name] = record.body
            self._inherited.discard(record.name)

    async def adopt(self, *, older_s: float = 0.0) -> None:
        """Bring what dead processes left in journals into packs and files; see `Journal.adopt`.

        Their bytes are written anew: whether all of them are on the disk only the dead knew.
        Law: at every moment all of it can be read, and what this process noted since counts more.
        """
        adopted = await self.journal.adopt(older_s=older_s)
        for file, found in adopted:
            held = self._held[file] = _Held(size=None)
            for record in found:
                if record.kind == BLOB:
                    held.blobs[record.name] = 0, record.body
                elif record.name in self.notes and record.name not in self._inherited:
                    continue
                elif record.kind == NOTE:
                    self.notes[record.name] = record.body
                    self._inherited.add(record.name)
                    held.notes.add(record.name)
                elif record.kind == DROP:
                    self.notes.pop(record.name, None)
            log.info("journal.adopted", file=file.name, records=len(found))
        await self._advance_ended()

    async def advance(self, *, all_of: bool = False) -> bool:
        """Bring journals that are large or old enough into packs; whether there was one."""
        journal = self.journal
        old = time.monotonic() - journal.since >= self.rotation.after_s
        if all_of or old or journal.size >= self.rotation.size:
            await journal.rotate()
        return await self._advance_ended()

    async def _advance_ended(self) -> bool:
        """Whether there was one.

        Law: the oldest first, and none past one that stays: whoever finds that one later takes its
        notes for the latest.
        """
        ended = sorted(file for file in self._held if file != self.journal.file)
        for file in ended:
            await self._advance(file)
        return bool(ended)

    async def _advance(self, file: Path) -> None:
        held = self._held[file]
        for name in held.notes:
            note = self.notes.get(name)
            if note is not None:
                shard, _, execution_id = name.rpartition("/")
                await (await self.scratch(shard)).save(execution_id, note)
                self._filed.add(name)
                if name not in self.notes:
                    await self.drop(name)
        if held.blobs and held.pack is None:
            held.pack = await in_thread(partial(self._pack, file, held))
        if held.pack is not None:
            await in_thread(partial(self.packs.add, held.pack))
        if held.pack is None or held.pack.stem != file.stem:
            await self.journal.remove(file)
        self.journal.release(file)
        del self._held[file]
        for cid, (_, data) in held.blobs.items():
            if self.blobs.pop(cid, None) is not None:
                self.size -= len(data)

    def _pack(self, file: Path, held: _Held) -> Path:
        """Law: a file that has more than what landed, or was tried once, is written anew."""
        size, held.size = held.size, None
        if size is not None and self._as_it_is(file, size):
            ends = held.blobs.items()
            places = ((cid, end - len(data), len(data)) for cid, (end, data) in ends)
            return self.packs.take(file, places, size)
        return self.packs.write(file, {cid: data for cid, (_, data) in held.blobs.items()})

    def _as_it_is(self, file: Path, size: int) -> bool:
        with translated():
            found, where = file.stat(), self._home.artifacts.stat()
        return (found.st_size, found.st_dev) == (size, where.st_dev)
