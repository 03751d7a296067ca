"""Artifacts and notes that are durable in a journal first, and in files of their own later."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

import structlog

from theory_api.adapters.files.artifacts import FileArtifacts
from theory_api.adapters.files.blocking import in_thread
from theory_api.adapters.files.disk import Disk
from theory_api.adapters.files.home import Home, open_shard
from theory_api.adapters.files.journal import BLOB, DROP, NOTE, Journal, Record
from theory_api.adapters.files.scratch import FileScratch
from theory_api.ports.artifacts import Blob
from theory_core import TheoryError, digest, is_name

log = structlog.get_logger(__name__)

SMALL: Final = 32 * 1024
"""Bytes of an artifact that goes through the journal."""

ROOM: Final = 64 * 1024 * 1024
"""Bytes in memory that wait for files of their own; what comes then has to wait for the disk."""

_PACE_S: Final = 1.0
"""Between two looks at what waits."""

_ADOPT_S: Final = 30.0
"""Between two looks for journals of processes that died beside this one."""

_REST_S: Final = 15.0
"""How long files lie before they are synced: by then the system has mostly written them itself."""

_MAX_GET: Final = 8 * 1024 * 1024


@dataclass(slots=True)
class _Waiting:
    """What one journal file holds that has no durable file of its own yet."""

    blobs: dict[str, bytes] = field(default_factory=dict)
    notes: set[str] = field(default_factory=set)


@dataclass(slots=True)
class _Laid:
    """A journal file whose blobs lie in files that are not synced yet."""

    journal: Path
    files: list[Path]
    cids: frozenset[str]
    since: float


class Overlay:
    """What is durable in journals alone, and how it comes into files.

    Law: a journal file goes only when everything in it is durable elsewhere or dropped.
    """

    def __init__(
        self,
        folder: Path,
        artifacts: FileArtifacts,
        scratch: Callable[[str], FileScratch],
        disk: Disk | None = None,
    ) -> None:
        """`scratch` answers where the notes of a shard have files of their own; "" is the home."""
        self.journal = Journal(folder, landed=self._landed, disk=disk)
        self.artifacts = artifacts
        self.scratch = scratch
        self.blobs: dict[str, bytes] = {}
        self.notes: dict[str, bytes] = {}
        """By `{shard}/{execution id}`."""
        self._inherited: set[str] = set()
        """Notes that came from journals of others."""
        self.size = 0
        self._filed: set[str] = set()
        self._waiting: dict[Path, _Waiting] = {}
        self._laid: list[_Laid] = []
        self._resting: set[str] = set()
        """Blobs that a journal keeps until their files are synced."""

    async def put(self, data: bytes, cid: str) -> None:
        """Make a blob durable; raises `TheoryError` `ERR_STORAGE`."""
        if cid not in self.blobs and cid not in self._resting:
            await self.journal.write(Record(BLOB, cid, data))

    async def save(self, name: str, note: bytes) -> None:
        """Make a note durable; raises `TheoryError` `ERR_STORAGE`."""
        await self.journal.write(Record(NOTE, name, note))

    async def drop(self, name: str) -> None:
        """Forget a note. A crash may bring it back: its execution is settled, nobody asks."""
        known = self.notes.pop(name, None) is not None
        self._inherited.discard(name)
        if known:
            self.journal.add(Record(DROP, name))
        if not known or name in self._filed:
            self._filed.discard(name)
            shard, _, execution_id = name.rpartition("/")
            await self.scratch(shard).drop(execution_id)

    def _landed(self, record: Record, file: Path) -> None:
        waiting = self._waiting.setdefault(file, _Waiting())
        if record.kind == BLOB:
            waiting.blobs[record.name] = record.body
            if record.name not in self.blobs:
                self.blobs[record.name] = record.body
                self.size += len(record.body)
        elif record.kind == NOTE:
            waiting.notes.add(record.name)
            self.notes[record.name] = record.body
            self._inherited.discard(record.name)

    async def adopt(self, *, older_s: float = 0.0) -> None:
        """Bring what dead processes left in journals into files; see `Journal.adopt`.

        Law: at every moment all of it can be read, and what this process noted since counts more.
        """
        for file, found in await self.journal.adopt(older_s=older_s):
            waiting = _Waiting()
            for record in found:
                if record.kind == BLOB:
                    waiting.blobs[record.name] = record.body
                elif record.name in self.notes and record.name not in self._inherited:
                    continue
                elif record.kind == NOTE:
                    self.notes[record.name] = record.body
                    self._inherited.add(record.name)
                    waiting.notes.add(record.name)
                elif record.kind == DROP:
                    self.notes.pop(record.name, None)
            await self._lay(file, waiting)
            self.journal.take(file)
            log.info("journal.adopted", file=file.name, records=len(found))

    async def advance(self) -> None:
        """Lay what waits into files, and sync those that have lain for long enough."""
        if self._waiting:
            await self.journal.rotate()
            for file in tuple(self._waiting):
                await self._lay(file, self._waiting.pop(file))
        await self.settle()

    async def _lay(self, journal: Path, held: _Waiting) -> None:
        def lay() -> list[Path]:
            return [self.artifacts.lay(data) for data in held.blobs.values()]

        try:
            for name in held.notes:
                note = self.notes.get(name)
                if note is not None:
                    shard, _, execution_id = name.rpartition("/")
                    await self.scratch(shard).save(execution_id, note)
                    self._filed.add(name)
                    if name not in self.notes:
                        await self.drop(name)
            files = await in_thread(lay)
        except BaseException:
            self._waiting[journal] = held
            raise
        cids = frozenset(held.blobs) - self._resting
        self._laid.append(_Laid(journal, files, cids, time.monotonic()))
        self._resting |= cids
        for cid, data in held.blobs.items():
            if self.blobs.pop(cid, None) is not None:
                self.size -= len(data)

    async def settle(self, *, all_of: bool = False) -> None:
        """Sync what was laid, and remove its journals.

        Law: where a sync fails the journal stays for the next owner; a second sync would prove
        nothing.
        """
        while self._laid and (all_of or time.monotonic() - self._laid[0].since > _REST_S):
            laid = self._laid.pop(0)
            self._resting -= laid.cids
            await in_thread(partial(self.artifacts.settle, laid.files))
            await self.journal.remove(laid.journal)


class JournalledArtifacts:
    """Implements `theory_api.ports.artifacts.ArtifactStore`: small ones through a journal."""

    def __init__(self, overlay: Overlay) -> None:
        self._overlay = overlay
        self._files = overlay.artifacts

    async def put(self, data: bytes) -> Blob:
        """Store `data`, durable on return."""
        if len(data) > SMALL or self._overlay.size > ROOM:
            return await self._files.put(data)
        cid = digest(data)
        await self._overlay.put(bytes(data), cid)
        return Blob(cid, len(data))

    async def put_stream(self, chunks: AsyncIterator[bytes], *, max_bytes: int) -> Blob:
        """Store a stream; nothing is visible unless all of it arrived."""
        begun = bytearray()
        async for chunk in chunks:
            begun += chunk
            if len(begun) > SMALL or len(begun) > max_bytes:
                return await self._files.put_stream(_joined(begun, chunks), max_bytes=max_bytes)
        return await self.put(bytes(begun))

    async def get(self, cid: str, *, max_bytes: int = _MAX_GET) -> bytes:
        """All bytes, verified."""
        data = self._overlay.blobs.get(cid) or await self._small(cid)
        if data is None:
            return await self._files.get(cid, max_bytes=max_bytes)
        if len(data) > max_bytes:
            message = f"the artifact has {len(data)} bytes, more than the {max_bytes} asked for"
            raise TheoryError("ERR_TOO_LARGE", message, {"size_bytes": len(data)})
        return data

    async def stream(
        self, cid: str, *, offset: int = 0, length: int | None = None
    ) -> AsyncGenerator[bytes, None]:
        """Bytes in pieces; a whole read is verified before its last piece is handed out."""
        data = await self._small(cid)
        if data is None or offset < 0 or (length is not None and length < 0):
            async for piece in self._files.stream(cid, offset=offset, length=length):
                yield piece
            return
        piece = data[offset:] if length is None else data[offset : offset + length]
        if piece:
            yield piece

    async def stat(self, cid: str) -> Blob | None:
        """Size of a stored blob, or None."""
        data = await self._small(cid)
        return await self._files.stat(cid) if data is None else Blob(cid, len(data))

    async def copy_to(self, cid: str, target: str) -> None:
        """Write the verified bytes to a file of the caller, atomically; its folder is made."""
        data = await self._small(cid)
        if data is not None:
            await self._files.put(data)
        await self._files.copy_to(cid, target)

    async def sweep(self) -> int:
        """Remove what was left unfinished a day ago or longer; how many files."""
        return await self._files.sweep()

    async def _small(self, cid: str) -> bytes | None:
        """Bytes that only a journal has, our own or another process's; None if files have them."""
        data = self._overlay.blobs.get(cid)
        if data is not None or await self._files.stat(cid) is not None:
            return data
        found = await self._overlay.journal.find(BLOB, cid)
        return found if found is not None and digest(found) == cid else None


