"""A home is made for its owner alone, has one key, and one writer at a time."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from theory_api.adapters.files.disk import Disk
from theory_api.adapters.files.home import Home, open_home, open_shard
from theory_api.adapters.files.lock import WriterLock
from theory_core import TheoryError


def code_of(what: Callable[[], object]) -> str:
    with pytest.raises(TheoryError) as caught:
        what()
    return caught.value.code


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return open_home(tmp_path / "a" / "home")


def test_a_new_home_belongs_to_its_owner_alone(home: Home) -> None:
    assert {mode_of(path) for path in (home.root, home.artifacts, home.scratch)} == {0o700}
    assert home.database == home.root / "theory.db"
    assert not home.database.exists()


def test_the_folders_of_a_home_and_of_a_shard_have_durable_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A power failure after the first note would take its folder with it otherwise."""
    synced, sync = list[Path](), Disk.sync_folder

    def noted(disk: Disk, folder: Path) -> None:
        synced.append(folder)
        sync(disk, folder)

    monkeypatch.setattr(Disk, "sync_folder", noted)
    root = tmp_path / "deep" / "home"
    made = open_home(root)
    assert synced == [tmp_path, root.parent, root, root, root]
    synced.clear()
    open_shard(made, "s0")
    assert synced == [root, root / "shards", root / "shards" / "s0"]
    synced.clear()
    open_shard(made, "s0")
    open_home(root)
    assert synced == []


def test_an_existing_folder_keeps_its_permissions(tmp_path: Path) -> None:
    tmp_path.chmod(0o750)
    open_home(tmp_path)
    open_home(tmp_path)
    assert mode_of(tmp_path) == 0o750


def test_a_home_that_is_a_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "home"
    file.write_text("mine")
    assert code_of(lambda: open_home(file)) == "ERR_STORAGE"
    assert code_of(lambda: open_home(file / "below")) == "ERR_STORAGE"


def test_the_key_is_made_once_and_only_its_owner_may_read_it(home: Home) -> None:
    key = home.api_key()
    assert len(key) >= 40
    assert home.api_key() == key
    assert mode_of(home.root / "api-key") == 0o600
    assert [path.name for path in home.root.iterdir() if "key" in path.name] == ["api-key"]


@pytest.mark.parametrize("draw", [Home.api_key, Home.identity])
def test_a_key_and_an_identity_are_durable_by_name_before_anybody_is_told(
    home: Home, monkeypatch: pytest.MonkeyPatch, draw: Callable[[Home], str]
) -> None:
    synced: list[set[str]] = []

    def sync_folder(_disk: Disk, folder: Path) -> None:
        assert folder == home.root
        synced.append({path.name for path in folder.iterdir()} & {"api-key", "identity"})

    monkeypatch.setattr(Disk, "sync_folder", sync_folder)
    drawn = draw(home)
    assert synced in ([{"api-key"}], [{"identity"}])
    assert draw(home) == drawn
    assert len(synced) == 1


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o777])
def test_a_key_that_others_may_use_is_refused(home: Home, mode: int) -> None:
    home.api_key()
    (home.root / "api-key").chmod(mode)
    assert code_of(home.api_key) == "ERR_FORBIDDEN"


@pytest.mark.parametrize("content", [b"", b"short\n", b"\xff" * 40, b"two lines" * 4 + b"\nx\n"])
def test_a_key_file_without_a_key_is_refused(home: Home, content: bytes) -> None:
    file = home.root / "api-key"
    file.write_bytes(content)
    file.chmod(0o600)
    assert code_of(home.api_key) == "ERR_FORBIDDEN"
    assert file.read_bytes() == content


def test_a_key_that_is_a_link_a_pipe_or_a_folder_is_refused(home: Home) -> None:
    file = home.root / "api-key"
    file.symlink_to("/etc/passwd")
    assert code_of(home.api_key) == "ERR_STORAGE"
    file.unlink()
    os.mkfifo(file, 0o600)
    assert code_of(home.api_key) == "ERR_FORBIDDEN"
    file.unlink()
    file.mkdir(mode=0o700)
    assert code_of(home.api_key) == "ERR_FORBIDDEN"


def test_a_lock_has_one_holder(home: Home) -> None:
    first, second = home.lock(), home.lock()
    first.acquire()
    with pytest.raises(TheoryError) as caught:
        second.acquire()
    assert caught.value.code == "ERR_NOT_WRITER"
    assert caught.value.detail["pid"] == os.getpid()
    assert code_of(first.acquire) == "ERR_NOT_WRITER"
    second.release()
    assert code_of(second.acquire) == "ERR_NOT_WRITER"
    first.release()
    first.release()
    second.acquire()
    second.release()
    assert (home.root / "writer.lock").read_bytes() == b""


def test_a_lock_on_two_folders_takes_both_or_none(home: Home, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    both = home.lock(elsewhere / "other.db")
    alone = WriterLock(elsewhere / "writer.lock")
    alone.acquire()
    assert code_of(both.acquire) == "ERR_NOT_WRITER"
    home.lock().acquire()
    alone.release()


def test_a_lock_that_says_nothing_readable_is_still_a_lock(home: Home) -> None:
    lock = home.lock()
    lock.acquire()
    (home.root / "writer.lock").write_text("pid ; rm -rf\x1b[31m")
    with pytest.raises(TheoryError) as caught:
        home.lock().acquire()
    assert caught.value.code == "ERR_NOT_WRITER"
    assert "rm" not in caught.value.message
    lock.release()


def test_a_lock_file_that_is_a_link_or_a_folder_is_refused(home: Home, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("mine")
    file = home.root / "writer.lock"
    file.symlink_to(victim)
    assert code_of(home.lock().acquire) == "ERR_STORAGE"
    assert victim.read_text() == "mine"
    file.unlink()
    file.mkdir()
    assert code_of(home.lock().acquire) == "ERR_STORAGE"
