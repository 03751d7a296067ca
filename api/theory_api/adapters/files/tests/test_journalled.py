"""What a journal promises: what was answered is there after any end, and files follow."""

from __future__ import annotations

import asyncio
import errno
import os
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from theory_api.adapters.files import beside, journalled
from theory_api.adapters.files import overlay as module
from theory_api.adapters.files.disk import Disk
from theory_api.adapters.files.home import Home, open_home, open_shard
from theory_api.adapters.files.journalled import SMALL, JournalledScratch, open_files, reading
from theory_api.adapters.files.overlay import Overlay, Rotation
from theory_api.adapters.files.record import BLOB, NOTE, Record, records, scan
from theory_api.adapters.files.scratch import FileScratch
from theory_core import TheoryError, digest


@pytest.fixture
def own(tmp_path: Path) -> Home:
    return open_home(tmp_path / "home")


def overlay(own: Home, disk: Disk | None = None) -> Overlay:
    """A process at work; what it does not close is left as a crash leaves it."""
    return Overlay(own, disk)


def journals(own: Home) -> list[Path]:
    return sorted(own.journals.iterdir())


class Counting(Disk):
    """A disk that counts what it waits for, and may fail."""

    def __init__(self) -> None:
        self.syncs = 0
        self.fault: OSError | None = None

    def sync(self, handle: int) -> None:
        self.syncs += 1
        if self.fault is not None:
            raise self.fault
        super().sync(handle)


def test_a_record_that_is_not_whole_ends_the_journal() -> None:
    first, second = Record(BLOB, digest(b"a"), b"a"), Record(NOTE, "x1", b"outcome")
    whole = first.encode() + second.encode()
    assert list(records(whole)) == [first, second]
    for cut in range(len(first.encode()), len(whole)):
        assert list(records(whole[:cut])) == [first]
    for place in range(len(first.encode()), len(whole)):
        changed = bytearray(whole)
        changed[place] ^= 1
        assert list(records(bytes(changed))) == [first]


async def test_many_writes_at_once_wait_for_the_disk_together(own: Home) -> None:
    disk = Counting()
    here = overlay(own, disk)
    await asyncio.gather(*(here.save(f"/x{n}", b"note") for n in range(100)))
    assert disk.syncs <= 2
    assert len(here.notes) == 100
    here.journal.close()


async def test_what_was_answered_is_there_after_a_crash(own: Home) -> None:
    here = overlay(own)
    await here.put(b"receipt", digest(b"receipt"))
    await here.save("/x1", b"outcome")
    await here.save("/x2", b"outcome")
    await here.drop("/x2")
    await here.save("/x3", b"outcome")
    here.journal.close()
    async with open_files(own) as files:
        assert await files.artifacts.get(digest(b"receipt")) == b"receipt"
        assert await files.scratch.names() == ("x1", "x3")
        assert await files.scratch.load("x1") == b"outcome"
        await files.scratch.drop("x1")
        await files.scratch.drop("x3")
    assert journals(own) == []
    assert await reading(own).get(digest(b"receipt")) == b"receipt"
    assert await FileScratch(own.scratch).names() == ()


@pytest.mark.parametrize("size", [8, SMALL + 1])
async def test_a_note_and_what_it_names_wait_for_the_disk_once(own: Home, size: int) -> None:
    disk = Counting()
    here = overlay(own, disk)
    await here.save("/x0", b"the journal is there")
    before = disk.syncs
    named = [b"envelope", b"trace".ljust(size)]
    await JournalledScratch(here).keep("x1", b"outcome", named)
    assert size > SMALL or disk.syncs == before + 1
    here.journal.close()
    async with open_files(own) as files:
        assert await files.scratch.load("x1") == b"outcome"
        for body in named:
            assert await files.artifacts.get(digest(body)) == body


async def test_wherever_a_write_ends_a_note_is_never_there_without_what_it_names(own: Home) -> None:
    here = overlay(own)
    await here.put(b"known", digest(b"known"))
    (file,) = journals(own)
    before = file.stat().st_size
    named = [b"known", b"envelope", b"trace"]
    await JournalledScratch(here).keep("x1", b"outcome", named)
    here.journal.close()
    whole = file.read_bytes()
    for end in range(before, len(whole) + 1):
        found = list(records(whole[:end]))
        noted = any(record.kind == NOTE for record in found)
        assert noted == (end == len(whole))
        assert not noted or {record.body for record in found} >= {*named, b"outcome"}
    # Pages reach a disk in any order: what comes after a hole counts for nothing.
    for hole in range(before, len(whole) - 1):
        torn = whole[:hole] + b"\0" + whole[hole + 1 :]
        if torn != whole:
            assert all(record.kind != NOTE for record in records(torn))


