"""One durable file for each unfinished execution's note."""

from __future__ import annotations

import os
import stat
from functools import partial
from pathlib import Path
from typing import Final

from theory_api.adapters.files.blocking import in_thread
from theory_api.adapters.files.disk import Disk, part_name, storage, swept
from theory_core import TheoryError, is_name

NOTE: Final = ".note"
"""What the file of a note is called after its execution."""


class FileScratch:
    """Implements `theory_api.ports.scratch.Scratch` in one folder, which must exist.

    Raises `TheoryError` `ERR_STORAGE`, and `ERR_INPUTS` for an id that is no name.
    """

    def __init__(self, root: Path, *, disk: Disk | None = None) -> None:
        self._root = root
        self._disk = disk or Disk()

    async def save(self, execution_id: str, outcome: bytes) -> None:
        """Keep the outcome, atomically and durably; replaces an earlier one."""
        await in_thread(partial(self._save, self._path(execution_id), outcome))

    async def load(self, execution_id: str) -> bytes | None:
        """The outcome, or None."""
        return await in_thread(partial(self._load, self._path(execution_id)))

    async def names(self) -> tuple[str, ...]:
        """Executions that a note is kept of."""
        return await in_thread(self._names)

    async def drop(self, execution_id: str) -> None:
        """Forget it; idempotent."""
        await in_thread(partial(self._drop, self._path(execution_id)))

    async def sweep(self) -> int:
        """Remove what was left unfinished a day ago or longer; how many files."""
        return await in_thread(partial(swept, self._root))

    def _path(self, execution_id: str) -> Path:
        if not is_name(execution_id):
            raise TheoryError("ERR_INPUTS", "an execution id is a name", {"reason": "name"})
        return self._root / f"{execution_id}{NOTE}"

    def _save(self, path: Path, outcome: bytes) -> None:
        part = self._root / part_name()
        try:
            handle = self._disk.create(part)
            try:
                self._disk.write(handle, outcome)
                self._disk.sync(handle)
            finally:
                self._disk.close(handle)
            self._disk.replace(part, path)
        except OSError as error:
            part.unlink(missing_ok=True)
            raise storage(error) from error

    def _load(self, path: Path) -> bytes | None:
        try:
            handle = self._disk.open(path)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise storage(error) from error
        with os.fdopen(handle, "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise TheoryError("ERR_STORAGE", "an outcome note is not a plain file")
            try:
                return file.read()
            except OSError as error:
                raise storage(error) from error

    def _names(self) -> tuple[str, ...]:
        try:
            found = [path.name for path in self._root.iterdir()]
        except OSError as error:
            raise storage(error) from error
        names = (name.removesuffix(NOTE) for name in found if name.endswith(NOTE))
        return tuple(sorted(name for name in names if is_name(name)))

    def _drop(self, path: Path) -> None:
        try:
            self._disk.remove(path)
        except FileNotFoundError:
            return
        except OSError as error:
            raise storage(error) from error
