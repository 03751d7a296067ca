"""What is written down of containers that wait: facts in a file each, who borrows in a link."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from theory_api.adapters.docker import held
from theory_api.adapters.run_v1.calling import coded
from theory_core import TheoryError, canonicalize, loads_strict

_FACTS: Final = ".json"
_BORROWER: Final = ".by"
_LOCK: Final = ".lock"

Mark = Callable[[str], object]
"""Marks an execution as begun in the container of a name."""


@dataclass(frozen=True, slots=True)
class Taken:
    """A container whose lock is held; `free` says whether it was lent, or its borrower died."""

    name: str
    lock: int
    facts: Mapping[str, Any]
    free: bool


class Loans:
    """The files of a folder that none of the containers reads; every call does IO.

    Law: a container is somebody's exactly while its link is there. A link is made and removed at
    once or not at all, and costs a fifth of a file that is replaced; it leads nowhere, and nobody
    follows it. Nothing here need outlive the machine, whose containers do not either.
    """

    def __init__(self, root: Path) -> None:
        self._root = root

    def names(self) -> list[str]:
        """The containers that something is known of, in their order."""
        try:
            return sorted(file.stem for file in self._root.iterdir() if file.suffix == _FACTS)
        except FileNotFoundError:
            return []

    def lock(self, name: str, *, make: bool = False) -> int | None:
        """The lock of a container, to be closed; see `held.take`."""
        return held.take(self._root / f"{name}{_LOCK}", make=make)

    def read(self, name: str) -> dict[str, Any]:
        """What is known of a container, `borrower` included; nothing where it is being removed."""
        try:
            facts: dict[str, Any] = loads_strict((self._root / f"{name}{_FACTS}").read_bytes())
            # What an earlier version wrote has it in the file.
            facts["borrower"] = self._borrower(name) or facts.get("borrower", "")
        except (OSError, TheoryError):
            return {}
        return facts

    def _borrower(self, name: str) -> str:
        try:
            return str((self._root / f"{name}{_BORROWER}").readlink())
        except FileNotFoundError:
            return ""

    def write(self, name: str, facts: Mapping[str, Any]) -> None:
        """Keep what is known, but for the borrower: whole or not at all."""
        file = self._root / f"{name}{_FACTS}"
        part = file.with_suffix(".part")
        kept = {key: value for key, value in facts.items() if key != "borrower"}
        try:
            part.write_bytes(canonicalize(kept))
            part.rename(file)
        except OSError as error:
            raise _unwritten() from error

    def lend(self, name: str, borrower: str) -> None:
        """Write down who has it; only for who has the lock. What was written is forgotten."""
        link = self._root / f"{name}{_BORROWER}"
        try:
            link.unlink(missing_ok=True)
            link.symlink_to(borrower)
        except OSError as error:
            raise _unwritten() from error

    def take_back(self, name: str) -> None:
        """Erase who had it; only for who has the lock."""
        try:
            (self._root / f"{name}{_BORROWER}").unlink(missing_ok=True)
        except OSError as error:
            raise _unwritten() from error

    def take(
        self, wanted: Mapping[str, Any], borrower: str, tenant: str, mark: Mark
    ) -> Taken | None:
        """The first container that suits and that nobody holds, locked, and lent if it is free.

        `mark` is called with its name once it is lent; if that fails, it is nobody's again.
        """
        for name in self.names():
            if not _suits(self.read(name), wanted, tenant):
                continue
            lock = self.lock(name)
            if lock is None:
                continue
            try:
                # Read again: only now nobody else writes it.
                facts = self.read(name)
                if not _suits(facts, wanted, tenant):
                    os.close(lock)
                    continue
                free = not facts["borrower"]
                if free:
                    self._begin(name, facts, borrower, tenant, mark)
            except BaseException:
                os.close(lock)
                raise
            return Taken(name, lock, facts, free)
        return None

    def _begin(
        self, name: str, facts: Mapping[str, Any], borrower: str, tenant: str, mark: Mark
    ) -> None:
        self.lend(name, borrower)
        try:
            if facts["tenant"] != tenant:
                self.write(name, {**facts, "tenant": tenant})
            mark(name)
        except BaseException:
            # Nothing of it ran.
            self.take_back(name)
            raise

    def forget(self, name: str) -> None:
        """Remove all of it; its lock is the last to go, so that nobody makes it anew meanwhile."""
        for ending in (_FACTS, _BORROWER):
            (self._root / f"{name}{ending}").unlink(missing_ok=True)
        shutil.rmtree(self._root / name, ignore_errors=True)
        (self._root / f"{name}{_LOCK}").unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            # Others may be in it.
            self._root.rmdir()


def _suits(facts: Mapping[str, Any], wanted: Mapping[str, Any], tenant: str) -> bool:
    """Whether it is of that kind, and has worked for no other tenant."""
    same = all(facts.get(key) == value for key, value in wanted.items())
    return same and "borrower" in facts and facts.get("tenant") in {"", tenant}


def _unwritten() -> TheoryError:
    return coded("ERR_STORAGE", "what is known of a container cannot be written")
