"""Artifacts and notes that are durable in a journal first, and in packs and files later."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Final

import structlog

from theory_api.adapters.files.blocking import in_thread
from theory_api.adapters.files.disk import Disk
from theory_api.adapters.files.home import Home
from theory_api.adapters.files.overlay import MINUTE, Overlay, Rotation
from theory_api.adapters.files.scratch import FileScratch
from theory_api.ports.artifacts import Blob
from theory_core import TheoryError, digest, is_name

log = structlog.get_logger(__name__)

SMALL: Final = 32 * 1024
"""Bytes of an artifact that goes through the journal."""

ROOM: Final = 64 * 1024 * 1024
"""Bytes in memory that wait for a pack; what comes then has to wait for the disk."""

_PACE_S: Final = 1.0
"""Between two looks at what waits."""

_ADOPT_S: Final = 30.0
"""Between two looks for journals of processes that died beside this one."""

_REST_S: Final = 0.02
"""Between two steps of a merge."""

_MAX_GET: Final = 8 * 1024 * 1024


class JournalledArtifacts:
    """Implements `theory_api.ports.artifacts.ArtifactStore`: small ones through a journal."""

    def __init__(self, overlay: Overlay) -> None:
        self._overlay = overlay
        self._files = overlay.artifacts

    async def put(self, data: bytes) -> Blob:
        """Store `data`, durable on return."""
        if not self.journals(data):
            return await self._files.put(data)
        cid = digest(data)
        await self._overlay.put(bytes(data), cid)
        return Blob(cid, len(data))

    def journals(self, data: bytes) -> bool:
        """Whether these bytes go through the journal now."""
        return len(data) <= SMALL and self._overlay.size <= ROOM

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
        data = await self._small(cid)
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
        if data is None:
            await self._files.copy_to(cid, target)
        else:
            await in_thread(partial(self._files.write_out, Path(target), (data,)))

    async def free_bytes(self) -> int:
        """What the file system of the home says."""
        return await self._files.free_bytes()

    async def sweep(self) -> int:
        """Remove what was left unfinished a day ago or longer; how many files."""
        orphans = await in_thread(self._overlay.packs.sweep)
        return orphans + await self._files.sweep()

    async def _small(self, cid: str) -> bytes | None:
        """Bytes that have no file of their own, from memory, a pack or another's journal."""
        data = self._overlay.blobs.get(cid)
        return await in_thread(partial(self._overlay.find, cid)) if data is None else data


class JournalledScratch:
    """Implements `theory_api.ports.scratch.Scratch` and `Keeping` through a journal."""

    def __init__(self, overlay: Overlay, shard: str = "") -> None:
        self._overlay = overlay
        self._shard = shard
        self._artifacts = JournalledArtifacts(overlay)

    async def keep(self, execution_id: str, outcome: bytes, named: Sequence[bytes]) -> None:
        """Keep the outcome and artifacts that it names; those that are not small come first."""
        name, small = self._named(execution_id), dict[str, bytes]()
        for data in named:
            if self._artifacts.journals(data):
                small[digest(data)] = data
            else:
                await self._artifacts.put(data)
        await self._overlay.save(name, outcome, small)

    async def save(self, execution_id: str, outcome: bytes) -> None:
        """Keep the outcome, atomically and durably; replaces an earlier one."""
        await self._overlay.save(self._named(execution_id), outcome)

    async def load(self, execution_id: str) -> bytes | None:
        """The outcome, or None."""
        name = self._named(execution_id)
        note = self._overlay.notes.get(name)
        if note is None:
            found = await in_thread(partial(self._overlay.beside.note, name))
            note = self._overlay.notes.get(name, found)
        return await (await self._own()).load(execution_id) if note is None else note

    async def names(self) -> tuple[str, ...]:
        """Executions that a note is kept of.

        Law: also by an owner of the shard that is gone, or stands still, and whose journal nobody
        has adopted; a note that moves meanwhile is in its file before it leaves the journal.
        """
        known = {*await in_thread(self._overlay.beside.noted), *self._overlay.notes}
        here = (name.rpartition("/") for name in known)
        noted = {name for shard, slash, name in here if (shard, slash) == (self._shard, "/")}
        return tuple(sorted({*noted, *await (await self._own()).names()}))

    async def drop(self, execution_id: str) -> None:
        """Forget it; idempotent."""
        await self._overlay.drop(self._named(execution_id))

    def _named(self, execution_id: str) -> str:
        if not is_name(execution_id):
            raise TheoryError("ERR_INPUTS", "an execution id is a name", {"reason": "name"})
        return f"{self._shard}/{execution_id}"

    async def _own(self) -> FileScratch:
        return await self._overlay.scratch(self._shard)

    async def sweep(self) -> int:
        """Remove what was left unfinished a day ago or longer; how many files."""
        return await (await self._own()).sweep()


