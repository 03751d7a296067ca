"""Content-addressed files under attack: failing disks, rotten bits, links, kills in between."""

from __future__ import annotations

import asyncio
import errno
import os
import time
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import psutil
import pytest

from theory_api.adapters.files.artifacts import FileArtifacts
from theory_api.adapters.files.disk import Disk
from theory_api.adapters.files.scratch import FileScratch
from theory_core import TheoryError, digest

DATA = b"some bytes that matter" * 100


def place(root: Path, cid: str) -> Path:
    return root / "b3" / cid[3:5] / cid[5:]


def files(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*") if not path.is_dir()}


async def code_of(what: object) -> str:
    with pytest.raises(TheoryError) as caught:
        await what  # type: ignore[misc]
    return caught.value.code


class FailingDisk(Disk):
    """Fails the n-th call that changes anything, having written half of what it was given."""

    def __init__(self, fails_at: int = 0, error: int = errno.ENOSPC) -> None:
        self.fails_at = fails_at
        self.error = error
        self.count = 0
        self.synced_after_failure: set[int] = set()
        self._failed_handle: int | None = None

    def _step(self) -> bool:
        self.count += 1
        return self.count == self.fails_at

    def _fail(self) -> OSError:
        return OSError(self.error, os.strerror(self.error))

    def create(self, path: Path, mode: int = 0o600) -> int:
        if self._step():
            raise self._fail()
        return super().create(path, mode)

    def write(self, handle: int, data: bytes) -> None:
        if self._step():
            super().write(handle, data[: len(data) // 2])
            raise self._fail()
        super().write(handle, data)

    def sync(self, handle: int) -> None:
        if handle == self._failed_handle:
            self.synced_after_failure.add(handle)
        if self._step():
            self._failed_handle = handle
            raise self._fail()
        super().sync(handle)

    def replace(self, part: Path, path: Path) -> None:
        if self._step():
            raise self._fail()
        super().replace(part, path)

    def make_folder(self, folder: Path, root: Path) -> None:
        if self._step():
            raise self._fail()
        super().make_folder(folder, root)


async def chunks(*data: bytes) -> AsyncIterator[bytes]:
    for chunk in data:
        yield chunk


async def through(door: str, store: FileArtifacts, data: bytes, target: Path) -> None:
    if door == "put":
        await store.put(data)
    elif door == "put_stream":
        await store.put_stream(chunks(data, data), max_bytes=10_000)
    else:
        await store.copy_to(digest(data), str(target))


@pytest.mark.scenario(60)
@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO])
@pytest.mark.parametrize("door", ["put", "put_stream", "copy_to"])
async def test_whichever_write_fails_nothing_partial_is_left(
    tmp_path: Path, door: str, error: int
) -> None:
    root, out = tmp_path / "store", tmp_path / "out"
    root.mkdir()
    reached = 0
    while True:
        disk = FailingDisk(reached + 1, error)
        store = FileArtifacts(root, disk=disk)
        data = DATA + bytes([reached])
        if door == "copy_to":
            await FileArtifacts(root).put(data)
        before = files(root) | files(out)
        doing = partial(through, door, store, data, out / "copy")
        try:
            await doing()
        except TheoryError as caught:
            if (caught.code, caught.detail) != (
                "ERR_STORAGE",
                {"reason": errno.errorcode[error]},
            ):
                raise
            assert files(root) | files(out) == before
            assert disk.synced_after_failure == set()
            disk.fails_at = 0
            await doing()
            reached += 1
        else:
            break
    assert reached >= 4


@pytest.mark.scenario(61)
async def test_one_flipped_bit_is_found_by_every_reader(tmp_path: Path) -> None:
    store = FileArtifacts(tmp_path)
    blob = await store.put(DATA)
    file = place(tmp_path, blob.cid)
    rotten = bytearray(DATA)
    rotten[700] ^= 1
    file.write_bytes(rotten)

    async def read() -> None:
        async for _ in store.stream(blob.cid):
            pass

    target = tmp_path / "out"
    assert await code_of(store.get(blob.cid)) == "ERR_ARTIFACT_DIGEST"
    assert await code_of(read()) == "ERR_ARTIFACT_DIGEST"
    assert await code_of(store.copy_to(blob.cid, str(target))) == "ERR_ARTIFACT_DIGEST"
    assert not target.exists()
    assert await store.put(DATA) == blob
    assert await store.get(blob.cid) == DATA


@pytest.mark.parametrize("size", [0, 100, 3 * 1024 * 1024 + 5])
async def test_a_file_of_another_length_is_rotten(tmp_path: Path, size: int) -> None:
    store = FileArtifacts(tmp_path)
    data = bytes(range(256)) * 4 * 1024 * 3
    blob = await store.put(data)
    place(tmp_path, blob.cid).write_bytes((data + b"more!!")[:size])
    seen = 0

    async def read() -> None:
        nonlocal seen
        async for piece in store.stream(blob.cid):
            seen += len(piece)

    assert await code_of(read()) == "ERR_ARTIFACT_DIGEST"
    assert seen < max(size, 1)
    assert await code_of(store.get(blob.cid)) == "ERR_ARTIFACT_DIGEST"


@pytest.mark.scenario(56)
async def test_a_link_in_the_store_is_not_followed_and_is_replaced_by_the_bytes(
    tmp_path: Path,
) -> None:
    root = tmp_path / "store"
    root.mkdir()
    store = FileArtifacts(root)
    cid = digest(DATA)
    secret = tmp_path / "secret"
    secret.write_bytes(DATA)
    place(root, cid).parent.mkdir(parents=True)
    place(root, cid).symlink_to(secret)
    assert await code_of(store.get(cid)) == "ERR_ARTIFACT_DIGEST"
    assert await code_of(store.stat(cid)) == "ERR_ARTIFACT_DIGEST"
    await store.put(DATA)
    assert not place(root, cid).is_symlink()
    assert await store.get(cid) == DATA
    secret.write_bytes(b"changed")
    assert await store.get(cid) == DATA


async def test_a_folder_in_the_place_of_a_file_is_no_artifact(tmp_path: Path) -> None:
    store = FileArtifacts(tmp_path)
    cid = digest(DATA)
    place(tmp_path, cid).mkdir(parents=True)
    assert await code_of(store.get(cid)) == "ERR_ARTIFACT_DIGEST"
    assert await code_of(store.put(DATA)) == "ERR_STORAGE"


async def test_a_cancelled_upload_leaves_nothing(tmp_path: Path) -> None:
    store = FileArtifacts(tmp_path)
    for turn in range(30):
        forever = asyncio.Event()

        async def endless(gate: asyncio.Event = forever) -> AsyncIterator[bytes]:
            for _ in range(4):
                yield b"x" * 1024 * 1024
            await gate.wait()
            yield b"never"

        task = asyncio.create_task(store.put_stream(endless(), max_bytes=2**40))
        await asyncio.sleep(turn / 3000)
        task.cancel()
        await asyncio.wait({task})
        assert task.cancelled()
        assert files(tmp_path) == set()


async def test_a_cancelled_reader_leaves_no_file_open(tmp_path: Path) -> None:
    store = FileArtifacts(tmp_path)
    blob = await store.put(b"x" * 5 * 1024 * 1024)

    async def read() -> None:
        async for _ in store.stream(blob.cid):
            await asyncio.sleep(0)

    before = psutil.Process().num_fds()
    for turn in range(30):
        task = asyncio.create_task(read())
        await asyncio.sleep(turn / 5000)
        task.cancel()
        await asyncio.wait({task})
    assert psutil.Process().num_fds() == before


@pytest.mark.scenario(62)
async def test_writers_of_the_same_bytes_do_not_disturb_each_other(tmp_path: Path) -> None:
    store = FileArtifacts(tmp_path)
    blobs = await asyncio.gather(*(store.put(DATA) for _ in range(50)))
    assert {blob.cid for blob in blobs} == {digest(DATA)}
    assert files(tmp_path) == {str(place(tmp_path, digest(DATA)).relative_to(tmp_path))}


async def test_parts_of_the_dead_are_swept_and_those_of_the_living_are_not(
    tmp_path: Path,
) -> None:
    artifacts, scratch = FileArtifacts(tmp_path), FileScratch(tmp_path / "parts")
    assert await artifacts.sweep() == 0
    await artifacts.put(DATA)
    old, young = tmp_path / "parts" / ".part-old", tmp_path / "parts" / ".part-young"
    for store in (artifacts, scratch):
        for part in (old, young):
            part.write_bytes(b"half")
        os.utime(old, (time.time() - 90_000,) * 2)
        assert await store.sweep() == 1
        assert not old.exists()
        assert young.exists()


async def test_a_part_that_its_writer_names_during_a_sweep_is_no_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stores: list[FileArtifacts | FileScratch] = [FileArtifacts(tmp_path)]
    stores.append(FileScratch(tmp_path / "parts"))
    (tmp_path / "parts").mkdir()
    glob = Path.glob

    def named_meanwhile(folder: Path, pattern: str) -> list[Path]:
        found = list(glob(folder, pattern))
        for part in found:
            part.rename(part.with_suffix(".named"))
        return found

    monkeypatch.setattr(Path, "glob", named_meanwhile)
    for number, store in enumerate(stores):
        part = tmp_path / "parts" / f".part-{number}"
        part.write_bytes(b"whole")
        assert await store.sweep() == 0
        assert part.with_suffix(".named").exists()


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO])
async def test_a_note_that_cannot_be_written_leaves_the_earlier_one(
    tmp_path: Path, error: int
) -> None:
    await FileScratch(tmp_path).save("x1", b"earlier")
    reached = 0
    while True:
        scratch = FileScratch(tmp_path, disk=FailingDisk(reached + 1, error))
        try:
            await scratch.save("x1", b"later")
        except TheoryError as caught:
            if caught.code != "ERR_STORAGE":
                raise
            assert await scratch.load("x1") == b"earlier"
            assert files(tmp_path) == {"x1.note"}
            reached += 1
        else:
            break
    assert reached == 4
    assert await FileScratch(tmp_path).load("x1") == b"later"


async def test_a_note_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"secret")
    (tmp_path / "x1.note").symlink_to(secret)
    scratch = FileScratch(tmp_path)
    assert await code_of(scratch.load("x1")) == "ERR_STORAGE"
    await scratch.save("x1", b"note")
    assert await scratch.load("x1") == b"note"
    assert secret.read_bytes() == b"secret"
