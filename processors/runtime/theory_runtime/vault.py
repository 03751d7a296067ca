"""Secrets of one run, by name, from a private folder: never from the environment."""

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from theory_core import TheoryError

MAX_BYTES: Final = 64 * 1024
_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,127}")


class Vault:
    """The secrets that a run may read: those that it declared, in mode real only."""

    def __init__(self, folder: Path | None = None, names: Sequence[str] = ()) -> None:
        self._folder = folder
        self._names = frozenset(names)

    def read(self, name: str) -> str:
        """The secret without a trailing newline; `ERR_MISSING_SECRET` if it may not be had."""
        if self._folder is None or name not in self._names or not _NAME.fullmatch(name):
            raise _missing(name)
        try:
            descriptor = os.open(self._folder / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError as error:
            raise _missing(name) from error
        try:
            data = os.read(descriptor, MAX_BYTES + 1)
        except OSError as error:
            raise _missing(name) from error
        finally:
            os.close(descriptor)
        try:
            value = data.decode("utf-8").rstrip("\r\n")
        except UnicodeDecodeError as error:
            raise _missing(name) from error
        if not value or len(data) > MAX_BYTES:
            raise _missing(name)
        return value

    def values(self) -> tuple[str, ...]:
        """Every secret that can be read: what must not appear anywhere."""
        found = []
        for name in sorted(self._names):
            try:
                found.append(self.read(name))
            except TheoryError:
                continue
        return tuple(found)


class _Open:
    """The vault of the run that this process is there for."""

    vault = Vault()


def grant(vault: Vault) -> None:
    """Let `secret` read from a vault: once, by the worker, before the provider is loaded."""
    _Open.vault = vault


def secret(name: str) -> str:
    """The value of a secret that the registry declares for this processor.

    Raises `TheoryError` `ERR_MISSING_SECRET`: in mode mock always. Source: spec, secrets.
    """
    return _Open.vault.read(name)


def _missing(name: object) -> TheoryError:
    known = isinstance(name, str) and _NAME.fullmatch(name) is not None
    detail = {"name": name} if known else {}
    return TheoryError("ERR_MISSING_SECRET", "missing required secret", detail)