class JournalledScratch:
    """Implements `theory_api.ports.scratch.Scratch` through a journal."""

    def __init__(self, overlay: Overlay, shard: str = "") -> None:
        self._overlay = overlay
        self._files = overlay.scratch(shard)
        self._shard = f"{shard}/"

    async def save(self, execution_id: str, outcome: bytes) -> None:
        """Keep the outcome, atomically and durably; replaces an earlier one."""
        await self._overlay.save(self._named(execution_id), outcome)

    async def load(self, execution_id: str) -> bytes | None:
        """The outcome, or None."""
        name = self._named(execution_id)
        note = self._overlay.notes.get(name)
        if note is None:
            found = await self._overlay.journal.find(NOTE, name)
            note = self._overlay.notes.get(name, found)
        return await self._files.load(execution_id) if note is None else note

    async def names(self) -> tuple[str, ...]:
        """Executions that a note is kept of.

        Law: also by an owner of the shard that is gone, or stands still, and whose journal nobody
        has adopted; a note that moves meanwhile is in its file before it leaves the journal.
        """
        known = {*await self._overlay.journal.noted(), *self._overlay.notes}
        here = (name.rpartition("/") for name in known)
        noted = {name for shard, slash, name in here if shard + slash == self._shard}
        return tuple(sorted({*noted, *await self._files.names()}))

    async def drop(self, execution_id: str) -> None:
        """Forget it; idempotent."""
        await self._overlay.drop(self._named(execution_id))

    def _named(self, execution_id: str) -> str:
        if not is_name(execution_id):
            raise TheoryError("ERR_INPUTS", "an execution id is a name", {"reason": "name"})
        return self._shard + execution_id

    async def sweep(self) -> int:
        """Remove what was left unfinished a day ago or longer; how many files."""
        return await self._files.sweep()


