"""What every artifact store promises: bytes by digest, whole or not at all."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from theory_api.adapters.files.artifacts import FileArtifacts
from theory_api.adapters.files.home import open_home
from theory_api.adapters.files.journalled import open_files
from theory_api.adapters.memory.artifacts import MemoryArtifacts
from theory_api.adapters.tests.conftest import refused
from theory_api.ports.artifacts import ArtifactStore, Blob
from theory_core import TheoryError, digest

MIB = 1024 * 1024
SIZES = (0, 1, MIB - 1, MIB, MIB + 1, 3 * MIB)


@pytest.fixture(params=["memory", "files", "journalled"])
async def artifacts(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[ArtifactStore]:
    if request.param == "journalled":
        async with open_files(open_home(tmp_path / "home")) as files:
            yield files.artifacts
    else:
        yield MemoryArtifacts() if request.param == "memory" else FileArtifacts(tmp_path)


def data_of(size: int) -> bytes:
    return bytes(range(256)) * (size // 256) + b"x" * (size % 256)


async def pieces(data: bytes, size: int = 64 * 1024) -> AsyncIterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


async def joined(chunks: AsyncIterator[bytes]) -> bytes:
    return b"".join([chunk async for chunk in chunks])


@pytest.mark.parametrize("size", SIZES)
async def test_what_was_put_comes_back_through_every_door(
    artifacts: ArtifactStore, size: int, tmp_path: Path
) -> None:
    data = data_of(size)
    blob = await artifacts.put(data)
    assert blob == Blob(digest(data), size)
    assert await artifacts.put_stream(pieces(data), max_bytes=size) == blob
    assert await artifacts.get(blob.cid) == data
    assert await joined(artifacts.stream(blob.cid)) == data
    assert await artifacts.stat(blob.cid) == blob
    target = tmp_path / "out" / "copy"
    await artifacts.copy_to(blob.cid, str(target))
    assert target.read_bytes() == data


@pytest.mark.parametrize("size", SIZES)
async def test_what_was_streamed_in_comes_back(artifacts: ArtifactStore, size: int) -> None:
    data = data_of(size)
    blob = await artifacts.put_stream(pieces(data, 7777), max_bytes=size)
    assert blob == Blob(digest(data), size)
    assert await artifacts.get(blob.cid) == data


@pytest.mark.parametrize(
    ("offset", "length"),
    [(0, 5), (5, 5), (MIB - 1, 2), (MIB, None), (2 * MIB, 9 * MIB), (3 * MIB, 1), (4 * MIB, None)],
)
async def test_a_range_is_the_slice_of_the_bytes(
    artifacts: ArtifactStore, offset: int, length: int | None
) -> None:
    data = data_of(3 * MIB)
    blob = await artifacts.put(data)
    end = len(data) if length is None else offset + length
    found = await joined(artifacts.stream(blob.cid, offset=offset, length=length))
    assert found == data[offset:end]


async def test_a_negative_range_is_refused(artifacts: ArtifactStore) -> None:
    blob = await artifacts.put(b"abc")
    await refused("ERR_INPUTS", joined(artifacts.stream(blob.cid, offset=-1)))
    await refused("ERR_INPUTS", joined(artifacts.stream(blob.cid, length=-1)))


@pytest.mark.parametrize(
    "cid", ["b3:" + "0" * 64, "", "b3:", "../../etc/passwd", "b3:" + "A" * 64, "b3:" + "0" * 65]
)
async def test_an_unknown_digest_is_not_found(
    artifacts: ArtifactStore, cid: str, tmp_path: Path
) -> None:
    await refused("ERR_NOT_FOUND", artifacts.get(cid))
    await refused("ERR_NOT_FOUND", joined(artifacts.stream(cid)))
    await refused("ERR_NOT_FOUND", artifacts.copy_to(cid, str(tmp_path / "x")))
    assert await artifacts.stat(cid) is None


async def test_too_many_bytes_leave_nothing_behind(artifacts: ArtifactStore) -> None:
    data = data_of(2 * MIB)
    blob = await artifacts.put(data)
    error = await refused("ERR_TOO_LARGE", artifacts.get(blob.cid, max_bytes=2 * MIB - 1))
    assert error.detail == {"size_bytes": 2 * MIB}
    assert await artifacts.get(blob.cid, max_bytes=2 * MIB) == data
    more = data_of(2 * MIB + 1)
    await refused("ERR_TOO_LARGE", artifacts.put_stream(pieces(more), max_bytes=2 * MIB))
    assert await artifacts.stat(digest(more)) is None


async def test_a_stream_that_breaks_leaves_nothing_behind(artifacts: ArtifactStore) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield b"half"
        raise TheoryError("ERR_UPLOAD", "the sender left")

    await refused("ERR_UPLOAD", artifacts.put_stream(broken(), max_bytes=100))
    assert await artifacts.stat(digest(b"half")) is None


async def test_a_copy_replaces_a_file_and_refuses_a_folder(
    artifacts: ArtifactStore, tmp_path: Path
) -> None:
    blob = await artifacts.put(b"new")
    target = tmp_path / "copy"
    target.write_bytes(b"something older and longer")
    await artifacts.copy_to(blob.cid, str(target))
    assert target.read_bytes() == b"new"
    await refused("ERR_STORAGE", artifacts.copy_to(blob.cid, str(tmp_path)))


async def test_what_is_free_is_a_count(artifacts: ArtifactStore) -> None:
    assert type(await artifacts.free_bytes()) is int
    assert await artifacts.free_bytes() > 0