async def test_a_torn_end_costs_only_what_was_never_answered(own: Home) -> None:
    here = overlay(own)
    await here.put(b"kept", digest(b"kept"))
    here.journal.close()
    (file,) = journals(own)
    with file.open("ab") as torn:
        torn.write(Record(BLOB, digest(b"torn"), b"torn").encode()[:-1])
    async with open_files(own) as files:
        assert await files.artifacts.get(digest(b"kept")) == b"kept"
        assert await files.artifacts.stat(digest(b"torn")) is None


async def test_another_process_reads_what_only_a_journal_has(own: Home) -> None:
    here, other = overlay(own), reading(own)
    cid = digest(b"envelope")
    await here.put(b"envelope", cid)
    assert await other.get(cid) == b"envelope"
    assert b"".join([piece async for piece in other.stream(cid, offset=2, length=3)]) == b"vel"
    await here.advance(all_of=True)
    assert here.blobs == {}
    assert await other.get(cid) == b"envelope"
    here.journal.close()


async def test_who_takes_a_shard_over_sees_the_notes_that_only_the_last_owner_has(
    own: Home,
) -> None:
    """Its journal is not adopted: it stands still, or died after the successor had begun."""
    async with open_files(own) as files:
        here = overlay(own)
        await here.save("s1/x1", b"outcome")
        await here.save("s1/x2", b"outcome")
        await here.save("s2/x3", b"another shard's")
        await here.drop("s1/x2")
        await here.save("/x4", b"the home's")
        for _ in ("it stands still", "it is dead"):
            assert await files.notes("s1").names() == ("x1",)
            assert await files.notes("s1").load("x1") == b"outcome"
            assert await files.scratch.names() == ("x4",)
            here.journal.close()


async def test_nobody_adopts_the_journal_of_a_living_process(own: Home) -> None:
    here = overlay(own)
    await here.save("/x1", b"outcome")
    async with open_files(own) as files:
        assert await files.scratch.load("x1") == b"outcome"
    assert len(journals(own)) == 1
    here.journal.close()


async def test_what_a_process_leaves_that_dies_beside_others_is_adopted_by_them(
    own: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journalled, "_PACE_S", 0.001)
    monkeypatch.setattr(journalled, "_ADOPT_S", 0.05)
    async with open_files(own) as files:
        here = overlay(own)
        await here.put(b"kept", digest(b"kept"))
        await here.save("/x1", b"outcome")
        await here.save("/x2", b"theirs")
        await files.scratch.save("x2", b"ours")
        here.journal.close()
        (left,) = set(journals(own)) - files.scratch._overlay.journal._locks.keys()
        while left.exists():
            assert await files.scratch.names() == ("x1", "x2")
            assert await files.scratch.load("x1") == b"outcome"
            assert await files.scratch.load("x2") == b"ours"
            assert await files.artifacts.get(digest(b"kept")) == b"kept"
            await asyncio.sleep(0.002)
    assert await FileScratch(own.scratch).load("x1") == b"outcome"
    assert await FileScratch(own.scratch).load("x2") == b"ours"


async def test_a_fault_that_is_not_the_disk_s_is_told_and_not_swallowed(
    own: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journalled, "_PACE_S", 0.001)
    told = asyncio.get_running_loop().create_future()

    async def broken(_overlay: Overlay) -> None:
        raise ValueError

    async with open_files(own) as files:
        files.failed = told.set_result
        with monkeypatch.context() as failing:
            failing.setattr(Overlay, "advance", broken)
            assert isinstance(await told, ValueError)


async def test_a_journal_becomes_a_pack_and_its_notes_get_files(own: Home) -> None:
    here = overlay(own)
    await here.put(b"a", digest(b"a"))
    await here.save("/x1", b"outcome")
    await here.save("/x2", b"gone by then")
    await here.drop("/x2")
    assert not await here.advance()
    assert await here.advance(all_of=True)
    assert journals(own) == []
    assert await FileScratch(own.scratch).names() == ("x1",)
    assert (here.blobs, here.size) == ({}, 0)
    assert here.packs.find(digest(b"a")) == b"a"
    await here.drop("/x1")
    assert await FileScratch(own.scratch).names() == ()


async def test_a_journal_of_notes_alone_becomes_nothing(own: Home) -> None:
    here = overlay(own)
    await here.save("/x1", b"outcome")
    await here.drop("/x1")
    await here.advance(all_of=True)
    assert journals(own) == []
    assert not (own.artifacts / "packs").exists()