class Files:
    """The stores of a process that owns its home, or shards of it."""

    def __init__(self, overlay: Overlay) -> None:
        self._overlay = overlay
        self.artifacts = JournalledArtifacts(overlay)
        self.scratch = JournalledScratch(overlay)

        self.failed: Callable[[BaseException], None] = lambda _error: None
        """Hears of a fault after which nothing leaves the journals any more."""

    def ended(self, advancing: asyncio.Task[None]) -> None:
        """Law: a disk that fails is waited for; any other fault stops the scheduler, loudly."""
        error = None if advancing.cancelled() else advancing.exception()
        if error is not None:
            log.error("journal.stopped", exc_info=error)
            self.failed(error)

    def notes(self, shard: str) -> JournalledScratch:
        """The scratch of one of several shards."""
        return JournalledScratch(self._overlay, shard)


@contextlib.asynccontextmanager
async def open_files(home: Home, disk: Disk | None = None) -> AsyncIterator[Files]:
    """Artifacts and notes of a home; at the end all of them have files of their own.

    What dead processes left in journals is brought into files first. Raises `TheoryError`
    `ERR_STORAGE`.
    """
    artifacts = FileArtifacts(home.artifacts, disk=disk)
    overlay = Overlay(home.journals, artifacts, _scratches(home, disk), disk)
    await overlay.adopt()
    await overlay.settle(all_of=True)
    files = Files(overlay)
    advancing = asyncio.create_task(_keep_advancing(overlay))
    advancing.add_done_callback(files.ended)
    try:
        yield files
    finally:
        advancing.cancel()
        await asyncio.wait({advancing})
        try:
            await overlay.advance()
            await overlay.settle(all_of=True)
        except TheoryError as error:
            log.warning("journal.stays", code=error.code, reason=error.message)
        overlay.journal.close()


def reading(home: Home) -> JournalledArtifacts:
    """The artifacts of a home beside the process that owns it; for questions alone."""
    overlay = Overlay(home.journals, FileArtifacts(home.artifacts), _scratches(home, None))
    return JournalledArtifacts(overlay)


def _scratches(home: Home, disk: Disk | None) -> Callable[[str], FileScratch]:
    def scratch(shard: str) -> FileScratch:
        place = open_shard(home, shard) if shard else home
        return FileScratch(place.scratch, disk=disk)

    return scratch


async def _keep_advancing(overlay: Overlay) -> None:
    """Law: a disk that fails keeps journals where they are; what they hold stays readable."""
    looked = time.monotonic()
    while True:
        await asyncio.sleep(_PACE_S)
        try:
            await overlay.advance()
            if time.monotonic() - looked > _ADOPT_S:
                looked = time.monotonic()
                await overlay.adopt(older_s=_ADOPT_S)
        except TheoryError as error:
            log.warning("journal.stays", code=error.code, reason=error.message)


async def _joined(begun: bytearray, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield bytes(begun)
    async for chunk in rest:
        yield chunk
