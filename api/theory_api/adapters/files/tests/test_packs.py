"""What packs promise: every blob that was acknowledged, after any death, merge or damage."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from theory_api.adapters.files import packs as module
from theory_api.adapters.files.artifacts import FileArtifacts
from theory_api.adapters.files.disk import STALE_S, Disk
from theory_api.adapters.files.home import Home, open_home
from theory_api.adapters.files.index import ENTRY, Index, encode, entry, key
from theory_api.adapters.files.journalled import JournalledArtifacts, open_files, reading
from theory_api.adapters.files.merging import FAN
from theory_api.adapters.files.overlay import Overlay, Rotation
from theory_api.adapters.files.packs import Packs
from theory_api.adapters.files.record import sliced
from theory_core import TheoryError, digest


@pytest.fixture
def own(tmp_path: Path) -> Home:
    return open_home(tmp_path / "home")


def names(own: Home) -> list[str]:
    """What lies in the folder of packs, without the file that merges are locked by."""
    folder = own.artifacts / "packs"
    return sorted(path.name for path in folder.glob("*.*"))


def packs(own: Home) -> list[Path]:
    return sorted((own.artifacts / "packs").glob("*.pack"))


def parts(own: Home) -> list[Path]:
    return sorted((own.artifacts / "parts").glob("*"))


async def packed(here: Overlay, *blobs: bytes) -> None:
    """One pack of these."""
    for data in blobs:
        await here.put(data, digest(data))
    await here.advance(all_of=True)


def merged(here: Overlay) -> None:
    for _ in here.packs.merge():
        pass


async def until(so: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while True:
            await asyncio.sleep(0.005)
            if so():
                return


def spoil(path: Path, data: bytes) -> None:
    """Change a byte of a blob where it lies."""
    content = bytearray(path.read_bytes())
    content[content.index(data)] ^= 1
    path.write_bytes(content)


async def code_of(store: JournalledArtifacts, data: bytes) -> str:
    with pytest.raises(TheoryError) as caught:
        await store.get(digest(data))
    return caught.value.code


def loaded(data: bytes, pack_size: int) -> Index | None:
    return Index.load(partial(sliced, data), len(data), pack_size)


@given(st.sets(st.integers(0, 2**32), max_size=600))
@settings(deadline=None)
def test_an_index_finds_what_it_has_and_nothing_else(numbers: set[int]) -> None:
    held = {digest(str(n).encode()): (n, n % 1000) for n in numbers}
    index = loaded(encode((entry(cid, *where) for cid, where in held.items()), 7), 7)
    assert index is not None
    assert {cid: index.find(key(cid)) for cid in held} == held
    assert index.find(key(digest(b"another"))) is None
    assert index.find(bytes(32)) is None
    assert index.find(b"\xff" * 32) is None
    assert [item[:32] for item in index.entries()] == sorted(key(cid) for cid in held)


def test_digests_that_begin_alike_or_lie_across_entries_are_told_apart() -> None:
    """Searched bytes may be found where no entry begins."""
    near = [b"\x01" * 31 + bytes([n]) for n in range(256)]
    entries = [ENTRY.pack(digest_, 0x0101010101010101, 0x01010101) for digest_ in near]
    index = loaded(encode(entries, 1), 1)
    assert index is not None
    assert all(index.find(digest_) == (0x0101010101010101, 0x01010101) for digest_ in near)
    assert index.find(b"\x01" * 30 + b"\x02\x01") is None


def test_an_index_that_is_cut_changed_or_anothers_is_none() -> None:
    whole = encode((entry(digest(bytes([n])), n, 1) for n in range(3)), 99)
    assert loaded(whole, 99) is not None
    assert loaded(whole, 98) is None
    for cut in range(len(whole)):
        assert loaded(whole[:cut], 99) is None
    for place in range(len(whole)):
        changed = bytearray(whole)
        changed[place] ^= 1
        assert loaded(bytes(changed), 99) is None


async def test_a_journal_is_ended_by_its_size_or_its_age(own: Home) -> None:
    here = Overlay(own, rotation=Rotation(size=1000, after_s=3600))
    await here.put(b"a", digest(b"a"))
    assert not await here.advance()
    await here.put(b"b" * 1000, digest(b"b" * 1000))
    assert await here.advance()
    here.rotation = Rotation(after_s=0)
    assert not await here.advance()
    await here.put(b"c", digest(b"c"))
    assert await here.advance()
    assert len(packs(own)) == 2


@pytest.mark.parametrize("harm", ["missing", "cut", "changed", "another's"])
async def test_an_index_is_made_anew_from_its_pack(own: Home, harm: str) -> None:
    here = Overlay(own)
    await here.save("/x1", b"a note in between")
    await packed(here, b"one", b"two")
    await packed(here, b"three")
    kept, beside = packs(own)[0], packs(own)[0].with_suffix(".idx")
    sound = beside.read_bytes()
    if harm == "missing":
        beside.unlink()
    elif harm == "another's":
        shutil.copy(packs(own)[1].with_suffix(".idx"), beside)
    else:
        beside.write_bytes(sound[:-1] if harm == "cut" else b"\x00" + sound[1:])
    assert await reading(own).get(digest(b"two")) == b"two"
    assert not beside.exists() or beside.read_bytes() != sound, "who only reads writes nothing"
    async with open_files(own) as files:
        assert await files.artifacts.get(digest(b"one")) == b"one"
    assert kept.with_suffix(".idx").read_bytes() == sound


async def test_damage_to_one_record_costs_no_other_even_without_an_index(own: Home) -> None:
    blobs = [b"mark tjr1 inside", b"to be spoilt", b"behind it", b"tjr1", b"last"]
    await packed(Overlay(own), *blobs)
    (pack,) = packs(own)
    pack.with_suffix(".idx").unlink()
    spoil(pack, blobs[1])
    store = reading(own)
    assert await code_of(store, blobs[1]) == "ERR_NOT_FOUND"
    for data in (blobs[0], *blobs[2:]):
        assert await store.get(digest(data)) == data


@pytest.mark.scenario(61)
async def test_spoilt_bytes_are_said_unless_there_is_another_copy(own: Home) -> None:
    data = b"precious"
    await packed(Overlay(own), data)
    spoil(packs(own)[0], data)
    store = reading(own)
    assert await code_of(store, data) == "ERR_ARTIFACT_DIGEST"
    await packed(Overlay(own), data)
    assert await store.get(digest(data)) == data
    spoil(packs(own)[1], data)
    assert await code_of(store, data) == "ERR_ARTIFACT_DIGEST"
    await FileArtifacts(own.artifacts).put(data)
    assert await store.get(digest(data)) == data


async def test_many_packs_become_one_and_readers_of_the_old_go_on(own: Home) -> None:
    here, other = Overlay(own), reading(own)
    blobs = [f"blob {n}".encode() * 50 for n in range(FAN * 3)]
    for number in range(FAN):
        await here.save(f"/x{number}", b"a note that is dead by then" * 100)
        await here.drop(f"/x{number}")
        await packed(here, *blobs[number * 3 : number * 3 + 3], b"in all of them")
    assert await other.get(digest(blobs[0])) == blobs[0]
    apart = sum(path.stat().st_size for path in packs(own))
    merged(here)
    (one,) = packs(own)
    assert names(own) == [f"{one.stem}.idx", one.name]
    assert one.stat().st_size < apart / 2
    assert parts(own) == []
    for store in (other, reading(own), JournalledArtifacts(here)):
        for data in (*blobs, b"in all of them"):
            assert await store.get(digest(data)) == data
    merged(here)
    assert packs(own) == [one]


async def test_a_server_merges_by_itself(own: Home) -> None:
    blobs = [f"blob {n}".encode() for n in range(FAN + 2)]
    async with open_files(own, rotation=Rotation(after_s=0.01)) as files:
        for data in blobs:
            await files.artifacts.put(data)
            await until(lambda: not list(own.journals.iterdir()))
        await until(lambda: len(packs(own)) < FAN)
    for data in blobs:
        assert await reading(own).get(digest(data)) == data


async def test_nobody_merges_while_another_does(own: Home) -> None:
    here, other = Overlay(own), Overlay(own)
    for number in range(FAN):
        await packed(here, bytes([number]))
    steps = here.packs.merge()
    next(steps)
    merged(other)
    steps.close()
    assert parts(own) == []
    await packed(here, b"more")
    merged(other)
    assert len(packs(own)) == 2


async def test_a_merge_neither_copies_nor_drops_what_is_spoilt(own: Home) -> None:
    here = Overlay(own)
    for number in range(FAN + 1):
        await packed(here, b"blob %d" % number, b"twice" if number < 2 else b"")
    harmed = packs(own)[3]
    spoil(harmed, b"blob 3")
    spoil(packs(own)[0], b"twice")
    merged(here)
    assert len(packs(own)) == 2
    assert harmed.exists()
    store = reading(own)
    assert await code_of(store, b"blob 3") == "ERR_ARTIFACT_DIGEST"
    assert await store.get(digest(b"twice")) == b"twice"
    assert await store.get(digest(b"")) == b""


async def test_an_index_without_its_pack_is_swept_after_a_day(own: Home) -> None:
    await packed(Overlay(own), b"kept")
    old, new = (own.artifacts / "packs" / name for name in ("old.idx", "new.idx"))
    old.touch()
    new.touch()
    before = time.time() - STALE_S - 60
    os.utime(old, (before, before))
    os.utime(packs(own)[0].with_suffix(".idx"), (before, before))
    async with open_files(own) as files:
        assert await files.artifacts.sweep() == 1
    assert not old.exists()
    assert new.exists()
    assert packs(own)[0].with_suffix(".idx").exists()


async def test_an_index_that_a_merge_removes_during_a_sweep_is_no_fault(
    own: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    await packed(Overlay(own), b"kept")
    gone = own.artifacts / "packs" / "gone.idx"
    gone.touch()
    glob = Path.glob

    def merged_meanwhile(folder: Path, pattern: str) -> list[Path]:
        found = list(glob(folder, pattern))
        gone.unlink(missing_ok=True)
        return found

    monkeypatch.setattr(Path, "glob", merged_meanwhile)
    assert Packs(own.artifacts).sweep() == 0
    assert not gone.exists()


async def test_a_home_of_an_earlier_version_is_read_as_it_is(own: Home) -> None:
    """Small artifacts had files of their own."""
    blob = await FileArtifacts(own.artifacts).put(b"old")
    async with open_files(own) as files:
        assert await files.artifacts.get(blob.cid) == b"old"
        assert await files.artifacts.stat(blob.cid) == blob
    assert packs(own) == []


async def test_journals_on_another_file_system_are_copied(
    own: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = Overlay(own)
    monkeypatch.setattr(here.packs, "take", None)
    found = Path.stat

    def apart(path: Path) -> os.stat_result:
        status = found(path)
        if path.suffix != ".journal":
            return status
        changed = [*status[:2], status.st_dev + 1, *status[3:]]
        return os.stat_result(changed)

    monkeypatch.setattr(Path, "stat", apart)
    await packed(here, b"copied")
    assert list(own.journals.iterdir()) == []
    assert here.packs.find(digest(b"copied")) == b"copied"


async def test_others_miss_nothing_while_packs_come_and_go(own: Home) -> None:
    here, kept = Overlay(own), [b"first"]
    await packed(here, *kept)
    ended = asyncio.Event()

    async def ask() -> int:
        count, store = 0, reading(own)
        while not ended.is_set():
            store = store if count % 10 else reading(own)
            data = kept[(count * 7919) % len(kept)]
            assert await store.get(digest(data)) == data
            count += 1
        return count

    asking = [asyncio.create_task(ask()) for _ in range(3)]
    for number in range(FAN * 4):
        data = b"blob %d" % number
        await here.put(data, digest(data))
        kept.append(data)
        await here.advance(all_of=True)
        await asyncio.to_thread(merged, here)
    ended.set()
    assert min(await asyncio.gather(*asking)) > 0
    assert len(packs(own)) <= FAN


class Faulty(Disk):
    """Fails the n-th call that changes anything, having done half of it; and reads, if told to."""

    def __init__(self) -> None:
        self.left = 0
        self.reads_left = 0
        self.unreadable: int | None = None
        """The inode of a file."""

    def _step(self) -> bool:
        self.left -= 1
        return self.left == 0

    def _fail(self) -> OSError:
        return OSError(errno.EIO, os.strerror(errno.EIO))

    def read(self, handle: int, size: int, place: int) -> bytes:
        self.reads_left -= 1
        if self.reads_left == 0:
            raise self._fail()
        if self.unreadable is not None and self.unreadable == os.fstat(handle).st_ino:
            raise self._fail()
        return super().read(handle, size, place)

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
        if self._step():
            raise self._fail()
        super().sync(handle)

    def sync_folder(self, folder: Path) -> None:
        if self._step():
            raise self._fail()
        super().sync_folder(folder)

    def replace(self, part: Path, path: Path) -> None:
        if self._step():
            raise self._fail()
        super().replace(part, path)

    def remove(self, path: Path) -> None:
        if self._step():
            raise self._fail()
        super().remove(path)


@pytest.mark.scenario(60)
async def test_whichever_call_fails_nothing_is_lost_and_the_next_try_ends_it(
    tmp_path: Path,
) -> None:
    reached, told = 0, list[tuple[str, object]]()
    while reached == len(told):
        reached += 1
        own, disk = open_home(tmp_path / f"home{reached}"), Faulty()
        here, watching = Overlay(own, disk), reading(own)
        for number in range(FAN - 1):
            await packed(here, b"blob %d" % number)
        await here.put(b"last", digest(b"last"))
        await here.save("/x1", b"outcome")
        disk.left = reached
        for _ in range(2):
            try:
                await here.advance(all_of=True)
                merged(here)
            except TheoryError as error:
                told.append((error.code, error.detail))
            for data in (b"last", *(b"blob %d" % n for n in range(FAN - 1))):
                assert await JournalledArtifacts(here).get(digest(data)) == data
                assert await watching.get(digest(data)) == data
        assert parts(own) == []
        assert list(own.journals.iterdir()) == []
        assert await (await here.scratch("")).names() == ("x1",)
        assert here.blobs == {}
    assert reached > 20
    assert told == [("ERR_STORAGE", {"reason": "EIO"})] * (reached - 1)


@pytest.mark.parametrize("suffix", [".pack", ".idx"])
async def test_a_pack_that_cannot_be_read_stays_and_keeps_no_other_from_being_merged(
    own: Home, suffix: str
) -> None:
    disk = Faulty()
    here, store = Overlay(own, disk), reading(own)
    await packed(here, b"unreadable")
    (harmed,) = packs(own)
    disk.unreadable = harmed.with_suffix(suffix).stat().st_ino
    for number in range(FAN * 3):
        await packed(here, b"blob %d" % number)
        merged(here)
    assert len(packs(own)) < FAN
    assert harmed in packs(own)
    assert await code_of(JournalledArtifacts(here), b"unreadable") == "ERR_STORAGE"
    for data in (b"unreadable", *(b"blob %d" % number for number in range(FAN * 3))):
        assert await store.get(digest(data)) == data


@pytest.mark.parametrize("suffix", [".pack", ".idx"])
@pytest.mark.parametrize("place", ["an older pack", "a file", "a journal", "a pack not known"])
async def test_another_copy_is_read_where_one_cannot_be(own: Home, suffix: str, place: str) -> None:
    disk, data = Faulty(), b"precious"
    here, other = Overlay(own, disk), Overlay(own)
    if place == "an older pack":
        await packed(other, data)
    await packed(here, data)
    here.packs.refresh()
    store = JournalledArtifacts(here)
    disk.unreadable = packs(own)[-1].with_suffix(suffix).stat().st_ino
    if place == "a file":
        await FileArtifacts(own.artifacts).put(data)
    elif place == "a journal":
        await other.put(data, digest(data))
    elif place == "a pack not known":
        assert await code_of(store, data) == "ERR_STORAGE"
        await packed(other, data)
    assert await store.get(digest(data)) == data
    other.journal.close()


async def test_an_index_that_cannot_be_read_is_done_without_and_not_replaced(own: Home) -> None:
    disk = Faulty()
    await packed(Overlay(own), b"kept")
    index = packs(own)[0].with_suffix(".idx")
    disk.unreadable = index.stat().st_ino
    async with open_files(own, disk) as files:
        assert await files.artifacts.get(digest(b"kept")) == b"kept"
    assert index.stat().st_ino == disk.unreadable


async def test_whichever_read_fails_a_merge_loses_nothing(tmp_path: Path) -> None:
    reached, disk = 0, Faulty()
    while disk.reads_left <= 0:
        reached += 1
        own, disk = open_home(tmp_path / f"home{reached}"), Faulty()
        here, store = Overlay(own, disk), reading(own)
        for number in range(FAN):
            await packed(here, b"blob %d" % number, b"in all of them")
        disk.reads_left = reached
        merged(here)
        for data in (b"in all of them", *(b"blob %d" % number for number in range(FAN))):
            assert await store.get(digest(data)) == data
        merged(Overlay(own))
        assert len(packs(own)) == 1
    assert reached > FAN * 2


class Snapshots(Disk):
    """Keeps what a death of the machine before each call would leave: unsynced bytes are gone."""

    def __init__(self, home: Path, into: Path) -> None:
        self._home = home
        self._into = into
        self._open: dict[int, tuple[int, int]] = {}
        self._synced: dict[int, int] = {}
        self.acknowledged: list[tuple[Path, set[bytes]]] = []
        self.kept: set[bytes] = set()

    def _death(self) -> None:
        copy = self._into / str(len(self.acknowledged))
        shutil.copytree(self._home, copy)
        for path in self._home.rglob("*"):
            end = self._synced.get(path.stat().st_ino)
            if end is not None:
                os.truncate(copy / path.relative_to(self._home), end)
        self.acknowledged.append((copy, set(self.kept)))

    def create(self, path: Path, mode: int = 0o600) -> int:
        self._death()
        handle = super().create(path, mode)
        self._synced[os.fstat(handle).st_ino] = 0
        return handle

    def write(self, handle: int, data: bytes) -> None:
        self._death()
        super().write(handle, data)

    def sync(self, handle: int) -> None:
        self._death()
        super().sync(handle)
        status = os.fstat(handle)
        self._synced[status.st_ino] = status.st_size

    def replace(self, part: Path, path: Path) -> None:
        self._death()
        super().replace(part, path)

    def remove(self, path: Path) -> None:
        self._death()
        super().remove(path)

    def sync_folder(self, folder: Path) -> None:
        self._death()
        super().sync_folder(folder)


async def test_a_death_before_any_call_loses_nothing_and_leaves_nothing_half(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = open_home(tmp_path / "home")
    disk = Snapshots(own.root, tmp_path)
    here = Overlay(own, disk)
    for number in range(FAN):
        for data in (b"a%d" % number, b"b%d" % number):
            await here.put(data, digest(data))
            disk.kept.add(data)
        await here.save(f"/x{number}", b"outcome")
        await here.advance(all_of=True)
    merged(here)
    here.journal.close()
    assert len(packs(own)) == 1
    assert len(disk.acknowledged) > 100
    monkeypatch.setattr(module.Packs, "merge", lambda _: iter(()))
    for copy, kept in disk.acknowledged:
        beside = reading(Home(copy))
        for data in kept:
            assert await beside.get(digest(data)) == data
        async with open_files(open_home(copy)) as files:
            for data in kept:
                assert await files.artifacts.get(digest(data)) == data
        assert list(Home(copy).journals.iterdir()) == []


LIFE = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.integers(0, 40)),
        st.tuples(st.sampled_from(["rotate", "merge", "crash", "half a merge", "unindex"])),
    ),
    max_size=60,
)


@given(LIFE)
@settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_whatever_happens_every_process_sees_what_was_acknowledged(
    tmp_path_factory: pytest.TempPathFactory, life: list[tuple[str] | tuple[str, int]]
) -> None:
    asyncio.run(_live(open_home(tmp_path_factory.mktemp("home")), life))


async def _live(own: Home, life: list[tuple[str] | tuple[str, int]]) -> None:
    here, other, kept = Overlay(own), reading(own), set[bytes]()
    for event in life:
        if len(event) == 2:
            data = b"blob" * event[1]
            await here.put(data, digest(data))
            kept.add(data)
        elif event[0] == "rotate":
            await here.advance(all_of=True)
        elif event[0] == "merge":
            merged(here)
        elif event[0] == "half a merge":
            steps = here.packs.merge()
            next(steps, None)
            steps.close()
        elif event[0] == "unindex":
            for path in packs(own)[::2]:
                path.with_suffix(".idx").unlink(missing_ok=True)
        else:
            here.journal.close()
            here = Overlay(own)
            await here.adopt()
        for data in kept:
            assert await other.get(digest(data)) == data
    here.journal.close()
    for data in kept:
        assert await reading(own).get(digest(data)) == data
