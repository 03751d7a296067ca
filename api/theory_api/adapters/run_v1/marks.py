"""Durable marks of executions that run elsewhere: what a later owner has to know to end them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from theory_core import TheoryError, canonicalize, is_name, loads_strict

_PRIVATE: Final = 0o700
_OWN: Final = 0o600


class Marks:
    """One small file an execution; every call does IO and belongs in a thread.

    All raise `TheoryError` `ERR_STORAGE`.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def make(self, execution_id: str, facts: Mapping[str, Any]) -> None:
        """Note that the execution may be begun from now on; durable on return."""
        target = self._folder / execution_id
        part = self._folder / f".{execution_id}.part"
        try:
            if not self._folder.is_dir():
                self._folder.mkdir(mode=_PRIVATE, parents=True, exist_ok=True)
                _sync(self._folder.parent)
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
            with os.fdopen(os.open(part, flags, _OWN), "wb") as file:
                file.write(canonicalize(facts))
                file.flush()
                os.fsync(file.fileno())
            part.replace(target)
            _sync(self._folder)
        except OSError as error:
            raise _storage("made") from error

    def read(self, execution_id: str) -> Mapping[str, Any] | None:
        """What was noted, or None for an execution without a mark."""
        try:
            facts = loads_strict((self._folder / execution_id).read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, TheoryError) as error:
            raise _storage("read") from error
        return facts if isinstance(facts, dict) else {}

    def names(self) -> tuple[str, ...]:
        """Executions with a mark."""
        try:
            found = [path.name for path in self._folder.iterdir()]
        except FileNotFoundError:
            return ()
        except OSError as error:
            raise _storage("listed") from error
        return tuple(sorted(name for name in found if is_name(name)))

    def remove(self, execution_id: str) -> None:
        """Forget the execution; idempotent."""
        try:
            (self._folder / execution_id).unlink(missing_ok=True)
        except OSError as error:
            raise _storage("removed") from error


def _sync(folder: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _storage(verb: str) -> TheoryError:
    return TheoryError("ERR_STORAGE", f"storage unavailable: the mark of a run cannot be {verb}")