async def test_a_disk_that_fails_is_said_and_its_file_not_written_again(own: Home) -> None:
    disk = Counting()
    here = overlay(own, disk)
    await here.save("/x1", b"before")
    disk.fault = OSError(errno.EIO, "no")
    with pytest.raises(TheoryError, match="EIO"):
        await here.save("/x2", b"lost")
    assert "/x2" not in here.notes
    disk.fault = None
    await here.save("/x3", b"after")
    assert len(journals(own)) == 2
    here.journal.close()


class Full(Disk):
    """A disk that takes nothing in for a while, and may not let go either."""

    def __init__(self) -> None:
        self.full: frozenset[str] = frozenset()

    def _check(self, call: str) -> None:
        if call in self.full:
            raise OSError(errno.ENOSPC, "full")

    def create(self, path: Path, mode: int = 0o600) -> int:
        self._check("create")
        return super().create(path, mode)

    def write(self, handle: int, data: bytes) -> None:
        self._check("write")
        super().write(handle, data)

    def sync(self, handle: int) -> None:
        self._check("sync")
        super().sync(handle)

    def sync_folder(self, folder: Path) -> None:
        self._check("sync_folder")
        super().sync_folder(folder)

    def remove(self, path: Path) -> None:
        self._check("remove")
        super().remove(path)


def handles(own: Home) -> int:
    """Open journals; those that were removed count, too."""
    found = 0
    for link in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):
            found += str(link.readlink()).startswith(f"{own.journals}/")
    return found


@pytest.mark.parametrize(
    "full",
    ["create", "write", "sync", "sync_folder", "write remove", "sync remove", "write sync_folder"],
)
async def test_writes_that_are_refused_leave_neither_files_nor_handles(
    own: Home, full: str
) -> None:
    disk = Full()
    async with open_files(own, disk, Rotation(after_s=3600)) as files:
        assert (handles(own), journals(own)) == (0, [])
        disk.full = frozenset(full.split())
        for number in range(200):
            with pytest.raises(TheoryError, match="ENOSPC"):
                await files.artifacts.put(b"%d" % number)
        assert handles(own) <= 1
        assert len(journals(own)) <= 1, "one that cannot be removed, and none beside it"
        disk.full = frozenset()
        await files.artifacts.put(b"after")
        assert (handles(own), len(journals(own))) == (1, 1), "the journal in use"
    assert journals(own) == []
    assert await reading(own).get(digest(b"after")) == b"after"
    assert await reading(own).stat(digest(b"0")) is None


async def dead(own: Home, number: int) -> None:
    """A process that left a blob and two notes, one of them its own."""
    left = overlay(own)
    await left.put(b"blob %d" % number, digest(b"blob %d" % number))
    await left.save(f"/x{number}", b"outcome")
    await left.save("/all", b"outcome %d" % number)
    left.journal.close()


async def test_journals_of_the_dead_that_stay_for_now_are_brought_away_later(own: Home) -> None:
    for number in range(3):
        await dead(own, number)
    disk = Full()
    here = overlay(own, disk)
    disk.full = frozenset({"write"})
    with pytest.raises(TheoryError, match="ENOSPC"):
        await here.adopt()
    assert len(journals(own)) == 3
    for number in range(3):
        assert here.find(digest(b"blob %d" % number)) == b"blob %d" % number
    disk.full = frozenset()
    assert await here.advance()
    assert (handles(own), journals(own)) == (0, [])
    assert await FileScratch(own.scratch).names() == ("all", "x0", "x1", "x2")
    assert await FileScratch(own.scratch).load("all") == b"outcome 2"
    for number in range(3):
        assert await reading(own).get(digest(b"blob %d" % number)) == b"blob %d" % number


async def test_no_journal_is_brought_away_past_an_older_one_that_stays(own: Home) -> None:
    """Else an older note would come after a later one, once somebody else finds it."""
    for number in range(3):
        await dead(own, number)
    left = journals(own)

    class Stubborn(Disk):
        def remove(self, path: Path) -> None:
            if path == left[1]:
                raise OSError(errno.EIO, "no")
            super().remove(path)

    here = overlay(own, Stubborn())
    for trying in (here.adopt, here.advance):
        with pytest.raises(TheoryError, match="EIO"):
            await trying()
        assert journals(own) == left[1:]
    here.journal.close()
    async with open_files(own) as files:
        assert await files.scratch.load("all") == b"outcome 2"
    assert await FileScratch(own.scratch).load("all") == b"outcome 2"


