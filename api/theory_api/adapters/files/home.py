"""The folder that holds all state of one installation, and what lies where in it."""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from theory_api.adapters.files.disk import Disk
from theory_api.adapters.files.lock import WriterLock
from theory_core import TheoryError

_KEY_BYTES: Final = 32
_MAX_KEY: Final = 256
_PRIVATE: Final = 0o077
"""Permission bits that a secret file must not have."""


@dataclass(frozen=True, slots=True)
class Home:
    """`theory.db`, `artifacts/`, `scratch/`, `journal/`, `api-key`, `writer.lock`."""

    root: Path

    @property
    def database(self) -> Path:
        """The SQLite file, where no other one was asked for."""
        return self.root / "theory.db"

    @property
    def artifacts(self) -> Path:
        """Folder of the content-addressed files and, in `packs/`, of those that are small."""
        return self.root / "artifacts"

    @property
    def scratch(self) -> Path:
        """Folder of the notes of unfinished executions."""
        return self.root / "scratch"

    @property
    def journals(self) -> Path:
        """Folder of small writes on their way to artifacts and scratch."""
        return self.root / "journal"

    def lock(self, database: Path | None = None) -> WriterLock:
        """The right to write to this home, and to the folder of a database elsewhere."""
        where = self.root if database is None else database.parent
        return WriterLock(self.root / "writer.lock", where / "writer.lock")

    def identity(self) -> str:
        """The name of this home that no other one has, made on first use; no secret.

        Raises `TheoryError` as `api_key`.
        """
        return self._drawn("identity")

    def api_key(self) -> str:
        """The local key, made on first use; a file that only its owner may read.

        Raises `TheoryError` `ERR_FORBIDDEN` for a key that others may read or that is no plain
        file, `ERR_STORAGE`.
        """
        return self._drawn("api-key")

    def _drawn(self, name: str) -> str:
        file = self.root / name
        try:
            return _read_key(file)
        except FileNotFoundError:
            _write_key(file)
        except OSError as error:
            raise _unusable(file, error) from error
        try:
            return _read_key(file)
        except OSError as error:
            raise _unusable(file, error) from error


def open_shard(home: Home, name: str) -> Home:
    """Where the executions of one of several shards leave their notes and marks, made for them.

    Law: who cleans up behind the last owner of a shard finds nobody else's executions there.
    Raises `TheoryError` `ERR_STORAGE`.
    """
    place = Home(home.root / "shards" / name)
    _make(place.root, place.scratch)
    return place


def open_home(root: Path) -> Home:
    """The home at `root`, made with its folders where they are missing, for its owner alone.

    A folder that was there keeps its permissions. Raises `TheoryError` `ERR_STORAGE`.
    """
    home = Home(root)
    _make(home.root, home.artifacts, home.scratch, home.journals)
    return home


def _make(root: Path, *folders: Path) -> None:
    """Law: what is durable in a folder is durable only if the folder's own name is."""
    disk = Disk()
    try:
        for folder in (root, *folders):
            missing = [folder, *folder.parents]
            while missing and missing[-1].is_dir():
                missing.pop()
            if missing:
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            for step in reversed(missing):
                disk.sync_folder(step.parent.resolve())
    except OSError as error:
        raise _unusable(root, error) from error


def _read_key(file: Path) -> str:
    handle = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode) or status.st_mode & _PRIVATE:
            message = f"{file} must be a file that only its owner may read: chmod 600 it"
            raise TheoryError("ERR_FORBIDDEN", message)
        text = os.read(handle, _MAX_KEY).decode("ascii", errors="replace").strip()
    finally:
        os.close(handle)
    if not text.isascii() or not text.isprintable() or len(text) < _KEY_BYTES:
        message = f"{file} does not hold a key; remove it, and a new one is made"
        raise TheoryError("ERR_FORBIDDEN", message)
    return text


def _write_key(file: Path) -> None:
    """Put a new key there, whole, unless one has appeared meanwhile; its name is durable too."""
    part = file.with_name(f".api-key-{secrets.token_hex(8)}")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        handle = os.open(part, flags, 0o600)
        try:
            os.write(handle, secrets.token_urlsafe(_KEY_BYTES).encode() + b"\n")
            os.fsync(handle)
        finally:
            os.close(handle)
        try:
            with contextlib.suppress(FileExistsError):
                file.hardlink_to(part)
        finally:
            part.unlink()
        Disk().sync_folder(file.parent)
    except OSError as error:
        raise _unusable(file, error) from error


def _unusable(path: Path, error: OSError) -> TheoryError:
    message = f"{path} cannot be used: {error.strerror or 'input/output error'}"
    return TheoryError("ERR_STORAGE", message, {"errno": error.errno or 0})