class Files:
    """The stores of a process that owns its home, or shards of it."""

    def __init__(self, overlay: Overlay) -> None:
        self._overlay = overlay
        self.artifacts = JournalledArtifacts(overlay)
        self.scratch = JournalledScratch(overlay)

        self.failed: Callable[[BaseException], None] = lambda _error: None
        """Hears of a fault after which nothing leaves the journals, or no packs are merged."""

    def ended(self, task: asyncio.Task[None]) -> None:
        """Law: a disk that fails is waited for; any other fault stops the scheduler, loudly."""
        error = None if task.cancelled() else task.exception()
        if error is not None:
            log.error("journal.stopped", exc_info=error)
            self.failed(error)

    def notes(self, shard: str) -> JournalledScratch:
        """The scratch of one of several shards."""
        return JournalledScratch(self._overlay, shard)


@contextlib.asynccontextmanager
async def open_files(
    home: Home, disk: Disk | None = None, rotation: Rotation = MINUTE
) -> AsyncIterator[Files]:
    """Artifacts and notes of a home; at the end all of them are in packs and files.

    What dead processes left in journals is brought there first. Raises `TheoryError`
    `ERR_STORAGE`.
    """
    overlay = Overlay(home, disk, rotation=rotation)
    try:
        await in_thread(overlay.packs.refresh)
        await overlay.adopt()
    except BaseException:
        overlay.journal.close()
        raise
    more = asyncio.Event()
    more.set()
    tasks = {
        asyncio.create_task(_keep_advancing(overlay, more)),
        asyncio.create_task(_keep_merging(overlay, more)),
    }
    files = Files(overlay)
    for task in tasks:
        task.add_done_callback(files.ended)
    try:
        yield files
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        try:
            await overlay.advance(all_of=True)
        except TheoryError as error:
            log.warning("journal.stays", code=error.code, reason=error.message)
        overlay.journal.close()


def reading(home: Home) -> JournalledArtifacts:
    """The artifacts of a home beside the process that owns it; for questions alone."""
    return JournalledArtifacts(Overlay(home, owner=False))


async def _keep_advancing(overlay: Overlay, more: asyncio.Event) -> None:
    """Law: a disk that fails keeps journals where they are; what they hold stays readable."""
    looked = time.monotonic()
    while True:
        await asyncio.sleep(min(_PACE_S, overlay.rotation.after_s))
        try:
            if await overlay.advance():
                more.set()
            if time.monotonic() - looked > _ADOPT_S:
                looked = time.monotonic()
                await overlay.adopt(older_s=_ADOPT_S)
        except TheoryError as error:
            log.warning("journal.stays", code=error.code, reason=error.message)


async def _keep_merging(overlay: Overlay, more: asyncio.Event) -> None:
    """Law: a merge that is left or fails has changed nothing."""
    while True:
        await more.wait()
        more.clear()
        steps = overlay.packs.merge()
        try:
            while True:
                ended = await in_thread(partial(next, steps, more)) is more
                if ended:
                    break
                await asyncio.sleep(_REST_S)
        except TheoryError as error:
            log.warning("pack.unmerged", code=error.code, reason=error.message)
        finally:
            await in_thread(steps.close)


async def _joined(begun: bytearray, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield bytes(begun)
    async for chunk in rest:
        yield chunk