async def test_a_journal_that_cannot_be_read_leaves_all_of_them_to_the_next_try(own: Home) -> None:
    for number in range(3):
        await dead(own, number)
    last = journals(own)[-1].stat().st_ino

    class Unreadable(Disk):
        ended = False

        def read(self, handle: int, size: int, place: int) -> bytes:
            if not self.ended and os.fstat(handle).st_ino == last:
                raise OSError(errno.EIO, "no")
            return super().read(handle, size, place)

    disk = Unreadable()
    here = overlay(own, disk)
    with pytest.raises(TheoryError, match="EIO"):
        await here.adopt()
    with pytest.raises(TheoryError, match="EIO"):
        async with open_files(own, disk):
            pass
    assert (handles(own), len(journals(own))) == (0, 3)
    disk.ended = True
    await here.adopt()
    assert (handles(own), journals(own)) == (0, [])


async def test_a_start_that_fails_lets_go_of_the_journals_it_took(own: Home) -> None:
    await dead(own, 1)
    disk = Full()
    disk.full = frozenset({"write"})
    with pytest.raises(TheoryError, match="ENOSPC"):
        async with open_files(own, disk):
            pass
    assert handles(own) == 0
    async with open_files(own) as files:
        assert await files.scratch.load("x1") == b"outcome"
    assert journals(own) == []


async def test_what_was_not_answered_never_gets_into_a_pack(own: Home) -> None:
    """It may be in the file's pages and not on the disk: the pack is written anew, and synced."""
    disk = Counting()
    here = overlay(own, disk)
    await here.put(b"kept", digest(b"kept"))
    disk.fault = OSError(errno.EIO, "no")
    with pytest.raises(TheoryError, match="EIO"):
        await here.put(b"lost", digest(b"lost"))
    disk.fault = None
    assert await here.advance()
    assert journals(own) == []
    assert await reading(own).get(digest(b"kept")) == b"kept"
    assert await reading(own).stat(digest(b"lost")) is None


async def test_each_shard_finds_its_own_notes_alone(own: Home) -> None:
    async with open_files(own) as files:
        one, other = files.notes("s1"), files.notes("s2")
        await one.save("x1", b"outcome")
        assert (await one.names(), await other.names()) == (("x1",), ())
        assert await files.scratch.names() == ()
        assert await other.load("x1") is None
    async with open_files(own) as files:
        assert await files.notes("s1").load("x1") == b"outcome"
        await files.notes("s1").drop("x1")
        assert await files.notes("s1").names() == ()


async def test_the_folder_of_a_shard_is_made_once_and_not_by_the_loop_s_thread(
    own: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = list[tuple[str, bool]]()

    def watched(home: Home, shard: str) -> Home:
        made.append((shard, threading.current_thread() is threading.main_thread()))
        return open_shard(home, shard)

    monkeypatch.setattr(module, "open_shard", watched)
    async with open_files(own) as files:
        notes = files.notes("s1")
        assert made == []
        for number in range(10):
            await notes.save(f"x{number}", b"outcome")
            assert await notes.load(f"y{number}") is None
        await notes.drop("x0")
        await notes.drop("z")
    assert made == [("s1", False)]
    assert len(await FileScratch(open_shard(own, "s1").scratch).names()) == 9


async def test_a_pack_that_cannot_be_made_leaves_its_journal_to_the_next_owner(own: Home) -> None:
    disk = Counting()
    here = overlay(own, disk)
    await here.put(b"kept", digest(b"kept"))
    for _ in range(2):
        disk.fault = OSError(errno.EIO, "no")
        with pytest.raises(TheoryError, match="EIO"):
            await here.advance(all_of=True)
        assert here.blobs == {digest(b"kept"): b"kept"}
    assert len(journals(own)) == 1
    assert list((own.artifacts / "parts").iterdir()) == []
    here.journal.close()
    async with open_files(own) as files:
        assert await files.artifacts.get(digest(b"kept")) == b"kept"
    assert journals(own) == []


async def test_what_was_appended_is_all_that_another_process_reads(
    own: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, other = overlay(own), overlay(own)
    await here.put(b"first" * 100, digest(b"first" * 100))
    assert other.beside.blob(digest(b"first" * 100)) is not None
    read = list[tuple[int, int]]()

    def watched(_read: object, begin: int, end: int) -> Iterator[tuple[Record, int]]:
        read.append((begin, end))
        return scan(_read, begin, end)  # type: ignore[arg-type]

    monkeypatch.setattr(beside, "scan", watched)
    before = journals(own)[0].stat().st_size
    await here.save("/x1", b"second")
    assert other.beside.note("/x1") == b"second"
    assert read == [(before, journals(own)[0].stat().st_size)]
    here.journal.close()
