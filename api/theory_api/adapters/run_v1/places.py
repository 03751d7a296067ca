"""Where executions live on this machine: a short folder for sockets, a durable mark beside it."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from theory_core import TheoryError, digest, is_name

SOCKET_BYTES: Final = 103
"""Longest path of a unix socket that every system takes."""

_LONGEST: Final = "egress.sock"
"""The longest name of a socket in the folder of an execution."""
_MEMORY: Final = Path("/dev/shm")  # noqa: S108 - checked as runtime_root
_PRIVATE: Final = 0o700
_SECRET: Final = 0o600
_ANYBODY: Final = 0o777
_LISTABLE: Final = 0o755
_READABLE: Final = 0o444


def runtime_root(home: Path, kind: str = "") -> Path:
    """The short folder of a home: the same for every process that works on it."""
    return Path("/tmp") / f"theory-{os.getuid()}-{home_name(home)}{kind}"  # noqa: S108 - checked


def home_name(home: Path) -> str:
    """What a home is called where its path would be too long."""
    return digest(os.fsencode(home.resolve())).removeprefix("b3:")[:12]


@dataclass(frozen=True, slots=True)
class Place:
    """The places of one execution."""

    folder: Path
    """Sockets, secrets and the worker's scratch; may be lost with the machine."""
    secrets: Path
    """One file per secret, in memory where this machine has such a place."""
    mark: Path
    """There from before the start until the release; outlives the machine's restart."""

    @property
    def run_socket(self) -> str:
        """Where the processor listens."""
        return str(self.folder / "run.sock")

    @property
    def io_socket(self) -> str:
        """Where the gateway listens."""
        return str(self.folder / "io.sock")


class Places:
    """Makes and removes the places of executions; every call does IO and belongs in a thread.

    The root is there as long as an execution is in it; the lock keeps the last one to go and the
    next one to come apart. In a `shared` place another user works too, to whom the folder is given
    by other means than its path: the root stays private, and secrets lie outside the folder.
    """

    def __init__(self, *, root: Path, marks: Path, shared: bool = False) -> None:
        self._lock = threading.Lock()
        self._root = root
        self._marks = marks
        self._shared = shared
        self._vault = _MEMORY / root.name if shared and _MEMORY.is_dir() else None

    def of(self, execution_id: str) -> Place:
        """The places of an execution, whether there or not."""
        folder = self._root / execution_id
        secrets = folder / "secrets" if self._vault is None else self._vault / execution_id
        return Place(folder, secrets, self._marks / execution_id)

    def mark(self, execution_id: str, note: str = "") -> None:
        """Mark the execution as begun, durably: for one that needs no folder of its own.

        `note` is what a successor has to know, and reads with `noted`.
        Raises `TheoryError` `ERR_STORAGE`.
        """
        try:
            if not self._marks.is_dir():
                self._marks.mkdir(mode=_PRIVATE, parents=True, exist_ok=True)
                _sync(self._marks.parent)
            _touch_durably(self._marks / execution_id, note)
        except OSError as error:
            raise _storage("a run cannot be marked") from error

    def make(self, execution_id: str, secrets: dict[str, str]) -> Place:
        """Mark the execution as begun, durably, then make its folder and its secrets.

        Raises `TheoryError` `ERR_STORAGE`.
        """
        place = self.of(execution_id)
        if len(os.fsencode(place.folder / _LONGEST)) > SOCKET_BYTES:
            raise _storage("the path of a run's socket is too long")
        self.mark(execution_id)
        try:
            with self._lock:
                make_private(self._root)
                shutil.rmtree(place.folder, ignore_errors=True)
                place.folder.mkdir(mode=_PRIVATE)
                if secrets and self._vault is not None:
                    make_private(self._vault)
                    shutil.rmtree(place.secrets, ignore_errors=True)
                if secrets:
                    _write_secrets(place.secrets, secrets, shared=self._shared)
            if self._shared:
                place.folder.chmod(_ANYBODY)
        except OSError as error:
            raise _storage("the folder of a run cannot be made") from error
        return place

    def noted(self, execution_id: str) -> str:
        """What its owner noted; empty if nothing, or if the execution has no mark."""
        try:
            return self.of(execution_id).mark.read_text(encoding="utf-8")
        except FileNotFoundError:
            return ""
        except OSError as error:
            raise _storage("the mark of a run cannot be read") from error

    def is_marked(self, execution_id: str) -> bool:
        """Whether the execution was begun and not released."""
        return self.of(execution_id).mark.exists()

    def names(self) -> tuple[str, ...]:
        """Executions with a mark or a folder; raises `TheoryError` `ERR_STORAGE`."""
        found = set[str]()
        try:
            for folder in (self._marks, self._root):
                # It is made with the first run, and goes with the last that has a folder in it.
                with contextlib.suppress(FileNotFoundError):
                    found.update(path.name for path in folder.iterdir())
        except OSError as error:
            raise _storage("the folders of runs cannot be listed") from error
        return tuple(sorted(name for name in found if is_name(name)))

    def remove(self, execution_id: str) -> None:
        """Remove everything; the mark goes last. Idempotent; raises `TheoryError` `ERR_STORAGE`."""
        place = self.of(execution_id)
        try:
            for there in (place.secrets, place.folder):
                if there.exists():
                    shutil.rmtree(there)
            for root in (self._vault, self._root):
                with self._lock, contextlib.suppress(OSError):
                    # Others may be in it.
                    if root is not None:
                        root.rmdir()
            place.mark.unlink(missing_ok=True)
        except OSError as error:
            raise _storage("the folder of a run cannot be removed") from error


def make_private(folder: Path) -> None:
    """Law: nobody else can have put anything into the folder, or replaced it."""
    folder.mkdir(mode=_PRIVATE, exist_ok=True)
    facts = folder.lstat()
    private = stat.S_ISDIR(facts.st_mode) and stat.S_IMODE(facts.st_mode) == _PRIVATE
    if not private or facts.st_uid != os.getuid():
        raise _storage("the folder for runs belongs to somebody else")


def _touch_durably(file: Path, text: str = "") -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_TRUNC
    descriptor = os.open(file, flags, _SECRET)
    try:
        if text:
            os.write(descriptor, text.encode())
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    _sync(file.parent)


def _sync(folder: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write_secrets(folder: Path, secrets: dict[str, str], *, shared: bool) -> None:
    folder.mkdir(mode=_PRIVATE)
    for name, value in secrets.items():
        descriptor = os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _SECRET)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(value)
        if shared:
            (folder / name).chmod(_READABLE)
    if shared:
        folder.chmod(_LISTABLE)


def _storage(sentence: str) -> TheoryError:
    return TheoryError("ERR_STORAGE", f"storage unavailable: {sentence}")
